"""Tests the revocation feed of the deployed service: the stream, the function behind it, and the route."""

import base64
import json
import time

import pytest

WITHIN = 30


@pytest.fixture(scope="module", name="read")
def read_fixture(service):
    """A call of GET /revocations with a resource server's credential, by the cursor. Returns status and body."""
    added = service.rotate({"addResourceServer": "feed-reader"})
    pair = f"{added['clientId']}:{added['clientSecret']}".encode()
    raw = service.raw()
    headers = {"Host": raw.authority, "Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def read(cursor=None, wait=2):
        target = f"/revocations?after={cursor}&wait={wait}" if cursor else "/revocations"
        reply = raw.send("GET", target, b"", headers)
        return reply.status, json.loads(reply.body)

    yield read
    service.rotate({"removeResourceServer": "feed-reader"})


def follow(read, cursor, wanted):
    """Reads until every wanted end has come. Returns the cursor after them."""
    deadline, missing = time.monotonic() + WITHIN, list(wanted)
    while missing:
        assert time.monotonic() < deadline, f"{missing} did not come within {WITHIN} seconds"
        status, page = read(cursor)
        assert status == 200, page
        cursor, missing = page["cursor"], [end for end in missing if end not in page["ends"]]
    return cursor


def test_ends_of_identities_and_keys_come_in_the_feed(service, read):
    service.stack.invoke("record-ends", {"beginEpoch": True})
    _, page = read()
    assert page["ends"] == []
    user, _ = service.issue()
    identity = user.properties["id"]
    service.client().revoke_tokens(user)
    cursor = follow(read, page["cursor"], [{"event": "revoked", "identity": identity, "lowestRevision": 2}])
    service.client().delete_user(user)
    cursor = follow(read, cursor, [{"event": "deleted", "identity": identity}])
    former = [key["kid"] for key in service.raw().call("GET", "/.well-known/jwks.json").json["keys"]]
    service.rotate({"rotate": "signing-keys"})
    follow(read, cursor, [{"event": "key_replaced", "kid": kid} for kid in former])


def test_operator_makes_cursors_unknown(service, read):
    _, page = read()
    service.stack.invoke("record-ends", {"beginEpoch": True})
    status, error = read(page["cursor"])
    assert (status, error["error"]["code"]) == (410, "CursorUnknown")
    assert read()[0] == 200


def test_access_key_cannot_read_the_feed(service):
    assert service.raw().call("GET", "/revocations").status == 401
