"""Signs and sends requests without an SDK, so that tests can send requests that no SDK sends.

This module follows the published description of the access-key scheme. It shares no code with the SDKs or the service.
"""

import base64
import hashlib
import hmac
import http.client
import json
import ssl
from email.utils import formatdate
from time import time

CURRENT = ("x-ms-date", "host", "x-ms-content-sha256")
OLD = ("date", "host", "x-ms-content-sha256")


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The error of a refused request, after a check of its form."""
        assert self.headers["Content-Type"] == "application/json"
        assert list(self.json) == ["error"]
        error = self.json["error"]
        assert {"code", "message"} <= set(error) <= {"code", "message", "target"}
        assert all(type(value) is str and value for value in error.values())
        return error


class RawClient:
    """Signs with one access key and sends to one port."""

    def __init__(self, host, port, key):
        self.host, self.port, self.key = host, port, key
        self.authority = f"{host}:{port}"

    def headers(self, method, target, body=b"", *, host=None, date=None, offset=0, names=CURRENT):
        """Returns the headers of a signed request, `Host` first. `host` is the signed host."""
        values = {
            "host": host or self.authority,
            names[0]: date or formatdate(time() + offset, usegmt=True),
            "x-ms-content-sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
        }
        text = f"{method}\n{target}\n" + ";".join(values[name] for name in names)
        mac = hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()
        return {
            "Host": host or self.authority,
            **{name: value for name, value in values.items() if name != "host"},
            "Authorization":
                f"HMAC-SHA256 SignedHeaders={';'.join(names)}&Signature={base64.b64encode(mac).decode()}",
        }

    def send(self, method, target, body=b"", headers=None):
        """Sends exactly these headers and this target, without normalisation."""
        connection = http.client.HTTPSConnection(self.host, self.port, context=ssl.create_default_context(), timeout=30)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def call(self, method, target, body=b"", content_type="application/json", **signing):
        """Signs and sends a request."""
        headers = self.headers(method, target, body, **signing)
        if content_type is not None:
            headers["Content-Type"] = content_type
        return self.send(method, target, body, headers)
