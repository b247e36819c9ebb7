"""Tests the deployed service with the real functions, as clients, operators and other APIs use it."""

import base64
import json
import urllib.parse
import uuid

import pytest
from azure.communication.identity import CommunicationIdentityClient
from azure.core.exceptions import ClientAuthenticationError, ResourceNotFoundError
from environment import Token
from life import check_life_cycle
from service import FORM

import deployment
import openapi
import template as sam


def test_repeated_set_up_changes_no_key(service):
    secrets = (service.access_keys_secret, service.signing_keys_secret)
    before = [service.labels(secret) for secret in secrets]
    _, token = service.issue()
    for _ in range(2):
        service.rotate({"setUp": True})
    assert [service.labels(secret) for secret in secrets] == before
    assert service.introspect(token)["active"] is True


def test_user_life_cycle(service):
    check_life_cycle(service.connection_string())


def test_token_is_active_until_revoked(service):
    client = service.client()
    user, old = service.issue()
    told = service.introspect(old)
    assert told["active"] is True and told["sub"] == Token(old).claims["sub"]
    client.revoke_tokens(user)
    assert service.introspect(old) == {"active": False}
    fresh = client.get_token(user, ["chat"]).token
    assert service.introspect(fresh)["active"] is True
    client.delete_user(user)
    assert service.introspect(fresh) == {"active": False}
    with pytest.raises(ResourceNotFoundError):
        client.get_token(user, ["chat"])


def test_resource_server_introspects_and_does_nothing_else(service):
    added = service.rotate({"addResourceServer": "chat-api"})
    credential = base64.b64encode(f"{added['clientId']}:{added['clientSecret']}".encode()).decode()
    _, token = service.issue()
    raw = service.raw()

    def send(target, body):
        headers = {"Host": raw.authority, "Authorization": f"Basic {credential}", "Content-Type": FORM}
        return raw.send("POST", target, body, headers)

    answer = send("/introspect", f"token={token}".encode())
    assert answer.status == 200 and answer.json["active"] is True
    assert send("/identities?api-version=2023-10-01", b"").status == 401
    service.rotate({"removeResourceServer": "chat-api"})
    refused = send("/introspect", f"token={token}".encode())
    assert (refused.status, refused.json["error"]) == (401, "invalid_client")
    assert not any(added["clientSecret"] in line for name in ("introspect", "rotate-keys") for line in service.stack.log(name))


def test_assignments_are_listed_page_by_page(service):
    version = "api-version=2025-03-02-preview"
    body = {"principalType": "user", "tenantId": str(uuid.uuid4()), "clientIds": [str(uuid.uuid4())]}
    objects = sorted(str(uuid.uuid4()) for _ in range(3))

    def call(method, target, content=None):
        text = b"" if content is None else json.dumps(content).encode()
        return service.raw().call(method, target, text)

    for _ in range(2):
        assigned = call("PATCH", f"/access/entra/assignments?{version}", dict.fromkeys(objects, body))
        assert (assigned.status, [one["objectId"] for one in assigned.json["value"]]) == (200, objects)
    assert call("PUT", f"/access/entra/assignments/{objects[0]}?{version}", body).status == 200
    listed, target = [], f"/access/entra/assignments?{version}&maxPageSize=1"
    while target:
        page = call("GET", target).json
        listed += [one["objectId"] for one in page["value"]]
        link = urllib.parse.urlsplit(page.get("nextLink", ""))
        assert link.netloc in ("", service.stack.front.host)
        target = link.path and f"{link.path}?{link.query}"
    assert listed == objects
    for one in objects:
        assert call("DELETE", f"/access/entra/assignments/{one}?{version}").status == 204
        assert call("GET", f"/access/entra/assignments/{one}?{version}").status == 404
    assert call("GET", f"/access/entra/assignments?{version}").json == {"value": []}


def test_wrong_access_key_is_refused(service):
    intruder = CommunicationIdentityClient(f"https://{service.stack.front.authority}", "c2VjcmV0")
    with pytest.raises(ClientAuthenticationError):
        intruder.create_user()


def test_keys_are_published_under_the_issuer(service):
    _, text = service.issue()
    token = Token(text)
    key_set = service.raw().call("GET", "/.well-known/jwks.json").json
    discovery = service.raw().call("GET", "/.well-known/openid-configuration").json
    assert token.header["kid"] in {key["kid"] for key in key_set["keys"]}
    assert discovery["issuer"] == token.claims["iss"] == f"https://{service.stack.front.host}"
    assert service.stack.outputs["JwksUrl"] == f"https://{service.stack.front.host}/.well-known/jwks.json"


def test_scheduled_rotation_revokes_every_token(service):
    user, old = service.issue()
    version = service.scheduled_rotation(("createSecret", "createSecret", "setSecret", "testSecret", "finishSecret"))
    assert service.introspect(old) == {"active": False}
    fresh = service.client().get_token(user, ["chat"]).token
    assert service.introspect(fresh)["active"] is True
    # A step may be repeated because its answer was lost. It is already done.
    service.rotation_step("finishSecret", version)
    assert service.introspect(fresh)["active"] is True
    labels = service.labels(service.signing_keys_secret)
    assert labels["AWSCURRENT"] == labels["IN_FORCE"] == version
    assert labels.get("AWSPENDING", version) == version


def test_operator_ends_a_rotation_that_stopped(service):
    stopped = service.scheduled_rotation(("createSecret",))
    _, old = service.issue()
    service.rotate({"rotate": "signing-keys"})
    assert service.introspect(old) == {"active": False}
    labels = service.labels(service.signing_keys_secret)
    assert labels["IN_FORCE"] == labels["AWSCURRENT"] != stopped
    service.scheduled_rotation()


def test_regeneration_revokes_key_and_its_tokens(service):
    _, through_primary = service.issue("primary")
    _, through_secondary = service.issue("secondary")
    refused = service.client("secondary")
    service.rotate({"regenerate": "secondary"})
    assert service.introspect(through_primary)["active"] is True
    assert service.introspect(through_secondary) == {"active": False}
    with pytest.raises(ClientAuthenticationError):
        refused.create_user()
    _, fresh = service.issue("secondary")
    assert service.introspect(fresh)["active"] is True


def test_path_without_a_route_has_the_reply_of_the_service(service):
    reply = service.raw().call("POST", "/Identities/a/b")
    assert (reply.status, reply.json["error"]["code"]) == (404, "NotFound")
    assert any('"status":404' in line for line in service.stack.log("keys"))


def test_invalid_event_is_refused(service):
    with pytest.raises(deployment.FunctionFailed) as refused:
        service.rotate({"rotate": "everything"})
    assert refused.value.error_type == "InvalidEvent"


def test_authorizer_admits_permitted_requests_to_another_api(service):
    user, token = service.issue()
    call = deployment.deploy_api(service.stack, "chat", sam.chat_api())

    def status(token):
        return call("GET", "/chat/threads", token)[0]

    assert status(token) == 200
    assert status(token[:-4] + "AAAA") == 403
    _, voice = service.issue(scopes=("voip",))
    assert status(voice) == 403
    service.client().revoke_tokens(user)
    assert status(token) == 403


def test_logs_hold_no_key_and_no_token(service):
    _, token = service.issue()
    functions = openapi.functions() | openapi.OTHER_FUNCTIONS
    logged = "\n".join(line for name in functions for line in service.stack.log(name))
    assert "create_identity" in logged
    keys = service.access_keys()
    for secret in (keys["primary"], keys["secondary"], token, token.split(".")[2], "PRIVATE KEY"):
        assert secret not in logged


def test_lines_hold_the_metrics_of_their_requests(service):
    service.issue()
    lines = [json.loads(line) for line in service.stack.log("user") if '"_aws"' in line]
    counted = [line for line in lines if line.get("Operation") == "CreateIdentity" and line["StatusCode"] == "201"]
    assert counted and counted[-1]["APIRequestAuthentication"] == counted[-1]["TokensIssued"] == 1
    assert {line["ResourceId"] for line in lines} == {service.stack.parameters["ResourceId"]}
    ages = [json.loads(line) for line in service.stack.log("rotate-keys") if '"SigningKeysAge"' in line]
    assert ages and all(age["SigningKeysAge"] >= 0 for age in ages)
