"""Test cases for both the synchronous and the aio client.

A subclass names the client under test. Every method of a `Client` is awaitable for both clients.
"""

import base64
import contextlib
import functools
import inspect
import re
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from azure.communication.identity import CommunicationTokenScope, CommunicationUserIdentifier
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

from environment import API_VERSIONS, DENIED, FOREIGN_ID, NOT_OWNED, UNSUPPORTED_VERSION, USER_ID, Token

SCOPE_LISTS = [
    ["chat"],
    ["voip"],
    ["chat.join"],
    ["chat.join.limited"],
    ["voip.join"],
    ["chat", "voip"],
    ["voip", "chat"],
    ["chat", "chat.join", "chat.join.limited"],
    ["voip.join", "chat.join.limited", "chat.join", "voip", "chat"],
]

# For each kind of reply: its status, and a call that causes it.
REPLIES = {
    "create": (201, lambda client, user: client.create_user()),
    "create with token": (201, lambda client, user: client.create_user_and_token(["chat"])),
    "issue": (200, lambda client, user: client.get_token(user, ["chat"])),
    "revoke": (204, lambda client, user: client.revoke_tokens(user)),
    "delete": (204, lambda client, user: client.delete_user(user)),
    "refused request": (400, lambda client, user: client.get_token(user, [])),
    "refused lifetime": (
        400, lambda client, user: client.get_token(user, ["chat"], token_expires_in=timedelta(minutes=59))),
    "foreign user": (401, lambda client, user: client.revoke_tokens(CommunicationUserIdentifier(FOREIGN_ID))),
    "unknown user": (404, lambda client, user: client.revoke_tokens(sibling_of(user))),
}


class Client:
    """An SDK client with awaitable methods. It keeps the last request and reply."""

    def __init__(self, sdk):
        self._sdk = sdk
        self.request = self.reply = None

    def __getattr__(self, method):
        return functools.partial(self._call, getattr(self._sdk, method))

    async def _call(self, method, *args, **kwargs):
        result = method(*args, raw_response_hook=self._keep, **kwargs)
        return await result if inspect.isawaitable(result) else result

    def _keep(self, exchange):
        self.request, self.reply = exchange.http_request, exchange.http_response


def sibling_of(user):
    """Returns an identity of the same resource that was never created."""
    resource_id, _ = USER_ID.fullmatch(user.raw_id).groups()
    return CommunicationUserIdentifier(f"8:acs:{resource_id}_{uuid.uuid4()}")


async def refusal(call, exception, status):
    """Awaits a call that must fail with this exception and status. Returns the `error` object of the reply."""
    with pytest.raises(exception) as raised:
        await call
    error = raised.value
    assert type(error) is exception
    assert error.status_code == status
    body = error.response.json()
    assert list(body) == ["error"], "a refused request must return no user and no token"
    assert (error.error.code, error.error.message) == (body["error"]["code"], body["error"]["message"])
    return body["error"]


async def assert_lifetime_refused(call, minutes):
    assert await refusal(call, HttpResponseError, 400) == {
        "code": "ValidationError",
        "message": f"ExpiresInMinutes value {minutes} is invalid. Value must be within the [60, 1440] interval.",
        "target": "ExpiresInMinutes",
    }


async def assert_not_found(call):
    error = await refusal(call, ResourceNotFoundError, 404)
    assert error["code"] == "IdentityNotFound"
    assert error["message"]


def assert_token(access_token, user, scopes=("chat",), minutes=1440):
    """Checks user, scopes and lifetime in the reply and in the token, and that both agree."""
    token = Token(access_token.token)
    assert token.claims["skypeid"] == user.raw_id.removeprefix("8:")
    assert token.claims["acsScope"] == ",".join(scopes)
    assert token.minutes == minutes
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?\+00:00", access_token.expires_on)
    expiry = datetime.strptime(access_token.expires_on[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    assert expiry.timestamp() == token.claims["exp"]
    return token


class IdentityCases:
    client_class = None
    credential_class = None

    @pytest.fixture
    async def connect(self):
        """Opens clients, and closes them at the end."""
        async with contextlib.AsyncExitStack() as opened:

            async def open_client(sdk):
                if hasattr(sdk, "__aexit__"):
                    await opened.enter_async_context(sdk)
                return Client(sdk)

            async def connect(connection_string=None, *, endpoint=None, key=None, **options):
                if endpoint:
                    return await open_client(self.client_class(endpoint, AzureKeyCredential(key), **options))
                return await open_client(self.client_class.from_connection_string(connection_string, **options))

            yield connect

    @pytest.fixture
    async def client(self, connect, resource):
        return await connect(resource.primary)

    @pytest.fixture
    async def user(self, client):
        return await client.create_user()

    # Create

    async def test_created_users_have_distinct_ids(self, client):
        first, second = await client.create_user(), await client.create_user()
        first_resource, first_guid = USER_ID.fullmatch(first.raw_id).groups()
        second_resource, second_guid = USER_ID.fullmatch(second.raw_id).groups()
        assert first.properties["id"] == first.raw_id
        assert first_resource == second_resource
        assert first_guid != second_guid

    async def test_reply_to_create_is_compact(self, client):
        user = await client.create_user()
        body = client.reply.body()
        assert body == b'{"identity":{"id":"%s"}}' % user.raw_id.encode()
        assert len(body) == 101
        assert client.reply.headers["Content-Length"] == "101"

    async def test_create_with_scopes_returns_a_token(self, client):
        user, token = await client.create_user_and_token(["chat"])
        resource_id, _ = USER_ID.fullmatch(user.raw_id).groups()
        assert assert_token(token, user).claims["resourceId"] == resource_id

    async def test_create_with_lifetime_limits_the_token(self, client):
        user, token = await client.create_user_and_token(["voip", "chat"], token_expires_in=timedelta(hours=1))
        assert_token(token, user, ["voip", "chat"], 60)

    @pytest.mark.parametrize("scopes", [None, []], ids=["none", "empty"])
    async def test_create_without_scopes_returns_no_token(self, client, scopes):
        with pytest.raises(AttributeError):  # the client reads the token without a check that it exists
            await client.create_user_and_token(scopes)
        assert client.reply.status_code == 201
        assert list(client.reply.json()) == ["identity"]

    # Issue: scopes and lifetimes

    @pytest.mark.parametrize("scopes", SCOPE_LISTS, ids=",".join)
    async def test_scopes_keep_their_order(self, client, user, scopes):
        assert_token(await client.get_token(user, scopes), user, scopes)

    async def test_every_scope_of_the_sdk_is_accepted(self, client, user):
        scopes = list(CommunicationTokenScope)
        assert len(scopes) == 5
        assert_token(await client.get_token(user, scopes), user, [scope.value for scope in scopes])

    async def test_duplicate_scopes_are_dropped(self, client, user):
        token = await client.get_token(user, ["voip", "chat", "voip", "chat"])
        assert_token(token, user, ["voip", "chat"])

    @pytest.mark.parametrize("duration, minutes", [
        (None, 1440),
        (timedelta(hours=1), 60),
        (timedelta(minutes=90, seconds=30), 90),  # the client drops the half minute
        (timedelta(hours=24), 1440),
    ], ids=str)
    async def test_requested_lifetime_is_applied(self, client, user, duration, minutes):
        assert_token(await client.get_token(user, ["chat"], token_expires_in=duration), user, minutes=minutes)

    @pytest.mark.parametrize("minutes", [59, 1441])
    async def test_lifetime_out_of_range_is_refused(self, client, user, minutes):
        duration = timedelta(minutes=minutes)
        await assert_lifetime_refused(client.get_token(user, ["chat"], token_expires_in=duration), minutes)
        await assert_lifetime_refused(client.create_user_and_token(["chat"], token_expires_in=duration), minutes)

    async def test_empty_scopes_are_refused(self, client, user):
        assert await refusal(client.get_token(user, []), HttpResponseError, 400) == {
            "code": "ValidationError",
            "message": "Invalid scopes - Scopes field is required.",
            "target": "scopes",
        }

    async def test_missing_scopes_are_refused(self, client, user):
        assert await refusal(client.get_token(user, None), HttpResponseError, 400) == {
            "code": "ValidationError",
            "message": "Scopes: The Scopes field is required.",
            "target": "Scopes",
        }
        assert "api-supported-versions" not in client.reply.headers

    async def test_unknown_scope_is_refused(self, client, user):
        for call in (client.get_token(user, ["chat", "shout"]), client.create_user_and_token(["chat", "shout"])):
            error = await refusal(call, HttpResponseError, 400)
            assert (error["code"], error["target"]) == ("ValidationError", "scopes")
            assert "shout" in error["message"]

    # The token

    async def test_token_header_names_its_key(self, client, user):
        header = Token((await client.get_token(user, ["chat"])).token).header
        assert header["alg"] in ("RS256", "ES256")
        assert header["typ"] == "JWT"
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", header["kid"])

    async def test_token_has_the_expected_claims(self, client, user):
        claims = Token((await client.get_token(user, ["chat", "voip"])).token).claims
        assert list(claims) == [
            "skypeid", "scp", "csi", "exp", "rgn", "acsScope", "resourceId", "resourceLocation", "iat",
            "iss", "aud", "sub", "jti", "rev", "scope",
        ]
        numbers = {name for name, value in claims.items() if type(value) is int}
        assert numbers == {"scp", "exp", "iat", "rev"}
        assert all(type(claims[name]) is str and claims[name] for name in claims.keys() - numbers)
        assert claims["scp"] == 1792
        assert claims["scope"] == "chat voip"
        assert claims["csi"] == str(claims["iat"])
        assert user.raw_id.startswith(f"8:acs:{claims['resourceId']}_")
        assert re.fullmatch(r"[a-z]+", claims["resourceLocation"])

    async def test_token_payload_suits_every_base64_decoder(self, client, user):
        for _ in range(5):
            payload = Token((await client.get_token(user, ["chat", "voip"])).token).segments[1]
            assert "-" not in payload and "_" not in payload
            text = base64.b64decode(payload + "==", validate=False).decode("ascii")
            assert " " not in text

    async def test_tokens_are_distinct(self, client, user):
        first, second = [Token((await client.get_token(user, ["chat"])).token) for _ in range(2)]
        assert first.claims["jti"] != second.claims["jti"]
        assert first.header["kid"] == second.header["kid"]

    async def test_credential_reads_the_token(self, client, user):
        text = (await client.get_token(user, ["chat"])).token
        read = self.credential_class(text).get_token()
        read = await read if inspect.isawaitable(read) else read
        assert read.token == text
        assert read.expires_on == Token(text).claims["exp"]

    # Revoke and delete

    async def test_every_revoke_increments_the_revision(self, client, user):
        revisions = []
        for _ in range(3):
            revisions.append(Token((await client.get_token(user, ["chat"])).token).claims["rev"])
            assert await client.revoke_tokens(user) is None
        assert revisions == [1, 2, 3]

    async def test_repeated_revoke_succeeds(self, client, user):
        await client.revoke_tokens(user)
        assert await client.revoke_tokens(user) is None

    async def test_deleted_user_is_not_found(self, client, user):
        assert await client.delete_user(user) is None
        await assert_not_found(client.get_token(user, ["chat"]))
        await assert_not_found(client.revoke_tokens(user))
        assert await client.delete_user(user) is None

    async def test_missing_user_is_not_found(self, client, user):
        missing = sibling_of(user)
        await assert_not_found(client.get_token(missing, ["chat"]))
        await assert_not_found(client.revoke_tokens(missing))
        assert await client.delete_user(missing) is None

    async def test_deleted_and_missing_users_get_the_same_error(self, client, user):
        deleted, never = await client.create_user(), sibling_of(user)
        await client.delete_user(deleted)
        first = await refusal(client.get_token(deleted, ["chat"]), ResourceNotFoundError, 404)
        second = await refusal(client.get_token(never, ["chat"]), ResourceNotFoundError, 404)
        assert first == second

    async def test_foreign_user_is_refused(self, client):
        foreign = CommunicationUserIdentifier(FOREIGN_ID)
        for call in (client.get_token(foreign, ["chat"]), client.revoke_tokens(foreign), client.delete_user(foreign)):
            error = await refusal(call, ClientAuthenticationError, 401)
            assert error == {"code": "IdentityNotOwned", "message": NOT_OWNED}
            assert "api-supported-versions" in client.reply.headers

    # Keys, endpoints and versions

    async def test_wrong_key_is_denied(self, connect, resource, user):
        wrong = base64.b64encode(bytes(64)).decode()
        client = await connect(f"endpoint={resource.endpoint}/;accesskey={wrong}")
        for call in (client.create_user(), client.get_token(user, ["chat"]), client.delete_user(user)):
            error = await refusal(call, ClientAuthenticationError, 401)
            assert error == {"code": "Denied", "message": DENIED}

    async def test_each_access_key_has_its_own_signing_key(self, client, connect, resource, user):
        secondary = await connect(resource.secondary)
        token = await secondary.get_token(user, ["chat"])
        assert_token(token, user)
        primary_kid = Token((await client.get_token(user, ["chat"])).token).header["kid"]
        assert Token(token.token).header["kid"] != primary_kid

    @pytest.mark.parametrize("slash", ["", "/"], ids=["plain", "slash"])
    @pytest.mark.parametrize("by", ["endpoint", "endpoint_by_address"])
    async def test_endpoint_and_key_are_accepted(self, connect, resource, by, slash):
        client = await connect(endpoint=getattr(resource, by) + slash, key=resource.primary_key)
        user, token = await client.create_user_and_token(["chat"])
        assert_token(token, user)
        assert_token(await client.get_token(user, ["voip"]), user, ["voip"])

    async def test_address_in_connection_string_is_accepted(self, connect, resource):
        client = await connect(f"endpoint={resource.endpoint_by_address}/;accesskey={resource.secondary_key}")
        user = await client.create_user()
        assert_token(await client.get_token(user, ["chat"]), user)

    @pytest.mark.parametrize("version", API_VERSIONS)
    async def test_every_api_version_is_accepted(self, connect, resource, version):
        client = await connect(resource.primary, api_version=version)
        user, token = await client.create_user_and_token(["chat"])
        assert f"api-version={version}" in client.request.url
        assert_token(token, user)
        assert_token(await client.get_token(user, ["voip"]), user, ["voip"])
        await client.revoke_tokens(user)
        await client.delete_user(user)
        assert client.reply.status_code == 204

    @pytest.mark.parametrize("version", ["1999-01-01", "2023-10-02", "latest"])
    async def test_unknown_api_version_is_refused(self, connect, resource, version):
        client = await connect(resource.primary, api_version=version)
        error = await refusal(client.create_user(), HttpResponseError, 400)
        assert error["code"] == "UnsupportedApiVersion"
        assert re.fullmatch(UNSUPPORTED_VERSION.format(version), error["message"])

    # Headers

    @pytest.mark.parametrize("status, call", REPLIES.values(), ids=REPLIES.keys())
    async def test_reply_has_the_expected_headers(self, client, user, status, call):
        with contextlib.suppress(HttpResponseError):
            await call(client, user)
        headers = client.reply.headers
        assert client.reply.status_code == status
        assert headers["x-ms-client-request-id"] == client.request.headers["x-ms-client-request-id"]
        assert re.fullmatch(r"[A-Za-z0-9+/]{22}\.[0-9.]+", headers["MS-CV"])
        assert headers["Request-Context"] == "appId="
        assert re.fullmatch(r"\d+ms", headers["X-Processing-Time"])
        assert "Strict-Transport-Security" not in headers, "it would force HTTPS onto every server of localhost"
        assert "Retry-After" not in headers, "it would make this client repeat a refused request"
        versions = headers["api-supported-versions"].split(", ")
        assert versions == sorted(versions)
        assert set(API_VERSIONS) <= set(versions)
        content_type = {200: "application/json; charset=utf-8", 201: "application/json; charset=utf-8", 204: None}
        assert headers.get("Content-Type") == content_type.get(status, "application/json")
        if status == 204:
            assert client.reply.body() == b""
