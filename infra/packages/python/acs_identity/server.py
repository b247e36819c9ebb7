"""A local server for tests, with free ports and temporary state."""

from __future__ import annotations

import contextlib
import os
import ssl
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import urlencode, urlsplit

from .control import Control
from .process import Process, StartError

__all__ = ["Server", "StartError", "acs_identity", "start"]


class Server:
    """A running server. Get one from `acs_identity()` or `start()`."""

    def __init__(self, process: Process):
        self._process = process
        # The endpoint may have a name that only other machines can resolve.
        port = urlsplit(self.http_endpoint).port
        self._control = Control(f"http://127.0.0.1:{port}", self.data_dir / "control-token")

    @property
    def connection_string(self) -> str:
        """The connection string with the primary access key."""
        return self.env["COMMUNICATION_SERVICES_CONNECTION_STRING"]

    @property
    def endpoint(self) -> str:
        """The URL of the service, with HTTPS."""
        return self._process.ready["endpoints"]["https"]

    @property
    def http_endpoint(self) -> str:
        """The URL of the service, with plain HTTP."""
        return self._process.ready["endpoints"]["http"]

    @property
    def env(self) -> dict[str, str]:
        """A copy of the variables that the SDKs and their samples read, for a child process."""
        return dict(self._process.variables)

    @property
    def ca_bundle(self) -> Path:
        """The file with the certificate authorities that a client must trust."""
        return Path(self.env["SSL_CERT_FILE"])

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """A new context that trusts the server."""
        return ssl.create_default_context(cafile=str(self.ca_bundle))

    @property
    def data_dir(self) -> Path:
        """The directory of the server's files. It is removed at the end."""
        return self._process.data_dir

    @property
    def log(self) -> str:
        """The output of the server until now."""
        return self._process.log

    @contextlib.contextmanager
    def environ(self) -> Iterator[Server]:
        """Sets the variables of `env` in this process until the block ends."""
        before = {name: os.environ.get(name) for name in self.env}
        os.environ.update(self.env)
        try:
            yield self
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def reset(self, keys: bool = False) -> None:
        """Removes the identities, the assignments, the journal and the shift of the clock.

        The connection string stays, unless `keys` replaces the access keys and the signing keys too.
        """
        self.control("POST", "reset", {"keys": True} if keys else {})
        if keys:
            self._process.variables = self._process.read_variables()

    def seed(self, document: dict[str, Any]) -> dict[str, Any]:
        """Creates the identities, people and assignments of a document. Returns their ids and tokens by name."""
        return self.control("PUT", "seed", document)

    def inspect(self, token: str) -> dict[str, Any]:
        """Returns whether a token is `active`, and the `reason` if it is not."""
        return self.control("POST", "tokens/inspect", {"tokens": [token]})["verdicts"][0]

    def state(self) -> dict[str, Any]:
        """Returns a snapshot of the state for `restore`."""
        return self.control("GET", "state")

    def restore(self, state: dict[str, Any]) -> None:
        """Restores a snapshot. Every token that was issued before is revoked."""
        self.control("PUT", "state", state)

    def clock(self) -> dict[str, Any]:
        """Returns the state of the clock of the tokens."""
        return self.control("GET", "clock")

    def advance(self, **duration: float) -> None:
        """Moves the clock of the tokens forward, by the arguments of `timedelta`: `advance(minutes=61)`.

        A negative duration moves it back. Dates of requests, TLS and time limits follow the real time.
        """
        clock, duration = self.clock(), timedelta(**duration)
        if clock["frozen"]:
            self.freeze(datetime.fromisoformat(clock["now"][:19] + "+00:00") + duration)
        else:
            self.control("PUT", "clock", {"offset": offset(clock["offsetSeconds"] + duration.total_seconds())})

    def freeze(self, at: datetime | str | None = None) -> None:
        """Stops the clock of the tokens, now or at a time with a time zone."""
        text = at.isoformat() if isinstance(at, datetime) else at
        self.control("PUT", "clock", {"frozen": True, "at": text or self.clock()["now"]})

    def real_time(self) -> None:
        """Makes the clock of the tokens follow the real time again."""
        self.control("DELETE", "clock")

    def requests(self, **filters: Any) -> list[dict[str, Any]]:
        """Returns the audit lines of the last 1,000 requests, the oldest first.

        The filters are those of the control API: `operation`, `outcome`, `identity`, `since`, `wait`.
        """
        query = urlencode({name: value for name, value in filters.items() if value is not None})
        return self.control("GET", f"requests?{query}" if query else "requests")["requests"]

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Sends another call of the control API. `path` is relative to `/_local/v1/`.

        Raises `ControlError` when the server refuses the call.
        """
        return self._control.call(method, path, body)

    def stop(self) -> None:
        """Ends the server and removes its state. A second call does nothing."""
        self._process.stop()


def offset(seconds: float) -> str:
    return f"{'-' if seconds < 0 else '+'}{abs(round(seconds))}s"


def start(*options: str, program: str | None = None, timeout: float = 30) -> Server:
    """Starts a server with the options of the command line, and returns it when it is ready. Call `stop()` at the end.

    `program` is the path of another binary, and `timeout` is in seconds. Raises `StartError` if the server does not start.
    """
    return Server(Process(program, options, timeout))


@contextlib.contextmanager
def acs_identity(*options: str, program: str | None = None, timeout: float = 30) -> Iterator[Server]:
    """As `start`, with `stop` at the end of the block."""
    server = start(*options, program=program, timeout=timeout)
    try:
        yield server
    finally:
        server.stop()
