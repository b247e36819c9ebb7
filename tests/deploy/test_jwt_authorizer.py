"""docs/verify.md, "API Gateway's own JWT authorizer": the block as it stands there, in front of an API, and tokens of
the deployed service. Tokens and keys are real; how they are judged is the stand-in's reading of API Gateway."""

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
STRANGER = "https://stranger.example.com"


@pytest.fixture(scope="module")
def template():
    """The resource server's API, with the guide's authorizer in place of the stack's."""
    guide = GUIDE.read_text(encoding="utf-8")
    [block] = re.findall(r"^```yaml\n(Authorizer:\n.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    template = sam.chat_api()
    template["Resources"] |= sam.parsed(block)
    template["Resources"]["Route"]["Properties"]["AuthorizationType"] = "JWT"
    template["Parameters"] |= {"Issuer": {"Type": "String"}, "ResourceId": {"Type": "String"}}
    return template


@pytest.fixture(scope="module")
def call(service, template):
    """What the API answers to a token, status and body."""
    discovery = service.raw().call("GET", "/.well-known/openid-configuration").json
    resource = sam.PARAMETERS["ResourceId"]
    api = deployment.deploy_api(service.stack, "jwt", template, Issuer=discovery["issuer"], ResourceId=resource)
    return lambda token: api("GET", "/chat/threads", token)


def signed(header, claims, key):
    """A token, whoever makes it."""
    parts = (json.dumps(part).encode() for part in (header, claims))
    text = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_lint_finds_nothing(template):
    assert lint.findings(template) == []


def test_a_good_token_passes_and_its_claims_are_handed_on(service, call):
    _, text = service.issue(scopes=("chat", "voip"))
    status, told = call(text)
    assert status == 200
    claims = Token(text).claims
    assert claims["acsScope"] == "chat,voip"
    handed_on = told["event"]["requestContext"]["authorizer"]["jwt"]["claims"]
    assert handed_on == {name: str(value) for name, value in claims.items()}


@pytest.mark.parametrize("changes, status", [
    ({}, 200),
    ({"exp": 1_700_000_000, "iat": 1_699_990_000}, 401),
    ({"iss": STRANGER}, 401),
    ({"aud": "00000000-0000-0000-0000-000000000000"}, 401),
], ids=["unchanged", "expired", "another issuer's", "another resource's"])
def test_the_claims_count_even_of_what_our_key_has_signed(service, call, changes, status):
    _, text = service.issue()
    token = Token(text)
    key = load_der_private_key(base64.b64decode(service.signing_keys()["primary"]["pkcs8"]), None)
    assert call(signed(token.header, token.claims | changes, key))[0] == status


def test_what_our_keys_have_not_signed_is_refused(service, call):
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
        signed(token.header | {"kid": "strange"}, token.claims | {"iss": STRANGER}, strange),
        "",
    ):
        assert call(forged)[0] == 401, forged
    assert call(text)[0] == 200


def test_a_revocation_is_not_seen(service, call):
    user, text = service.issue()
    service.client().revoke_tokens(user)
    assert service.introspect(text) == {"active": False}
    assert call(text)[0] == 200


def test_a_rotation_is_not_seen_while_the_keys_are_kept(service, call):
    user, old = service.issue()
    assert call(old)[0] == 200
    service.rotate({"rotate": "signing-keys"})
    assert service.introspect(old) == {"active": False}
    assert call(old)[0] == 200
    fresh = service.client().get_token(user, ["chat"]).token
    assert service.introspect(fresh)["active"] is True
    assert call(fresh)[0] == 401
