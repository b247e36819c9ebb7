"""Tests Entra callers and the Teams exchange, with azure-identity and MSAL against the local stand-in for Entra."""

import datetime
import os
import time
import urllib.parse

import msal
import pytest
import requests
from azure.communication.identity import CommunicationIdentityClient, CommunicationUserIdentifier
from azure.communication.identity.aio import CommunicationIdentityClient as AsyncClient
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import ClientSecretCredential, DefaultAzureCredential, EnvironmentCredential
from azure.identity.aio import DefaultAzureCredential as AsyncDefaultCredential
from azure.identity.aio import EnvironmentCredential as AsyncEnvironmentCredential

from environment import DENIED, Resource, Token
from raw_http import RawClient

ENDPOINT = os.environ["COMMUNICATION_SERVICES_ENDPOINT"]
AUTHORITY = os.environ["COMMUNICATION_M365_AAD_AUTHORITY"]
ADFS = os.environ["COMMUNICATION_M365_AAD_TENANT"]
TENANT = os.environ["COMMUNICATION_ENTRA_TENANT_ID"]
TEAMS = "https://auth.msft.communication.azure.com"
OTHER = "00000000-0000-0000-0000-000000000001"


def user_token(*scopes, **form):
    """Returns the test user's Entra token, which MSAL gets by user name and password."""
    app = msal.PublicClientApplication(os.environ["COMMUNICATION_M365_APP_ID"], authority=f"{AUTHORITY}/{ADFS}")
    answer = app.acquire_token_by_username_password(
        os.environ["COMMUNICATION_MSAL_USERNAME"], os.environ["COMMUNICATION_MSAL_PASSWORD"], list(scopes), data=form
    )
    assert "access_token" in answer, answer
    return answer["access_token"], answer["id_token_claims"]["oid"]


@pytest.fixture(name="client")
def client_fixture():
    return CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])


@pytest.fixture(name="teams", scope="module")
def teams_fixture():
    token, oid = user_token(f"{TEAMS}/Teams.ManageCalls", f"{TEAMS}/Teams.ManageChats")
    return token, os.environ["COMMUNICATION_M365_APP_ID"], oid


def claims_of(token):
    return Token(token).claims


def key_id(token):
    return Token(token).header["kid"]


@pytest.mark.parametrize("kind", [DefaultAzureCredential, EnvironmentCredential])
def test_service_principal_may_call_every_operation(client, kind):
    caller = CommunicationIdentityClient(ENDPOINT, kind())
    user = caller.create_user()
    same, token = caller.create_user_and_token(scopes=["chat"])
    issued = caller.get_token(user, scopes=["voip"])
    caller.revoke_tokens(user)
    caller.delete_user(same)
    caller.delete_user(user)
    assert claims_of(issued.token)["acsScope"] == "voip"
    assert key_id(token.token) == key_id(issued.token)
    other = client.get_token(client.create_user(), scopes=["chat"])
    assert key_id(token.token) != key_id(other.token), "tokens of Entra callers must have their own key"


@pytest.mark.parametrize("kind", [AsyncDefaultCredential, AsyncEnvironmentCredential])
async def test_service_principal_may_call_every_operation_aio(kind):
    async with kind() as credential, AsyncClient(ENDPOINT, credential) as caller:
        user, token = await caller.create_user_and_token(scopes=["chat"])
        await caller.get_token(user, scopes=["voip"])
        await caller.revoke_tokens(user)
        await caller.delete_user(user)
    assert claims_of(token.token)["acsScope"] == "chat"


def test_authority_of_the_tenant_serves_code_that_needs_the_guid():
    base = f"{ENDPOINT}entra"
    credential = ClientSecretCredential(
        TENANT,
        os.environ["AZURE_CLIENT_ID"],
        os.environ["AZURE_CLIENT_SECRET"],
        authority=base,
        disable_instance_discovery=True,
    )
    CommunicationIdentityClient(ENDPOINT, credential).create_user()


def service_token(**form):
    """Returns an access token of the service principal, from a token request with further members."""
    answer = requests.post(
        f"{AUTHORITY}/{ADFS}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": os.environ["AZURE_CLIENT_ID"],
            "client_secret": os.environ["AZURE_CLIENT_SECRET"],
            "scope": "https://communication.azure.com//.default",
            **form,
        },
        timeout=30,
    )
    return answer.json()["access_token"]


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("claims", ["", "idtyp"])
def test_application_token_needs_no_optional_claim(version, claims):
    token = service_token(token_version=version, optional_claims=claims)
    assert [name for name in ("idtyp", "roles", "scp") if name in claims_of(token)] == claims.split()
    CommunicationIdentityClient(ENDPOINT, Fixed(token)).create_user()


def test_white_space_around_a_token_is_dropped(client, teams):
    token, app, user = teams
    for text in (token + "\r\n", f"\n\t {token} "):
        assert client.get_token_for_teams_user(text, app, user).token
    CommunicationIdentityClient(ENDPOINT, Fixed(f" {service_token()} ")).create_user()
    for text in (f'"{token}"', f"Bearer {token}", token.replace(".", ". ")):
        status, code, _ = refusal(client, text, app, user)
        assert (status, code) == (401, "InvalidAccessToken")


class Fixed:
    """A credential with one fixed token."""

    def __init__(self, token):
        self.token = token

    def get_token(self, *_scopes, **_options):
        return AccessToken(self.token, int(time.time()) + 3_600)


def test_unlisted_principal_is_denied(teams):
    # The user's token is valid, but for another audience, and the user is not on the list.
    unlisted, _ = user_token("https://communication.azure.com/user_impersonation")
    for token in (unlisted, teams[0], "not.a.token"):
        with pytest.raises(ClientAuthenticationError) as raised:
            CommunicationIdentityClient(ENDPOINT, Fixed(token)).create_user()
        assert raised.value.error.code == "Denied"
        assert DENIED in raised.value.message


@pytest.mark.parametrize("version", ["1", "2"])
def test_teams_user_gets_a_token(client, version):
    token, oid = user_token(f"{TEAMS}/Teams.ManageCalls", token_version=version)
    entra = claims_of(token)
    assert entra["ver"] == f"{version}.0"
    issued = client.get_token_for_teams_user(token, os.environ["COMMUNICATION_M365_APP_ID"], oid)
    claims = claims_of(issued.token)
    assert list(claims) == [
        "skypeid", "scp", "csi", "exp", "rgn", "tid", "acsScope", "resourceId",
        "aad_iat", "aad_uti", "aad_appid", "iat", "iss", "aud", "sub", "jti", "rev", "scope",
    ]
    assert claims["skypeid"] == f"orgid:{oid}"
    assert claims["scp"] == 1024
    assert (claims["acsScope"], claims["scope"]) == ("voip,chat", "voip chat")
    assert claims["tid"] == TENANT
    assert claims["exp"] == entra["exp"], "the token must expire with the Entra token"
    assert claims["csi"] == str(entra["iat"])
    expires_on = datetime.datetime.fromisoformat(issued.expires_on)
    assert int(expires_on.timestamp()) == claims["exp"]


def test_revocation_applies_to_teams_users(client, teams):
    _, _, oid = teams
    before = claims_of(client.get_token_for_teams_user(*teams).token)["rev"]
    client.revoke_tokens(CommunicationUserIdentifier(f"8:orgid:{oid}"))
    after = claims_of(client.get_token_for_teams_user(*teams).token)["rev"]
    assert after == before + 1


def refusal(client, *arguments):
    with pytest.raises(HttpResponseError) as raised:
        client.get_token_for_teams_user(*arguments)
    error = raised.value
    return error.status_code, error.error.code, error.response.json()["error"]


def test_exchange_refuses_invalid_arguments(client, teams):
    token, app, user = teams
    expired = os.environ["COMMUNICATION_EXPIRED_TEAMS_TOKEN"]
    app_only = EnvironmentCredential().get_token(f"{TEAMS}/.default").token
    invalid = {"code": "InvalidAccessToken", "message": "Provided access token is not valid."}

    def validation(message, target):
        return {"code": "ValidationError", "message": message, "target": target}

    for arguments, status, error in [
        (("", app, user), 401, invalid),
        (("", "", ""), 401, invalid),
        (("invalid", "", ""), 401, invalid),
        ((expired, app, user), 401, invalid),
        ((app_only, app, user), 401, invalid),
        ((token[:-4] + "AAAA", app, user), 401, invalid),
        ((token, "", user), 400, validation("AppId: The AppId field is required.", "AppId")),
        ((token, app, ""), 400, validation("UserId: The UserId field is required.", "UserId")),
        ((token, "", ""), 400, validation("AppId: The AppId field is required.", "AppId")),
        ((token, "invalid", user), 400, validation("Provided AppId has invalid format.", "appId")),
        ((token, app, "invalid"), 400, validation("Provided UserId has invalid format.", "userId")),
        ((token, OTHER, user), 400, validation("AAD application is not the expected one.", "appId")),
        ((token, app, OTHER), 400, validation("Provided AAD token issued for unexpected user.", "userId")),
    ]:
        got_status, code, body = refusal(client, *arguments)
        assert (got_status, body) == (status, error), arguments[1:]
        assert code == error["code"]


def test_missing_token_is_reported_first():
    resource = Resource()
    raw = RawClient(resource.host, resource.port, resource.primary_key)
    message = "The body is either missing or doesn't contain any token."
    for body in ("", "{}", '{"token":null}', '{"appId":"x","userId":"y"}'):
        reply = raw.call("POST", "/teamsUser/:exchangeAccessToken?api-version=2023-10-01", body.encode())
        assert reply.status == 400, body
        assert reply.error == {"code": "ValidationError", "message": message}


def test_token_without_teams_permissions_is_refused(client):
    token, oid = user_token(f"{TEAMS}/TeamsExtension.ManageCalls")
    status, code, _ = refusal(client, token, os.environ["COMMUNICATION_M365_APP_ID"], oid)
    assert (status, code) == (401, "InvalidAccessToken")


def sign_in(flow):
    """Returns the members of the authorization endpoint's reply."""
    answer = requests.get(flow["auth_uri"], allow_redirects=False, timeout=30)
    assert answer.status_code == 302, answer.text
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(answer.headers["location"]).query))


def test_msal_redeems_codes_and_renews_tokens():
    cache = msal.SerializableTokenCache()
    app = msal.PublicClientApplication(
        os.environ["COMMUNICATION_M365_APP_ID"], authority=f"{AUTHORITY}/{ADFS}", token_cache=cache
    )
    scopes = [f"{TEAMS}/Teams.ManageCalls"]
    flow = app.initiate_auth_code_flow(scopes, redirect_uri="http://localhost:3000/", login_hint="guest@partner.test")
    reply = sign_in(flow)
    answer = app.acquire_token_by_auth_code_flow(flow, reply)
    assert claims_of(answer["access_token"])["unique_name"] == "guest@partner.test"
    for _ in range(3):
        (account,) = app.get_accounts()
        renewed = app.acquire_token_silent_with_error(scopes, account, force_refresh=True)
        assert claims_of(renewed["access_token"])["oid"] == answer["id_token_claims"]["oid"], renewed
    again = app.acquire_token_by_auth_code_flow(flow, reply)
    assert again["error_codes"] == [54005]
    ended = app.acquire_token_silent_with_error(scopes, account, force_refresh=True)
    assert ended["error"] == "invalid_grant", "the second redemption ends the refresh tokens of the first one"


def test_confidential_client_signs_in_people():
    app = msal.ConfidentialClientApplication(
        os.environ["AZURE_CLIENT_ID"],
        client_credential=os.environ["AZURE_CLIENT_SECRET"],
        authority=f"{AUTHORITY}/{ADFS}",
    )
    flow = app.initiate_auth_code_flow([f"{TEAMS}/.default"], redirect_uri="http://127.0.0.1:5000/cb", prompt="none")
    reply = sign_in(flow)
    answer = app.acquire_token_by_auth_code_flow(flow, reply)
    assert claims_of(answer["access_token"])["appidacr"] == "1", answer


@pytest.mark.parametrize("name, code", [("noteams@local.test", 65001), ("disabled@local.test", 50057)])
def test_refused_people_get_the_codes_of_entra(name, code):
    app = msal.PublicClientApplication(os.environ["COMMUNICATION_M365_APP_ID"], authority=f"{AUTHORITY}/{ADFS}")
    flow = app.initiate_auth_code_flow([f"{TEAMS}/.default"], redirect_uri="http://localhost", login_hint=name)
    reply = sign_in(flow)
    assert reply["error_description"].startswith(f"AADSTS{code}: ")
    assert reply["state"] == flow["state"]
