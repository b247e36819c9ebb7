"""Tests that the service answers as docs/openapi.json says. Every operation is called in every version and by every
documented caller, and with every documented error. The document validates status, headers and body of each answer."""

import base64
import json
import os
import pathlib
import re
import uuid
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import jsonschema
import pytest
from azure.identity import EnvironmentCredential
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from environment import FOREIGN_ID
from raw_http import RawClient
from test_entra import TEAMS, TENANT, user_token

DOCUMENT = json.loads((pathlib.Path(__file__).parents[3] / "docs" / "openapi.json").read_text(encoding="utf-8"))
REGISTRY = Registry().with_resource("urn:document", DRAFT202012.create_resource(DOCUMENT))
APP = os.environ["COMMUNICATION_M365_APP_ID"]
REQUEST_ID = "00000000-0000-4000-8000-00000000000a"
BODY_LIMIT = 65_536
# No request can cause these answers.
FAILURES = {500, 503}


def component(reference):
    """Returns the value of `#/components/<kind>/<name>`."""
    _, _, kind, name = reference["$ref"].split("/")
    return DOCUMENT["components"][kind][name]


def faults(place, instance):
    """Returns the errors that the schema at this place of the document finds."""
    schema, checker = {"$ref": f"urn:document{place}"}, jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(schema, registry=REGISTRY, format_checker=checker)
    return [error.message for error in validator.iter_errors(instance)]


class Operation:
    def __init__(self, method, path, described):
        self.method, self.path, self.described = method.upper(), path, described
        self.name, self.versions = described["operationId"], described["x-api-versions"]
        self.supported = described.get("x-supported-versions", self.versions)
        self.callers = [caller for choice in described["security"] for caller in choice]
        self.parameters = {one["name"] for one in map(component, described["parameters"]) if one["in"] == "path"}
        [self.content_type] = described["requestBody"]["content"] if "requestBody" in described else [None]
        self.place = f"#/paths/{path.replace('/', '~1')}/{method}"

    def written(self, sample):
        """Returns a body as bytes."""
        if sample is None:
            return b""
        return urlencode(sample).encode() if "form" in self.content_type else json.dumps(sample).encode()

    def takes(self, body):
        """Tells whether the document allows these bytes as a body. An empty body is an empty object."""
        if not body:
            return not self.described["requestBody"]["required"]
        try:
            instance = form_of(body) if "form" in self.content_type else json.loads(body)
        except ValueError:
            return False
        return not faults(f"{self.place}/requestBody/content/{self.content_type.replace('/', '~1')}/schema", instance)

    def outcomes(self):
        """Yields (status, error code) of every documented answer."""
        for status, reference in self.described["responses"].items():
            schema = component(reference).get("content", {}).get("application/json", {}).get("schema", {})
            for choice in schema.get("anyOf", [schema]):
                if choice == {"$ref": "#/components/schemas/InvalidClient"}:
                    yield int(status), "invalid_client"
                    continue
                code = choice.get("properties", {}).get("error", {}).get("properties", {}).get("code", {})
                for one in code.get("enum", [code.get("const")]):
                    yield int(status), one

    def outcome(self, reply):
        """Validates an answer with the document, and returns its (status, error code)."""
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
            assert reply.headers["api-supported-versions"] == ", ".join(self.supported)
        if "content" not in answer:
            assert reply.body == b"" and "Content-Type" not in reply.headers
            return reply.status, None
        assert list(answer["content"]) == [reply.headers.get_content_type()]
        place = f"{documented[str(reply.status)]['$ref']}/content/application~1json/schema"
        assert faults(place, reply.json) == [], reply.body
        error = reply.json.get("error", {})
        return reply.status, error if isinstance(error, str) else error.get("code")


OPERATIONS = {
    described["operationId"]: Operation(method, path, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
}
VERSIONS = {version for operation in OPERATIONS.values() for version in operation.versions}
CALLERS = {None, *DOCUMENT["components"]["securitySchemes"]}


def form_of(body):
    """Returns a form as an object. A repeated member is a list."""
    members = parse_qs(body.decode(), keep_blank_values=True)
    return {name: values[0] if len(values) == 1 else values for name, values in members.items()}


class Service:
    """Calls operations, and prepares the state that an operation needs."""

    def __init__(self, resource):
        self.raw = RawClient(resource.host, resource.port, resource.primary_key)
        self.principal = EnvironmentCredential().get_token("https://communication.azure.com/.default").token
        self.teams_user, self.object_id = user_token(f"{TEAMS}/Teams.ManageCalls")
        self.extension_user, _ = user_token(f"{TEAMS}/TeamsExtension.ManageCalls")
        self.entra_user, _ = user_token("https://communication.azure.com/clients/.default")

    def sample(self, name):
        """Returns a valid body of the operation, or None if it takes none."""
        match name:
            case "create_identity":
                scopes = {"createTokenWithScopes": ["chat", "voip"], "expiresInMinutes": 60}
                return {"customId": "alice@contoso.com", **scopes}
            case "update_identity":
                return {"tokensValidFrom": "2024-03-01T12:00:00.000Z"}
            case "issue_token":
                return {"scopes": ["chat", "voip"]}
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
                return {"token": self.call(OPERATIONS["create_identity"]).json["accessToken"]["token"]}
        return None

    def call(self, operation, caller=..., query=..., body=..., content_type=None, **parameters):
        """Sends a valid request with these parts replaced."""
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
        headers |= {"Content-Type": content_type or operation.content_type or "application/json", "x-ms-client-request-id": REQUEST_ID}
        return self.raw.send(operation.method, target, body, headers)

    def headers(self, caller, operation, target, body):
        bearer = {
            "entraPrincipal": self.principal,
            "entraUser": self.extension_user if "teamsExtension" in operation.path else self.entra_user,
        }
        if caller == "accessKey":
            return self.raw.headers(operation.method, target, body)
        if caller == "resourceServer":
            credential = os.environ["RESOURCE_SERVER_CREDENTIAL"].encode()
            return {"Host": self.raw.authority, "Authorization": f"Basic {base64.b64encode(credential).decode()}"}
        authorization = {"Authorization": f"Bearer {bearer[caller]}"} if caller else {}
        return {"Host": self.raw.authority, **authorization}

    def identity(self):
        return self.call(OPERATIONS["create_identity"], body=b"").json["identity"]["id"]

    def assign(self):
        for kind in ("teams_extension", "entra"):
            assert self.call(OPERATIONS[f"put_{kind}_assignment"]).status in (200, 201)

    def unassign(self):
        for kind in ("teams_extension", "entra"):
            assert self.call(OPERATIONS[f"delete_{kind}_assignment"]).status == 204


def test_references_match_the_components():
    components = {kind: named for kind, named in DOCUMENT["components"].items() if kind != "securitySchemes"}
    there = {f"#/components/{kind}/{name}" for kind, named in components.items() for name in named}
    assert set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(DOCUMENT))) == there


@pytest.fixture(scope="module", name="service")
def service_fixture(resource):
    service = Service(resource)
    yield service
    service.unassign()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_operation_gives_its_documented_answers(service, operation):
    outcomes = set()

    def ask(status, **request):
        reply = service.call(operation, **request)
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
    """Yields requests with another answer, or with another reason for the same answer."""
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
        case "get_identity" | "issue_access_token" | "issue_token" | "revoke_access_tokens" | "update_identity":
            gone = service.identity()
            service.call(OPERATIONS["delete_identity"], id=gone)
            yield 404, {"id": gone}
        case "exchange_teams_user_token":
            yield 401, {"body": operation.written(service.sample(operation.name) | {"token": "x"})}
        case "get_teams_extension_assignment" | "get_entra_assignment":
            service.unassign()
            yield 404, {}
        case "put_teams_extension_assignment" | "put_entra_assignment":
            service.unassign()
            yield 201, {}
            clients = {"clientIds": [APP] * 65}
            yield 400, {"body": operation.written(service.sample(operation.name) | clients)}
        case "update_entra_assignments":
            removals = {str(uuid.UUID(int=number)): None for number in range(101)}
            yield 400, {"body": operation.written(removals)}
        case "list_entra_assignments":
            version = ("api-version", operation.versions[-1])
            for wrong in (("maxpagesize", "0"), ("maxpagesize", "1001"), ("continuationToken", "x")):
                yield 400, {"query": [version, wrong]}
            yield 200, {"query": [version, ("maxpagesize", "1")]}
        case "exchange_teams_extension_token" | "exchange_entra_token":
            service.unassign()
            yield 401, {}
        case "introspect_token":
            yield 200, {"body": b"token=x"}
            teams_user = service.call(OPERATIONS["exchange_teams_user_token"]).json["token"]
            yield 200, {"body": operation.written({"token": teams_user})}
            yield 415, {"content_type": "application/json"}
        case "read_revocations":
            cursor = service.call(operation).json["cursor"]
            revoked = service.identity()
            service.call(OPERATIONS["revoke_access_tokens"], id=revoked)
            service.call(OPERATIONS["delete_identity"], id=revoked)
            yield 200, {"query": [("after", cursor), ("wait", "2")]}
            for wrong in (("after", "x"), ("wait", "21"), ("wait", "-1")):
                yield 400, {"query": [wrong]}
            yield 410, {"query": [("after", f"{1:032x}-1")]}


def test_next_link_leads_through_every_page(service):
    operation = OPERATIONS["list_entra_assignments"]
    change = OPERATIONS["update_entra_assignments"]
    objects = [str(uuid.UUID(int=number << 124)) for number in range(1, 6)]
    body = service.sample("put_entra_assignment")
    service.call(change, body=change.written(dict.fromkeys(objects, body)))
    for caller in operation.callers:
        listed, query = [], [("api-version", operation.versions[-1]), ("maxpagesize", "2")]
        while query:
            page = service.call(operation, caller=caller, query=query)
            assert operation.outcome(page) == (200, None)
            listed += [assignment["objectId"] for assignment in page.json["value"]]
            link = urlsplit(page.json.get("nextLink", ""))
            assert (link.scheme, link.netloc, link.path) in {("", "", ""), ("https", service.raw.authority, operation.path)}
            query = parse_qsl(link.query)
        assert listed == sorted(listed) and set(objects) <= set(listed)
    service.call(change, body=change.written(dict.fromkeys(objects)))


JUNK = [
    None, True, 0, 59, 60, 61, 1439, 1440, 1441, 2**31, -60, 60.5, "", "x", "60", {}, {"x": 1},
    [], [7], [None], ["x"], [[]], [APP], [APP.upper()], [APP, APP[:-1]],
    ["chat"], ["voip"], ["chat.join"], ["chat.join.limited"], ["voip.join"], ["voip", "voip"], ["Chat"], ["chat "],
    "user", "group", "tenant", "resourceAccount", "teamsResourceAccount", "User",
]


def words(node):
    """Returns every string value that a schema names, and follows references."""
    if isinstance(node, list):
        return set().union(*map(words, node))
    if not isinstance(node, dict):
        return set()
    if "$ref" in node:
        return words(component(node))
    return words(list(node.values())) | {word for word in node.get("enum", []) if isinstance(word, str)}


def variants(sample, junk):
    """Yields the sample with one changed member, at any depth, and a list of its members in place of the object."""
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
def test_body_is_accepted_as_documented(service, operation):
    service.assign()
    parameters = {"id": service.identity()} if "id" in operation.parameters else {}
    if operation.name == "create_identity":
        # Only this version has every member.
        parameters["query"] = [("api-version", "2025-03-02-preview")]
    verdicts = set()
    for body in bodies(operation, service.sample(operation.name)):
        reply = service.call(operation, body=body, **parameters)
        status, _ = operation.outcome(reply)
        taken = operation.takes(body.strip())
        assert (status != 400) == taken, (body, status, reply.body)
        verdicts.add(taken)
    assert verdicts == {True, False}
