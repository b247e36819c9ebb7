"""Admits requests of a FastAPI application by their access token. The README explains the two modes."""

import dataclasses
import json
import pathlib
import re

import httpx
import jwt
from fastapi import HTTPException, Request

TABLE = json.loads((pathlib.Path(__file__).parent.parent / "capabilities.json").read_text(encoding="utf-8"))
BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


class UnreadableStateError(Exception):
    """The state or the keys cannot be read, so there is no decision. The answer is 503."""


@dataclasses.dataclass(frozen=True)
class Access:
    """What a token permits. The handler checks the user's room role for `capabilities_by_room_role`."""

    token: str
    identity: str
    scopes: list
    capabilities: list
    capabilities_by_room_role: list
    claims: dict


def active(endpoint, client_id, client_secret):
    """Returns a check that introspects each token, so a revocation counts at once.

    The endpoint has its slash at the end. The credential is that of this resource server. A check returns the Access of
    an active token, and None for any other token.
    """
    client = httpx.Client(auth=httpx.BasicAuth(_set(client_id), _set(client_secret)), timeout=5)
    url = _set(endpoint) + "introspect"

    def check(token):
        try:
            answer = client.post(url, data={"token": token})
            if answer.status_code != 200:
                raise UnreadableStateError(f"introspection answered {answer.status_code}")
            claims = answer.json()
        except (httpx.HTTPError, ValueError) as failure:
            raise UnreadableStateError("introspection failed") from failure
        if claims["active"] is not True:
            return None
        permitted = claims["capabilities"], claims["capabilities_by_room_role"]
        return Access(token, claims["sub"], claims["scope"].split(), *permitted, claims)

    return check


def offline(endpoint, issuer, resource_id, is_revoked=lambda claims, token: False):
    """Returns a check, as `active` does, that verifies tokens with the key set. It fetches the key set once a minute.

    It sees no revocation by itself: a `Watcher` does (watcher.py). `is_revoked` may refuse the claims of a verified token. If it raises, the answer is
    503.
    """
    # A replaced key leaves the cache within a minute. An unknown key causes at most one fetch a second.
    keys = jwt.PyJWKClient(_set(endpoint) + ".well-known/jwks.json", lifespan=60, cooldown_duration=1, timeout=5)
    _set(issuer), _set(resource_id)

    def check(token):
        try:
            claims = jwt.decode(
                token,
                keys.get_signing_key_from_jwt(token),
                algorithms=["RS256", "ES256"],
                issuer=issuer,
                audience=resource_id,
                leeway=0,
                options={
                    "require": ["exp", "iat", "iss", "aud", "sub", "jti", "acsScope"],
                    "strict_aud": True,
                    "verify_iat": False,  # The issuer's clock may be slightly ahead. "exp" limits the token.
                },
            )
        except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, ValueError) as failure:
            raise UnreadableStateError("the key set cannot be fetched") from failure
        except jwt.PyJWTError:
            return None
        try:
            if is_revoked(claims, token):
                return None
        except Exception as failure:
            raise UnreadableStateError("is_revoked failed") from failure
        scopes = claims["acsScope"].split(",")
        permitted = ([name for name in TABLE if set(TABLE[name][permit]) & set(scopes)] for permit in ("granted", "byRoomRole"))
        return Access(token, claims["sub"], scopes, *permitted, claims)

    return check


def requires(check, capability):
    """Returns a dependency that admits a token with this capability, also if the user's room role decides about it.

    It gives the handler the Access.
    """
    if capability not in TABLE:
        raise ValueError(f"unknown capability: {capability}")

    # FastAPI runs this function in a thread, so the requests of a check block no event loop.
    def access(request: Request) -> Access:
        bearer = BEARER.fullmatch(request.headers.get("authorization", ""))
        if bearer is None:
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})
        try:
            found = check(bearer[1])
        except UnreadableStateError as failure:
            raise HTTPException(503, headers={"Retry-After": "1"}) from failure
        if found is None:
            raise HTTPException(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        if capability not in found.capabilities + found.capabilities_by_room_role:
            raise HTTPException(403, headers={"WWW-Authenticate": 'Bearer error="insufficient_scope"'})
        return found

    return access


def _set(value):
    if not value:
        raise ValueError("a setting is empty")
    return value
