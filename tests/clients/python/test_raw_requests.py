"""Tests requests that the SDKs of this suite do not send."""

import base64
import json
import re
from urllib.parse import quote

import pytest

from environment import DENIED, FOREIGN_ID, GUID, Token, vectors
from raw_http import OLD, RawClient

VERSION = "api-version=2023-10-01"
CREATE = f"/identities?{VERSION}"
ISSUE_BODY = b'{"scopes":["chat"]}'
SKEW_MESSAGE = (
    "The given request could not be resolved.\n"
    "The time difference between the originating client and the server is greater than the allowed margin of 5 minutes."
)
BODY_HASH_MESSAGE = "Request 'x-ms-content-sha256' differs from generated content hash."
DATE_MESSAGE = f"{DENIED} The signed date must have the form 'Fri, 01 Mar 2024 12:00:00 GMT'."
AUTHORIZATION_MESSAGE = (
    f"{DENIED} The Authorization header must have the form "
    "'HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=<signature>'."
)
BODY_LIMIT = 65_536


@pytest.fixture(scope="module")
def client(resource):
    return RawClient(resource.host, resource.port, resource.primary_key)


@pytest.fixture(scope="module")
def user(client):
    reply = client.call("POST", CREATE)
    assert reply.status == 201
    return reply.json["identity"]["id"]


def escape(text):
    """Escapes a path segment with its dots, so that no proxy or client reads it as a dot segment."""
    return quote(text, safe="").replace(".", "%2E")


def issue_target(user_id, literal=False):
    return f"/identities/{user_id if literal else escape(user_id)}/:issueAccessToken?{VERSION}"


def assert_issued(reply, user):
    assert reply.status == 200, reply.body
    assert list(reply.json) == ["token", "expiresOn"]
    assert Token(reply.json["token"]).claims["skypeid"] == user.removeprefix("8:")


def assert_denied(reply, message=DENIED):
    assert reply.status == 401
    assert reply.error == {"code": "Denied", "message": message}


def in_parametrize(rows):
    return {"argvalues": rows, "ids": [row["name"] for row in rows]}


# Clients that sign differently


@pytest.mark.parametrize("literal", [False, True], ids=["escaped", "literal"])
def test_escaped_and_literal_ids_are_accepted(client, user, literal):
    target = issue_target(user, literal)
    assert_issued(client.call("POST", target, ISSUE_BODY), user)


def test_java_host_without_port_is_accepted(client, user):
    target = issue_target(user, literal=True)
    headers = client.headers("POST", target, ISSUE_BODY, host=client.host)
    assert headers["Host"] == client.host
    assert_issued(client.send("POST", target, ISSUE_BODY, headers), user)
    headers["Host"] = client.authority
    assert_issued(client.send("POST", target, ISSUE_BODY, headers), user)


def test_older_javascript_doubled_port_is_accepted(client, user):
    target, doubled = issue_target(user), f"{client.authority}:{client.port}"
    headers = client.headers("POST", target, ISSUE_BODY, host=doubled)
    assert headers["Host"] == doubled
    assert_issued(client.send("POST", target, ISSUE_BODY, headers), user)
    headers["Host"] = client.authority  # a browser sets Host itself
    assert_issued(client.send("POST", target, ISSUE_BODY, headers), user)


def test_signed_date_header_is_accepted(client, user):
    target = issue_target(user)
    headers = client.headers("POST", target, ISSUE_BODY, names=OLD)
    assert "x-ms-date" not in headers
    assert_issued(client.send("POST", target, ISSUE_BODY, headers), user)


def test_dotnet_with_both_dates_is_accepted(client, user):
    target = issue_target(user)
    headers = client.headers("POST", target, ISSUE_BODY)
    headers["Date"] = headers["x-ms-date"]
    assert_issued(client.send("POST", target, ISSUE_BODY, headers), user)


def test_unsigned_date_is_ignored(client, user):
    target = issue_target(user)
    headers = client.headers("POST", target, ISSUE_BODY)
    headers["Date"] = "Thu, 01 Jan 1970 00:00:00 GMT"
    assert_issued(client.send("POST", target, ISSUE_BODY, headers), user)


def test_repeated_signature_is_accepted(client, user):
    target = issue_target(user)
    headers = client.headers("POST", target, ISSUE_BODY)
    for _ in range(3):
        assert_issued(client.send("POST", target, ISSUE_BODY, headers), user)


# Altered requests


@pytest.mark.parametrize("altered", ["body", "path", "query", "method", "host", "date", "hash", "none"])
def test_altered_request_is_denied(client, user, altered):
    method, target, body = "POST", issue_target(user), ISSUE_BODY
    headers = client.headers(method, target, body)
    match altered:
        case "body":
            body = b'{"scopes":["voip"]}'
        case "path":
            target = target.replace(":issueAccessToken", ":revokeAccessTokens")
        case "query":
            target = target.replace("2023-10-01", "2022-10-01")
        case "method":
            # The signature is for another method. A route has only one method, so another method would not reach the check.
            headers = client.headers("DELETE", target, body)
        case "host":
            headers["Host"] = f"elsewhere.example:{client.port}"
        case "date":
            headers["x-ms-date"] = client.headers(method, target, body, offset=1)["x-ms-date"]
        case "hash":
            headers["x-ms-content-sha256"] = client.headers(method, target, b"{}")["x-ms-content-sha256"]
        case "none":
            assert_issued(client.send(method, target, body, headers), user)
            return
    message = BODY_HASH_MESSAGE if altered in ("body", "hash") else DENIED
    assert_denied(client.send(method, target, body, headers), message)


def test_altered_user_is_denied(client, user):
    other = client.call("POST", CREATE).json["identity"]["id"]
    headers = client.headers("POST", issue_target(user), ISSUE_BODY)
    assert_denied(client.send("POST", issue_target(other), ISSUE_BODY, headers))


def test_signature_for_another_host_is_denied(client):
    assert_denied(client.call("POST", CREATE, host=f"elsewhere.example:{client.port}"))
    headers = client.headers("POST", CREATE, host="elsewhere.example")
    headers["Host"] = client.authority
    assert_denied(client.send("POST", CREATE, headers=headers))


@pytest.mark.parametrize("authorization", [None, "", "HMAC-SHA256", "Bearer", "Bearer e30.e30.e30", "Basic dXNlcjpw"])
def test_request_without_usable_credential_is_denied(client, authorization):
    headers = client.headers("POST", CREATE)
    del headers["Authorization"]
    if authorization is not None:
        headers["Authorization"] = authorization
    message = AUTHORIZATION_MESSAGE if authorization == "HMAC-SHA256" else DENIED
    assert_denied(client.send("POST", CREATE, headers=headers), message)


@pytest.mark.parametrize("missing", ["x-ms-date", "x-ms-content-sha256"])
def test_missing_signed_header_is_denied(client, missing):
    headers = client.headers("POST", CREATE)
    del headers[missing]
    assert_denied(client.send("POST", CREATE, headers=headers))


@pytest.mark.parametrize("target, body", [
    (CREATE, b"{"),
    (CREATE, b'{"createTokenWithScopes":["shout"]}'),
    (f"/identities/malformed/:issueAccessToken?{VERSION}", b""),
    (f"/identities/{escape(FOREIGN_ID)}/:issueAccessToken?{VERSION}", ISSUE_BODY),
])
def test_credential_is_checked_before_id_and_body(client, target, body):
    assert_denied(client.send("POST", target, body, {"Host": client.authority}))


@pytest.mark.parametrize("offset", [-360, 360], ids=["old", "ahead"])
def test_date_six_minutes_off_is_denied(client, offset):
    reply = client.call("POST", CREATE, offset=offset)
    assert reply.status == 401
    message, instants = reply.error["message"].rsplit("\n", 1)
    assert message == SKEW_MESSAGE
    assert re.fullmatch(r"The time of the server is .* GMT\. The time of the request is .* GMT\.", instants)


@pytest.mark.parametrize("offset", [-240, 240], ids=["old", "ahead"])
def test_date_four_minutes_off_is_accepted(client, offset):
    assert client.call("POST", CREATE, offset=offset).status == 201


def test_date_in_another_format_is_denied(client):
    assert_denied(client.call("POST", CREATE, date="2024-03-01T12:00:00Z"), DATE_MESSAGE)


# Routes and versions


@pytest.mark.parametrize("target", ["/identities", "/identities?", "/identities?api-version=", "/identities?x=1"])
def test_missing_api_version_is_refused(client, target):
    reply = client.call("POST", target)
    assert reply.status == 400
    assert reply.error == {
        "code": "ApiVersionUnspecified",
        "message": "An API version is required, but was not specified.",
    }


@pytest.mark.parametrize("path", [
    "/",
    "/identity",
    "/identities/{user}/:issueAccessTokens",
    "/identities/{user}/issueAccessToken",
    "/identities/{user}/:issueAccessToken/more",
    "/teamsUsers/:exchangeAccessToken",
])
def test_unknown_route_is_not_found(client, user, path):
    reply = client.call("POST", f"{path.format(user=escape(user))}?{VERSION}", b"{}")
    assert reply.status == 404
    assert reply.error["code"]


@pytest.mark.parametrize("method, path", [
    ("GET", "/identities"),
    ("PUT", "/identities"),
    ("DELETE", "/identities"),
    ("POST", "/identities/{user}"),
    ("PUT", "/identities/{user}"),
    ("GET", "/identities/{user}/:issueAccessToken"),
    ("DELETE", "/identities/{user}/:issueAccessToken"),
    ("PATCH", "/identities/{user}/:revokeAccessTokens"),
])
def test_wrong_method_is_not_allowed(client, user, method, path):
    reply = client.call(method, f"{path.format(user=escape(user))}?{VERSION}")
    assert reply.status == 405
    assert reply.error["code"]


# Versions with their own forms


def test_custom_id_gives_the_same_identity_until_its_deletion(client):
    create, body = "/identities?api-version=2025-03-02-preview", b'{"customId":"bob@contoso.com"}'
    first, second = (client.call("POST", create, body) for _ in range(2))
    assert (first.status, second.status, first.body) == (201, 201, second.body)
    assert list(first.json["identity"]) == ["customId", "id"]
    user = first.json["identity"]["id"]
    target = f"/identities/{escape(user)}?api-version=2025-03-02-preview"
    assert client.call("POST", issue_target(user), ISSUE_BODY).status == 200
    found = client.call("GET", target)
    assert (found.status, list(found.json)) == (200, ["customId", "lastTokenIssuedAt", "id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found.json["lastTokenIssuedAt"])
    assert "2025-03-02-preview" in found.headers["api-supported-versions"].split(", ")
    with_token = client.call("POST", create, b'{"customId":"bob@contoso.com","createTokenWithScopes":["chat"]}')
    assert (with_token.status, with_token.json["identity"]["id"]) == (201, user)
    assert client.call("DELETE", target).status == 204
    assert client.call("GET", target).status == 404
    assert client.call("POST", create, body).json["identity"]["id"] != user


def test_oldest_version_has_its_own_forms(client):
    version = "api-version=2020-07-20-preview2"
    created = client.call("POST", f"/identities?{version}")
    assert (created.status, list(created.json)) == (200, ["id"])
    user = escape(created.json["id"])
    issued = client.call("POST", f"/identities/{user}/token?{version}", ISSUE_BODY)
    assert (issued.status, list(issued.json)) == (200, ["id", "token", "expiresOn"])
    merge_patch = "application/merge-patch+json"
    for body in (b"{}", b'{"tokensValidFrom":"2020-11-10T12:00:00.000Z"}'):
        assert client.call("PATCH", f"/identities/{user}?{version}", body, merge_patch).status == 204
    future = client.call("PATCH", f"/identities/{user}?{version}", b'{"tokensValidFrom":"2999-01-01T00:00:00Z"}', merge_patch)
    assert (future.status, future.error["target"]) == (400, "tokensValidFrom")
    assert client.call("DELETE", f"/identities/{user}?{version}").status == 204


# Bodies


@pytest.mark.parametrize("row", **in_parametrize(vectors("requests.json")))
def test_body_gets_the_verdict_of_its_row(client, user, row):
    body = base64.b64decode(row["body_base64"]) if "body_base64" in row else row["body"].encode()
    path = "/identities" if row["operation"] == "create" else issue_target(user).partition("?")[0]
    reply = client.call("POST", f"{path}?api-version={row['api_version']}", body, row["content_type"])
    assert reply.status == row["status"], reply.body
    assert ("api-supported-versions" in reply.headers) == row["supported_versions_header"]
    if row["verdict"] == "refuse":
        assert (reply.error["code"], reply.error.get("target")) == (row["code"], row["target"])
        if "message" in row:
            assert reply.error["message"] == row["message"]
        else:
            assert row["message_contains"] in reply.error["message"]
        return
    token = reply.json.get("accessToken") if row["operation"] == "create" else reply.json
    if row["token"] is None:
        assert list(reply.json) == ["identity"]
    else:
        read = Token(token["token"])
        assert {"acs_scope": read.claims["acsScope"], "minutes": read.minutes} == row["token"]


def test_body_over_the_limit_is_refused(client):
    assert client.call("POST", CREATE, b" " * (BODY_LIMIT - 2) + b"{}").status == 201
    reply = client.call("POST", CREATE, b" " * (BODY_LIMIT - 1) + b"{}")
    assert reply.status == 413
    assert reply.error["code"]


HOSTILE_BODIES = {
    "deep list": b'{"scopes":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep list in an unknown member": b'{"scopes":["chat"],"deep":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep object in an unknown member": b'{"scopes":["chat"],"deep":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
    "opening brackets": b"[" * BODY_LIMIT,
    "opening braces": b"{" * BODY_LIMIT,
    "quotes": b'"' * BODY_LIMIT,
    "NUL bytes": bytes(BODY_LIMIT),
    "every byte": bytes(range(256)),
    "long scope": b'{"scopes":["' + b"a" * 60_000 + b'"]}',
    "many empty scopes": b'{"scopes":[' + b'"",' * 20_000 + b'""]}',
    "long number": b'{"scopes":["chat"],"expiresInMinutes":' + b"9" * 60_000 + b"}",
    "huge exponent": b'{"scopes":["chat"],"expiresInMinutes":1e400}',
    "negative zero": b'{"scopes":["chat"],"expiresInMinutes":-0}',
    "many members": b"{" + b",".join(b'"m%d":0' % number for number in range(5_000)) + b"}",
}


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES.keys())
def test_hostile_body_is_a_bad_request(client, user, body):
    assert len(body) <= BODY_LIMIT
    reply = client.call("POST", issue_target(user), body)
    if reply.status == 200 and b'"deep"' in body:
        return  # an unknown member of any depth may be skipped
    assert reply.status == 400
    assert reply.error["code"] == "ValidationError"
    assert len(reply.body) < 1_000, "an error must not repeat a large input"


# Identifiers

IDS = [row for row in vectors("ids.json") if row["text"]]
MALFORMED = [row for row in IDS if row["verdict"] == "refuse"]
WELL_FORMED = [row for row in IDS if row["verdict"] == "accept"]


@pytest.mark.parametrize("row", **in_parametrize(MALFORMED))
def test_malformed_id_is_refused(client, row):
    reply = client.call("POST", issue_target(row["text"]), ISSUE_BODY)
    if "/" in row["text"] or row["text"] in (".", ".."):
        # If the gateway decodes the path before it routes the request, the path holds no id.
        assert reply.status in (400, 404)
        assert reply.error["code"]
        return
    assert reply.status == 400
    assert (reply.error["code"], reply.error.get("target")) == ("ValidationError", "id")
    assert "api-supported-versions" in reply.headers
    assert len(reply.body) < 1_000, "an error must not repeat a large input"


@pytest.mark.parametrize("row", **in_parametrize(WELL_FORMED))
def test_id_of_another_user_is_refused(client, row):
    reply = client.call("POST", issue_target(row["text"]), ISSUE_BODY)
    expected = {401: "IdentityNotOwned", 404: "IdentityNotFound"}
    if not row["kind"].startswith("acs_"):
        expected[400] = "ValidationError"
    assert reply.status in expected
    assert reply.error["code"] == expected[reply.status]


@pytest.mark.parametrize("segment", [
    "%", "%zz", "%4", "%ff", "%c0%af", "%00", "%2e%2e", "%2F", "%5c", "%0d%0aX-Injected:%201", "%E2%80%AE", "+", "~",
    "8%253Aacs%253A", "*", "a;b=c", "a|b", "'", "\"",
])
def test_hostile_segment_is_a_client_error(client, segment):
    for method, suffix in [("DELETE", ""), ("POST", "/:issueAccessToken"), ("POST", "/:revokeAccessTokens")]:
        target = f"/identities/{segment}{suffix}?{VERSION}"
        reply = client.call(method, target, ISSUE_BODY if "issue" in suffix else b"")
        assert reply.status in (400, 401, 404, 405)
        assert reply.error["code"]
        assert "X-Injected" not in reply.headers


@pytest.mark.parametrize("query", [
    "api-version=2023-10-01&api-version=2021-03-07", "api-version=%32023-10-01", "API-VERSION=2023-10-01",
    "api-version=2023-10-01&", "api-version=%00", "api-version=%ff", "api-version=" + "9" * 4_000, "&&&", "=", "%",
    "api-version='%0d%0aX-Injected:%201",
])
def test_hostile_query_causes_no_server_error(client, query):
    reply = client.call("POST", f"/identities?{query}")
    assert reply.status in (201, 400, 401)
    assert "X-Injected" not in reply.headers
    if reply.status == 400:
        assert reply.error["code"] in ("ApiVersionUnspecified", "UnsupportedApiVersion", "AmbiguousApiVersion")


def test_foreign_user_is_refused_for_every_operation(client):
    for method, suffix, body in [
        ("DELETE", "", b""),
        ("POST", "/:issueAccessToken", ISSUE_BODY),
        ("POST", "/:revokeAccessTokens", b""),
    ]:
        reply = client.call(method, f"/identities/{escape(FOREIGN_ID)}{suffix}?{VERSION}", body)
        assert reply.status == 401
        assert reply.error["code"] == "IdentityNotOwned"


# Replies


@pytest.mark.parametrize("request_id", ["a", "00000000-0000-4000-8000-000000000000", "F" * 32])
def test_request_id_is_always_echoed(client, request_id):
    headers = client.headers("POST", CREATE) | {"x-ms-client-request-id": request_id}
    assert client.send("POST", CREATE, headers=headers).headers["x-ms-client-request-id"] == request_id
    del headers["Authorization"]
    assert client.send("POST", CREATE, headers=headers).headers["x-ms-client-request-id"] == request_id


def test_unhashed_body_on_revoke_or_delete_is_denied(client):
    target = f"/identities/{escape(client.call('POST', CREATE).json['identity']['id'])}"
    for method, path in [("POST", f"{target}/:revokeAccessTokens?{VERSION}"), ("DELETE", f"{target}?{VERSION}")]:
        assert_denied(client.send(method, path, b"{}", client.headers(method, path)), BODY_HASH_MESSAGE)
        assert client.call(method, path).status == 204


def test_secondary_key_is_accepted(client, resource, user):
    secondary = RawClient(resource.host, resource.port, resource.secondary_key)
    assert_issued(secondary.call("POST", issue_target(user), ISSUE_BODY), user)


def test_expiry_has_no_trailing_zeros(client, user):
    for _ in range(5):
        text = client.call("POST", issue_target(user), ISSUE_BODY).json["expiresOn"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?\+00:00", text)


def test_created_id_is_an_acs_user(client):
    body = client.call("POST", CREATE, json.dumps({"createTokenWithScopes": ["voip"]}).encode()).json
    assert re.fullmatch(rf"8:acs:{GUID}_{GUID}", body["identity"]["id"])
    assert list(body) == ["identity", "accessToken"]
    assert list(body["accessToken"]) == ["token", "expiresOn"]
