"""The deployed service with the real functions, and what clients, operators and other APIs do with it."""

import uuid

import pytest
from azure.communication.identity import CommunicationIdentityClient
from azure.core.exceptions import ClientAuthenticationError, ResourceNotFoundError
from environment import Token
from life import live

import deployment
import openapi
import template as sam


def test_setting_up_again_changes_nothing(service):
    secrets = (service.access_keys_secret, service.signing_keys_secret)
    before = [service.labels(secret) for secret in secrets]
    _, token = service.issue()
    for _ in range(2):
        service.rotate({"setUp": True})
    assert [service.labels(secret) for secret in secrets] == before
    assert service.introspect(token)["active"] is True


def test_a_user_lives_as_on_one_machine(service):
    live(service.connection_string())


def test_a_token_lives_until_it_is_revoked(service):
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


def test_a_request_with_another_key_is_refused(service):
    stranger = CommunicationIdentityClient(f"https://{service.stack.front.authority}", "c2VjcmV0")
    with pytest.raises(ClientAuthenticationError):
        stranger.create_user()


def test_the_keys_are_published_under_the_issuer(service):
    _, text = service.issue()
    token = Token(text)
    key_set = service.raw().call("GET", "/.well-known/jwks.json").json
    discovery = service.raw().call("GET", "/.well-known/openid-configuration").json
    assert token.header["kid"] in {key["kid"] for key in key_set["keys"]}
    assert discovery["issuer"] == token.claims["iss"] == f"https://{service.stack.front.host}"
    assert service.stack.outputs["JwksUrl"] == f"https://{service.stack.front.host}/.well-known/jwks.json"


def test_a_scheduled_rotation_ends_every_token(service):
    user, old = service.issue()
    version = scheduled_rotation(service, ("createSecret", "createSecret", "setSecret", "testSecret", "finishSecret"))
    assert service.introspect(old) == {"active": False}
    fresh = service.client().get_token(user, ["chat"]).token
    assert service.introspect(fresh)["active"] is True
    # A step that is repeated, because its answer was lost, is done already.
    step(service, "finishSecret", version)
    assert service.introspect(fresh)["active"] is True
    labels = service.labels(service.signing_keys_secret)
    assert labels["AWSCURRENT"] == labels["IN_FORCE"] == version
    assert labels.get("AWSPENDING", version) == version


def scheduled_rotation(service, steps):
    """What Secrets Manager does. First it announces the version, which has no value yet."""
    version = str(uuid.uuid4())
    service.secrets.put_secret_value(
        SecretId=service.signing_keys_secret, ClientRequestToken=version, VersionStages=["AWSPENDING"]
    )
    for name in steps:
        step(service, name, version)
    return version


def step(service, name, version):
    secret = service.secrets.describe_secret(SecretId=service.signing_keys_secret)["ARN"]
    service.rotate({"Step": name, "SecretId": secret, "ClientRequestToken": version})


def test_a_regenerated_key_ends_what_came_through_it(service):
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


def test_what_is_no_event_is_refused(service):
    with pytest.raises(deployment.FunctionFailed) as refused:
        service.rotate({"rotate": "everything"})
    assert refused.value.error_type == "InvalidEvent"


def test_another_api_lets_in_whom_the_authorizer_lets_in(service):
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


def test_no_log_holds_a_key_or_a_token(service):
    _, token = service.issue()
    functions = openapi.functions() | openapi.OTHER_FUNCTIONS
    logged = "\n".join(line for name in functions for line in service.stack.log(name))
    assert "create_identity" in logged
    keys = service.access_keys()
    for secret in (keys["primary"], keys["secondary"], token, token.split(".")[2], "PRIVATE KEY"):
        assert secret not in logged
