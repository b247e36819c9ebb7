"""Tests the block of docs/verify.md, "API Gateway's own JWT authorizer", in front of an API, with tokens of the deployed
service. Tokens and keys are real. The stand-in verifies them in its own reading of API Gateway."""

import base64
import json
import re

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import load_der_private_key
from environment import Token

import deployment
import lint
import template as sam

GUIDE = sam.ROOT / "docs" / "verify.md"
OTHER_ISSUER = "https://other.example.com"


@pytest.fixture(scope="module")
def template():
    """The resource server's API, with the guide's authorizer in place of the stack's authorizer."""
    guide = GUIDE.read_text(encoding="utf-8")
    [block] = re.findall(r"^```yaml\n(Authorizer:\n.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    template = sam.chat_api()
    template["Resources"] |= sam.parsed(block)
    route = template["Resources"]["Route"]["Properties"]
    route |= {"AuthorizationType": "JWT", "AuthorizationScopes": ["chat", "chat.join"]}
    template["Parameters"] |= {"Issuer": {"Type": "String"}, "ResourceId": {"Type": "String"}}
    return template


@pytest.fixture(scope="module")
def call(service, template):
    """A call with a token that returns the status and the body of the API's answer."""
    discovery = service.raw().call("GET", "/.well-known/openid-configuration").json
    resource = sam.PARAMETERS["ResourceId"]
    api = deployment.deploy_api(service.stack, "jwt", template, Issuer=discovery["issuer"], ResourceId=resource)
    return lambda token: api("GET", "/chat/threads", token)


def signed(header, claims, key):
    """Returns a token that this key signs."""
    parts = (json.dumps(part).encode() for part in (header, claims))
    text = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_lint_has_no_findings(template):
    assert lint.findings(template) == []


def test_valid_token_passes_with_its_claims(service, call):
    _, text = service.issue(scopes=("chat", "voip"))
    status, told = call(text)
    assert status == 200
    claims = Token(text).claims
    assert (claims["acsScope"], claims["scope"]) == ("chat,voip", "chat voip")
    handed_on = told["event"]["requestContext"]["authorizer"]["jwt"]["claims"]
    assert handed_on == {name: str(value) for name, value in claims.items()}


@pytest.mark.parametrize("scopes, status", [
    (("chat",), 200),
    (("voip", "chat.join"), 200),
    (("voip",), 403),
    (("chat.join.limited",), 403),
])
def test_route_admits_only_its_scopes(service, call, scopes, status):
    assert call(service.issue(scopes=scopes)[1])[0] == status


def test_token_without_scope_claim_is_refused(service, call):
    _, text = service.issue()
    token = Token(text)
    key = load_der_private_key(base64.b64decode(service.signing_keys()["primary"]["pkcs8"]), None)
    claims = {name: value for name, value in token.claims.items() if name != "scope"}
    bare = signed(token.header, claims, key)
    assert service.introspect(bare)["active"] is True, "the token is one of a release without the claim"
    assert call(bare)[0] == 403


@pytest.mark.parametrize("changes, status", [
    ({}, 200),
    ({"exp": 1_700_000_000, "iat": 1_699_990_000}, 401),
    ({"iss": OTHER_ISSUER}, 401),
    ({"aud": "00000000-0000-0000-0000-000000000000"}, 401),
], ids=["unchanged", "expired", "another issuer", "another resource"])
def test_wrong_claims_are_refused_despite_valid_signature(service, call, changes, status):
    _, text = service.issue()
    token = Token(text)
    key = load_der_private_key(base64.b64decode(service.signing_keys()["primary"]["pkcs8"]), None)
    assert call(signed(token.header, token.claims | changes, key))[0] == status


def test_forged_tokens_are_refused(service, call):
    _, text = service.issue()
    token = Token(text)
    _, other = service.issue(scopes=("voip",))
    head, claims, signature = text.split(".")
    strange = generate_private_key(65537, 2048)
    for forged in (
        f"{head}.{other.split('.')[1]}.{signature}",
        f"{head}.{claims}.{signature[:-4]}AAAA",
        f"{head}.{claims}.",
        signed(token.header, token.claims, strange),
        signed(token.header | {"kid": "strange"}, token.claims | {"iss": OTHER_ISSUER}, strange),
        "",
    ):
        assert call(forged)[0] == 401, forged
    assert call(text)[0] == 200


def test_revocation_is_not_seen(service, call):
    user, text = service.issue()
    service.client().revoke_tokens(user)
    assert service.introspect(text) == {"active": False}
    assert call(text)[0] == 200


def test_fresh_tokens_pass_after_a_scheduled_rotation_although_keys_are_cached(service, call):
    user, old = service.issue()
    assert call(old)[0] == 200
    service.scheduled_rotation()
    assert service.introspect(old) == {"active": False}
    fresh = service.client().get_token(user, ["chat"]).token
    assert service.introspect(fresh)["active"] is True
    assert call(fresh)[0] == 200
    # The cached key set does not show the end of the former key.
    assert call(old)[0] == 200


def test_operators_rotation_is_not_seen_while_keys_are_cached(service, call):
    user, old = service.issue()
    assert call(old)[0] == 200
    service.rotate({"rotate": "signing-keys"})
    assert service.introspect(old) == {"active": False}
    assert call(old)[0] == 200
    fresh = service.client().get_token(user, ["chat"]).token
    assert service.introspect(fresh)["active"] is True
    assert call(fresh)[0] == 401
