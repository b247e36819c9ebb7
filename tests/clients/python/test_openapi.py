"""The service answers as docs/openapi.json says. Every operation is asked in every version and by every caller that it
has, and wrongly in every way that it documents; each answer is held against the document: status, headers and body."""

import json
import os
import pathlib
import re
from urllib.parse import parse_qs, quote, urlencode

import jsonschema
import pytest
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from environment import FOREIGN_ID
from raw_http import RawClient
from test_entra import TEAMS, TENANT, service_credential, user_token

DOCUMENT = json.loads((pathlib.Path(__file__).parents[3] / "docs" / "openapi.json").read_text(encoding="utf-8"))
REGISTRY = Registry().with_resource("urn:document", DRAFT202012.create_resource(DOCUMENT))
APP = os.environ["COMMUNICATION_M365_APP_ID"]
REQUEST_ID = "00000000-0000-4000-8000-00000000000a"
BODY_LIMIT = 65_536
# No request provokes them.
FAILURES = {500, 503}


def component(reference):
    """What `#/components/<kind>/<name>` holds."""
    _, _, kind, name = reference["$ref"].split("/")
    return DOCUMENT["components"][kind][name]


def faults(place, instance):
    """What the schema at this place of the document finds wrong."""
    schema, checker = {"$ref": f"urn:document{place}"}, jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(schema, registry=REGISTRY, format_checker=checker)
    return [error.message for error in validator.iter_errors(instance)]


class Operation:
    def __init__(self, method, path, described):
        self.method, self.path, self.described = method.upper(), path, described
        self.name, self.versions = described["operationId"], described["x-api-versions"]
        self.callers = [caller for choice in described["security"] for caller in choice]
        self.parameters = {one["name"] for one in map(component, described["parameters"]) if one["in"] == "path"}
        [self.content_type] = described["requestBody"]["content"] if "requestBody" in described else [None]
        self.place = f"#/paths/{path.replace('/', '~1')}/{method}"

    def written(self, sample):
        """A body as bytes."""
        if sample is None:
            return b""
        return urlencode(sample).encode() if "form" in self.content_type else json.dumps(sample).encode()

    def takes(self, body):
        """Whether the document allows these bytes as a body; none at all are an empty object."""
        if not body:
            return not self.described["requestBody"]["required"]
        try:
            instance = form_of(body) if "form" in self.content_type else json.loads(body)
        except ValueError:
            return False
        return not faults(f"{self.place}/requestBody/content/{self.content_type.replace('/', '~1')}/schema", instance)

    def outcomes(self):
        """(status, error code) of every answer that is documented."""
        for status, reference in self.described["responses"].items():
            schema = component(reference).get("content", {}).get("application/json", {}).get("schema", {})
            code = schema.get("properties", {}).get("error", {}).get("properties", {}).get("code", {})
            for one in code.get("enum", [code.get("const")]):
                yield int(status), one

    def outcome(self, reply):
        """Which of these an answer is, after holding it against the document."""
        documented = self.described["responses"]
        assert str(reply.status) in documented, f"{reply.status} is not documented: {reply.body}"
        answer = component(documented[str(reply.status)])
        assert reply.headers["x-ms-client-request-id"] == REQUEST_ID
        for name, reference in answer["headers"].items():
            if name in reply.headers:
                assert faults(f"{reference['$ref']}/schema", reply.headers[name]) == [], name
            else:
                assert not component(reference).get("required"), f"{name} is missing"
        if "api-supported-versions" in reply.headers:
            assert "api-supported-versions" in answer["headers"]
            assert reply.headers["api-supported-versions"] == ", ".join(self.versions)
        if "content" not in answer:
            assert reply.body == b"" and "Content-Type" not in reply.headers
            return reply.status, None
        assert list(answer["content"]) == [reply.headers.get_content_type()]
        place = f"{documented[str(reply.status)]['$ref']}/content/application~1json/schema"
        assert faults(place, reply.json) == [], reply.body
        return reply.status, reply.json.get("error", {}).get("code")


OPERATIONS = {
    described["operationId"]: Operation(method, path, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
}
VERSIONS = {version for operation in OPERATIONS.values() for version in operation.versions}
CALLERS = {None, *DOCUMENT["components"]["securitySchemes"]}


def form_of(body):
    """A form as an object; a member that comes twice is a list."""
    members = parse_qs(body.decode(), keep_blank_values=True)
    return {name: values[0] if len(values) == 1 else values for name, values in members.items()}


class Service:
    """Asks, with whatever an operation needs in place."""

    def __init__(self, resource):
        self.raw = RawClient(resource.host, resource.port, resource.primary_key)
        self.principal = service_credential().get_token("https://communication.azure.com/.default").token
        self.teams_user, self.object_id = user_token(f"{TEAMS}/Teams.ManageCalls")
        self.extension_user, _ = user_token(f"{TEAMS}/TeamsExtension.ManageCalls")
        self.entra_user, _ = user_token("https://communication.azure.com/clients/.default")

    def sample(self, name):
        """A good body of the operation, if it takes one."""
        match name:
            case "create_identity":
                return {"createTokenWithScopes": ["chat", "voip"], "expiresInMinutes": 60}
            case "issue_access_token":
                return {"scopes": ["chat.join", "voip.join"], "expiresInMinutes": 1440}
            case "exchange_teams_user_token":
                return {"token": self.teams_user, "appId": APP, "userId": self.object_id}
            case "exchange_teams_extension_token" | "exchange_entra_token":
                return {}
            case "put_teams_extension_assignment":
                return {"principalType": "user", "clientIds": [APP]}
            case "put_entra_assignment":
                return {"tenantId": TENANT, "principalType": "user", "clientIds": [APP]}
            case "update_entra_assignments":
                return {self.object_id: self.sample("put_entra_assignment")}
            case "introspect_token":
                return {"token": self.ask(OPERATIONS["create_identity"]).json["accessToken"]["token"]}
        return None

    def ask(self, operation, caller=..., query=..., body=..., **parameters):
        """A good request, but for what is given."""
        body = operation.written(self.sample(operation.name)) if body is ... else body
        values = {"tenantId": TENANT, "objectId": self.object_id, **parameters}
        if "id" in operation.parameters - set(values):
            values["id"] = self.identity()
        path = re.sub(r"\{(\w+)\}", lambda name: quote(values[name[1]], safe=""), operation.path)
        if query is ...:
            query = [("api-version", version) for version in operation.versions[-1:]]
        target = f"{path}?{urlencode(query)}" if query else path
        caller = next(iter(operation.callers), None) if caller is ... else caller
        headers = self.headers(caller, operation, target, body)
        headers |= {"Content-Type": operation.content_type or "application/json", "x-ms-client-request-id": REQUEST_ID}
        return self.raw.send(operation.method, target, body, headers)

    def headers(self, caller, operation, target, body):
        bearer = {
            "entraPrincipal": self.principal,
            "entraUser": self.extension_user if "teamsExtension" in operation.path else self.entra_user,
        }
        if caller == "accessKey":
            return self.raw.headers(operation.method, target, body)
        authorization = {"Authorization": f"Bearer {bearer[caller]}"} if caller else {}
        return {"Host": self.raw.authority, **authorization}

    def identity(self):
        return self.ask(OPERATIONS["create_identity"], body=b"").json["identity"]["id"]

    def assign(self):
        for book in ("teams_extension", "entra"):
            assert self.ask(OPERATIONS[f"put_{book}_assignment"]).status in (200, 201)

    def unassign(self):
        for book in ("teams_extension", "entra"):
            assert self.ask(OPERATIONS[f"delete_{book}_assignment"]).status == 204


def test_what_is_referred_to_is_there_and_what_is_there_is_referred_to():
    components = {kind: named for kind, named in DOCUMENT["components"].items() if kind != "securitySchemes"}
    there = {f"#/components/{kind}/{name}" for kind, named in components.items() for name in named}
    assert set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(DOCUMENT))) == there


@pytest.fixture(scope="module", name="service")
def service_fixture(resource):
    service = Service(resource)
    yield service
    service.unassign()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_an_operation_answers_as_it_documents(service, operation):
    outcomes = set()

    def ask(status, **request):
        reply = service.ask(operation, **request)
        assert reply.status in status, (request, reply.status, reply.body)
        outcomes.add(operation.outcome(reply))

    for version in operation.versions or [None]:
        for caller in operation.callers or [None]:
            service.assign()
            ask({200, 201, 204}, caller=caller, query=version and [("api-version", version)])
    for answered, request in others(service, operation):
        ask({answered}, **request)
    assert outcomes == {outcome for outcome in operation.outcomes() if outcome[0] not in FAILURES}


def others(service, operation):
    """Requests that are answered otherwise, or at least for another reason."""
    yield 413, {"body": b" " * (BODY_LIMIT + 1)}
    for caller in sorted(CALLERS - set(operation.callers), key=str) if operation.callers else []:
        yield 401, {"caller": caller}
    if operation.versions:
        yield 400, {"query": []}
        yield 400, {"query": [("api-version", version) for version in (operation.versions[0], "9999-01-01")]}
        for version in sorted(VERSIONS - set(operation.versions)) + ["9999-01-01"]:
            yield 400, {"query": [("api-version", version)]}
    for parameter in sorted(operation.parameters):
        yield 400, {parameter: "x"}
    if "id" in operation.parameters:
        yield 401, {"id": FOREIGN_ID}
    if operation.content_type:
        yield 400, {"body": b"[" if "json" in operation.content_type else b"token=a&token=b"}
    match operation.name:
        case "issue_access_token" | "revoke_access_tokens":
            gone = service.identity()
            service.ask(OPERATIONS["delete_identity"], id=gone)
            yield 404, {"id": gone}
        case "exchange_teams_user_token":
            yield 401, {"body": operation.written(service.sample(operation.name) | {"token": "x"})}
        case "get_teams_extension_assignment" | "get_entra_assignment":
            service.unassign()
            yield 404, {}
        case "put_teams_extension_assignment" | "put_entra_assignment":
            service.unassign()
            yield 201, {}
        case "exchange_teams_extension_token" | "exchange_entra_token":
            service.unassign()
            yield 401, {}
        case "introspect_token":
            yield 200, {"body": b"token=x"}
            teams_user = service.ask(OPERATIONS["exchange_teams_user_token"]).json["token"]
            yield 200, {"body": operation.written({"token": teams_user})}


JUNK = [
    None, True, 0, 59, 60, 61, 1439, 1440, 1441, 2**31, -60, 60.5, "", "x", "60", {}, {"x": 1},
    [], [7], [None], ["x"], [[]], [APP], [APP.upper()], [APP, APP[:-1]],
    ["chat"], ["voip"], ["chat.join"], ["chat.join.limited"], ["voip.join"], ["voip", "voip"], ["Chat"], ["chat "],
    "user", "group", "tenant", "resourceAccount", "teamsResourceAccount", "User",
]


def words(node):
    """Every text that a schema names as a value, references followed."""
    if isinstance(node, list):
        return set().union(*map(words, node))
    if not isinstance(node, dict):
        return set()
    if "$ref" in node:
        return words(component(node))
    return words(list(node.values())) | {word for word in node.get("enum", []) if isinstance(word, str)}


def variants(sample, junk):
    """A sample with one member changed, at any depth; and what has its members and is no object."""
    yield from (sample | {"unknown member": 1}, list(sample.values()))
    for name, value in sample.items():
        yield {other: kept for other, kept in sample.items() if other != name}
        for other in [*junk, value.upper() if isinstance(value, str) else value]:
            yield sample | {name: other}
        if isinstance(value, dict):
            yield from (sample | {name: changed} for changed in variants(value, junk))


FORMS = (b"", b"token", b"token=", b"token=x", b"other=x", b"token=x&other=x", b"token=x&token=x", b"Token=x")
TEXTS = (b"", b" \n", b"{", b"{}{}", b"{'a':1}", b"\xff", b'{"a":"\xff"}')


def bodies(operation, sample):
    if "form" in operation.content_type:
        return FORMS
    named = sorted(words(operation.described["requestBody"]["content"]))
    junk = [*JUNK, *named, *([word] for word in named)]
    return [*TEXTS, *(json.dumps(one).encode() for one in (*variants(sample, junk), *junk))]


TAKING = {name: operation for name, operation in OPERATIONS.items() if operation.content_type}


@pytest.mark.parametrize("operation", TAKING.values(), ids=TAKING.keys())
def test_a_body_is_taken_where_the_document_takes_it(service, operation):
    service.assign()
    parameters = {"id": service.identity()} if "id" in operation.parameters else {}
    verdicts = set()
    for body in bodies(operation, service.sample(operation.name)):
        reply = service.ask(operation, body=body, **parameters)
        status, _ = operation.outcome(reply)
        taken = operation.takes(body.strip())
        assert (status != 400) == taken, (body, status, reply.body)
        verdicts.add(taken)
    assert verdicts == {True, False}
