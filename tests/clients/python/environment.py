"""The address of the service under test, and the form of its tokens for a client."""

import base64
import json
import os
import pathlib
import re

VARIABLES = (
    "COMMUNICATION_SERVICES_CONNECTION_STRING",
    "COMMUNICATION_SERVICES_SECONDARY_CONNECTION_STRING",
    "COMMUNICATION_SERVICES_ENDPOINT",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
)

API_VERSIONS = (
    "2021-03-07",
    "2022-06-01",
    "2022-10-01",
    "2023-10-01",
    "2025-06-30",
    "2026-07-22",
    "2026-09-23",
)

GUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
USER_ID = re.compile(rf"8:acs:({GUID})_({GUID})")
FOREIGN_ID = "8:acs:00000000-0000-0000-0000-000000000000_00000000-0000-0000-0000-000000000000"

NOT_OWNED = "Provided identity doesn't belong to the resource."
DENIED = "Denied by the resource provider."
UNSUPPORTED_VERSION = (
    r"The HTTP resource that matches the request URI 'https?://[^'?]+/identities' "
    r"does not support the API version '{}'\."
)

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "vectors"


def vectors(name):
    """Returns the rows of a vector file."""
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


class Resource:
    """The connection settings of the service under test."""

    def __init__(self):
        self.primary = os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"]
        self.secondary = os.environ["COMMUNICATION_SERVICES_SECONDARY_CONNECTION_STRING"]
        self.primary_key = _access_key(self.primary)
        self.secondary_key = _access_key(self.secondary)
        self.endpoint = os.environ["COMMUNICATION_SERVICES_ENDPOINT"].rstrip("/")
        self.authority = self.endpoint.removeprefix("https://")
        self.host, _, port = self.authority.partition(":")
        self.port = int(port)

    @property
    def endpoint_by_address(self):
        return f"https://127.0.0.1:{self.port}"


def _access_key(connection_string):
    return dict(part.split("=", 1) for part in connection_string.split(";"))["accesskey"]


class Token:
    """A decoded access token. Its signature is not checked here."""

    def __init__(self, text):
        self.segments = text.split(".")
        assert len(self.segments) == 3, "a compact JWS has three segments"
        self.header, self.claims = (_decode(segment) for segment in self.segments[:2])

    @property
    def minutes(self):
        """The validity of the token in minutes, with fractions."""
        return (self.claims["exp"] - self.claims["iat"]) / 60


def _decode(segment):
    return json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
