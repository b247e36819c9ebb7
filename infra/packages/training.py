"""The load that trains a program: the requests of usual clients, and refused ones."""

import base64
import email.utils
import hashlib
import hmac
import http.client
import json
import pathlib
import sys
import urllib.parse

sys.path.append(str(pathlib.Path(__file__).resolve().parent / "python"))

from acs_identity import acs_identity

ALGORITHMS = ("ES256", "RS256")
VERSION = "api-version=2023-10-01"
CREATE = f"/identities?{VERSION}"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
# The event that a gateway sends to the authorizer.
AUTHORIZE = "/2015-03-31/functions/authorizer/invocations"


class Client:
    """A client that signs its requests as the SDKs do, on an open connection."""

    def __init__(self, server, endpoint, connection):
        self.host = address(endpoint)
        self.key = base64.b64decode(server.connection_string.rpartition("accesskey=")[2])
        self.connection = connection

    def signed(self, target, body, key=None):
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        date = email.utils.formatdate(usegmt=True)
        text = f"POST\n{target}\n{date};{self.host};{digest}"
        signature = base64.b64encode(hmac.new(key or self.key, text.encode(), "sha256").digest()).decode()
        names = "x-ms-date;host;x-ms-content-sha256"
        authorization = f"HMAC-SHA256 SignedHeaders={names}&Signature={signature}"
        return {"x-ms-date": date, "x-ms-content-sha256": digest, "Authorization": authorization}

    def send(self, target, body, status, headers, media_type=JSON):
        """Returns the answer as JSON. Another status than expected would train the program for another path."""
        headers = headers | {"Host": self.host, "Content-Type": media_type}
        self.connection.request("POST", target, body, headers)
        response = self.connection.getresponse()
        content = response.read()
        if response.status != status:
            raise RuntimeError(f"{target}: {response.status} {content.decode()}")
        return json.loads(content) if content else None

    def call(self, target, body, status, media_type=JSON):
        return self.send(target, body, status, self.signed(target, body), media_type)


def train(program, rounds=300):
    """Starts the program with each algorithm and ends it as an operator does. Then it writes its profile."""
    for algorithm in ALGORITHMS:
        with acs_identity("--algorithm", algorithm, program=str(program)) as server:
            secure = http.client.HTTPSConnection(address(server.endpoint), context=server.ssl_context)
            clients = (
                Client(server, server.endpoint, secure),
                Client(server, server.http_endpoint, http.client.HTTPConnection(address(server.http_endpoint))),
            )
            for turn in range(rounds):
                one_round(clients[turn % 2])
                # The next request opens a new connection.
                secure.close()


def address(endpoint):
    return urllib.parse.urlsplit(endpoint).netloc


def one_round(client):
    """An identity and its tokens: they are issued and verified, and in the end revoked. Each kind of refusal is as
    frequent as a revocation. Usual clients cause fewer refusals, but the compiler makes the code of rare requests
    slower, and an attacker can send many requests that are refused."""
    scopes = b'{"scopes":["chat","voip"]}'
    created = client.call(CREATE, b'{"createTokenWithScopes":["chat","voip"]}', 201)
    identity, token = created["identity"]["id"], created["accessToken"]["token"]
    issue = f"/identities/{identity}/:issueAccessToken?{VERSION}"
    for _ in range(4):
        client.call(issue, scopes, 200)
        client.call("/introspect", f"token={token}".encode(), 200, FORM)
        client.send(AUTHORIZE, json.dumps(event(token)).encode(), 200, {})
    client.call(f"/identities/{identity}/:revokeAccessTokens?{VERSION}", b"", 204)
    client.send(issue, scopes, 401, client.signed(issue, scopes, b"no access key"))
    client.send(CREATE, b"{}", 401, client.signed(CREATE, b"{}", b"no access key"))
    client.send("/%00", b"{", 401, {})


def event(token):
    return {
        "version": "2.0",
        "type": "REQUEST",
        "routeKey": "GET /chat/threads",
        "rawPath": "/chat/threads",
        "rawQueryString": "",
        "headers": {"authorization": f"Bearer {token}", "host": "chat.example"},
        "requestContext": {"http": {"method": "GET", "path": "/chat/threads"}},
    }
