"""Tests an update from the previous release, both releases at once, and the way back, with live tokens.

`tests/deploy/previous_release` builds the previous release.
"""

import json

import pytest
import template as sam
from azure.communication.identity import CommunicationUserIdentifier

from conftest import deployed
from service import Service, binary

PREVIOUS = sam.ROOT / "target" / "previous"
SCOPES = ["chat"]

pytestmark = pytest.mark.skipif(
    not (PREVIOUS / "commit").is_file(), reason="the previous release is not built: tests/deploy/previous_release"
)


def previous_binary(name):
    return (PREVIOUS / "bin" / name).read_bytes()


def previous_template():
    return sam.parsed((PREVIOUS / "template.yaml").read_text(encoding="utf-8"))


def created(service, custom_id):
    """Creates an identity with a custom id, which the previous release does not know. Returns status and reply."""
    body = json.dumps({"customId": custom_id}).encode()
    reply = service.raw().call("POST", "/identities?api-version=2025-03-02-preview", body)
    return reply.status, reply.json


class Tokens:
    """Tokens with the verdict that every later release must give."""

    def __init__(self, service):
        self.user, self.active = service.issue()
        revoked_user, self.revoked = service.issue()
        service.client().revoke_tokens(revoked_user)
        deleted_user, self.deleted = service.issue()
        service.client().delete_user(deleted_user)

    def check(self, service):
        assert service.introspect(self.active)["active"] is True
        assert service.introspect(self.revoked) == {"active": False}
        assert service.introspect(self.deleted) == {"active": False}


@pytest.fixture(scope="module")
def updated(tmp_path_factory):
    """The stack of the previous release, updated to this one, with tokens of both."""
    folder = tmp_path_factory.mktemp("front")
    with deployed(previous_binary, folder, template=previous_template()) as stack:
        service = Service(stack)
        service.rotate({"setUp": True})
        former = Tokens(service)
        assert created(service, "alice")[0] == 400
        stack.update_release(None, binary)
        service = Service(stack)
        assert created(service, "alice")[0] == 201
        former.check(service)
        yield stack, service, [former, Tokens(service)]


def test_update_keeps_tokens_and_revocations(updated):
    _, service, tokens = updated
    for each in tokens:
        each.check(service)
    service.client().revoke_tokens(tokens[0].user)
    assert service.introspect(tokens[0].active) == {"active": False}
    tokens[0].active = service.client().get_token(tokens[0].user, SCOPES).token


@pytest.mark.parametrize("former", [{"token", "user"}, {"introspect", "keys"}, {"revoke", "teams-exchange"}])
def test_both_releases_serve_one_store(updated, former):
    stack, service, tokens = updated
    for name in former:
        stack.replace_code(name, previous_binary(name))
    for each in [*tokens, Tokens(service)]:
        each.check(service)
    user, token = service.issue()
    service.client().revoke_tokens(user)
    assert service.introspect(token) == {"active": False}
    fresh = service.client().get_token(user, SCOPES).token
    assert service.introspect(fresh)["active"] is True
    service.client().delete_user(user)
    assert service.introspect(fresh) == {"active": False}
    for name in former:
        stack.replace_code(name, binary(name))


def test_deletion_by_the_former_release_frees_the_custom_id(updated):
    stack, service, _ = updated
    _, first = created(service, "bob")
    stack.replace_code("user", previous_binary("user"))
    assert created(service, "bob")[0] == 400
    service.client().delete_user(CommunicationUserIdentifier(first["identity"]["id"]))
    stack.replace_code("user", binary("user"))
    status, second = created(service, "bob")
    assert status == 201 and second["identity"]["id"] != first["identity"]["id"]


def test_former_release_issues_no_token_with_standby_keys_until_it_rotates(updated):
    stack, service, tokens = updated
    service.rotate({"rotate": "signing-keys"})
    for name in ("token", "introspect"):
        stack.replace_code(name, previous_binary(name))
    for each in tokens:
        assert service.introspect(each.active) == {"active": False}
    path = f"/identities/{tokens[0].user.properties['id']}/:issueAccessToken?api-version=2023-10-01"
    issue = lambda: service.raw().call("POST", path, json.dumps({"scopes": ["chat"]}).encode()).status
    assert issue() == 503
    stack.replace_code("rotate-keys", previous_binary("rotate-keys"))
    service.rotate({"rotate": "signing-keys"})
    assert issue() == 200
    for name in ("token", "introspect", "rotate-keys"):
        stack.replace_code(name, binary(name))
    # A document without standby keys gets them from the next scheduled rotation.
    service.scheduled_rotation()
    assert len(service.raw().call("GET", "/.well-known/jwks.json").json["keys"]) == 6
    for each in tokens:
        each.active = service.client().get_token(each.user, SCOPES).token
        each.check(service)


def test_former_release_rotates_keys_of_this_one(updated):
    stack, service, tokens = updated
    stack.replace_code("rotate-keys", previous_binary("rotate-keys"))
    service.rotate({"rotate": "signing-keys"})
    stack.replace_code("rotate-keys", binary("rotate-keys"))
    for each in tokens:
        assert service.introspect(each.active) == {"active": False}
        each.active = service.client().get_token(each.user, SCOPES).token
        each.check(service)


def test_way_back_keeps_tokens_and_revocations(updated):
    stack, _, tokens = updated
    stack.update_release(previous_template(), previous_binary)
    service = Service(stack)
    assert created(service, "alice")[0] == 400
    for each in [*tokens, Tokens(service)]:
        each.check(service)
