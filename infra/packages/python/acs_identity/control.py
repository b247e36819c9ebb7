"""Calls of the server's control API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class ControlError(Exception):
    """The server has refused a control call. `status` is the status of the answer."""

    def __init__(self, call: str, status: int, message: str):
        super().__init__(f"{call} was answered with {status}: {message}")
        self.status = status


class Control:
    """Sends control calls to one server."""

    def __init__(self, endpoint: str, token: Path):
        self._base = f"{endpoint.rstrip('/')}/_local/v1/"
        self._token = token
        # The server is on loopback, where a proxy of the environment cannot reach it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method: str, path: str, body: Any = None, timeout: float = 30) -> Any:
        """Returns the JSON of the answer, or `None` if it has no body."""
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}"}
        data = None
        if body is not None or method != "GET":
            data = json.dumps({} if body is None else body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(self._base + path, data=data, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise ControlError(f"{method} {path}", error.code, error.read().decode(errors="replace")) from None
        return json.loads(content) if content else None
