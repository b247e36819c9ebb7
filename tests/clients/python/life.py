"""The life cycle of a user and its tokens, with the unmodified SDK. It is the same for every deployment."""

import urllib.parse

import pytest
from azure.communication.identity import CommunicationIdentityClient
from azure.core.exceptions import ClientAuthenticationError, ResourceNotFoundError

from environment import Token
from raw_http import RawClient

FORM = "application/x-www-form-urlencoded"


def raw_client(connection_string):
    endpoint, key = (part.split("=", 1)[1] for part in connection_string.split(";"))
    address = urllib.parse.urlsplit(endpoint)
    return RawClient(address.hostname, address.port, key)


def introspecting(connection_string):
    """Returns a function that tells whether a token is active."""
    raw = raw_client(connection_string)

    def is_active(token):
        reply = raw.call("POST", "/introspect", urllib.parse.urlencode({"token": token}).encode(), content_type=FORM)
        assert reply.status == 200, reply.body
        return reply.json["active"]

    return is_active


def check_life_cycle(connection_string):
    """Checks the answers that every deployment gives. Deletes the user at the end."""
    client = CommunicationIdentityClient.from_connection_string(connection_string)
    raw, is_active = raw_client(connection_string), introspecting(connection_string)
    user, first = client.create_user_and_token(scopes=["chat", "voip"])
    second = client.get_token(user, ["chat.join"])
    assert is_active(first.token) and is_active(second.token)
    client.revoke_tokens(user)
    assert not is_active(first.token) and not is_active(second.token)
    fresh = client.get_token(user, ["voip"]).token
    assert is_active(fresh)
    keys = raw.send("GET", "/.well-known/jwks.json", headers={"Host": raw.authority}).json["keys"]
    assert Token(fresh).header["kid"] in [key["kid"] for key in keys]
    client.delete_user(user)
    assert not is_active(fresh)
    with pytest.raises(ResourceNotFoundError):
        client.get_token(user, ["chat"])
    with pytest.raises(ClientAuthenticationError):
        CommunicationIdentityClient(f"https://{raw.authority}", "c2VjcmV0").create_user()
