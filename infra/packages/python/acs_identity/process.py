"""The process of the server: it starts, becomes ready, and ends with this process."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any, Sequence

POLL_SECONDS = 0.005
STOP_SECONDS = 10

# A shell that waits for the end of its standard input, which only this process holds open. If this process is killed, the
# shell ends the server and removes its state.
GUARD = """
read -r _
kill "$1" 2>/dev/null
turn=0
while kill -0 "$1" 2>/dev/null && [ $turn -lt 100 ]; do sleep 0.1; turn=$((turn + 1)); done
rm -rf -- "$2"
"""


class StartError(Exception):
    """The server has not become ready. The message ends with its log."""


def installed_program() -> str:
    """Returns the path of the program that the wheel has installed, or else the one on the search path."""
    name = "acs-identity"
    schemes = [None, sysconfig.get_preferred_scheme("user")] if hasattr(sysconfig, "get_preferred_scheme") else [None]
    for scheme in schemes:
        folder = sysconfig.get_path("scripts", scheme) if scheme else sysconfig.get_path("scripts")
        if folder and os.access(os.path.join(folder, name), os.X_OK):
            return os.path.join(folder, name)
    found = shutil.which(name)
    if not found:
        raise StartError("the program acs-identity is not installed; run `pip install acs-identity`")
    return found


class Process:
    """A running server with a directory of its own for its state."""

    def __init__(self, program: str | None, options: Sequence[str], timeout: float):
        self.program = program or installed_program()
        self.data_dir = Path(tempfile.mkdtemp(prefix="acs-identity-"))
        self.log_file = self.data_dir / "server.log"
        self._server = self._guard = None
        try:
            self._spawn(options)
            self.ready = self._wait(time.monotonic() + timeout, timeout)
            self.variables = self.read_variables()
        except BaseException:
            self.stop()
            raise

    def _spawn(self, options: Sequence[str]) -> None:
        # A session of its own keeps Ctrl-C from the server, so that tests can finish with it.
        own = {"start_new_session": True}
        # Variables, because each option of the caller beats its variable.
        env = os.environ | {"ACS_IDENTITY_HTTPS_PORT": "0", "ACS_IDENTITY_HTTP_PORT": "0"}
        if not env.get("ACS_IDENTITY_DEV"):
            env["ACS_IDENTITY_EPHEMERAL"] = "true"
        command = [self.program, "--data-dir", str(self.data_dir), *options]
        with open(self.log_file, "wb") as log:
            self._server = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **own)
        guard = ["/bin/sh", "-c", GUARD, "guard", str(self._server.pid), str(self.data_dir)]
        self._guard = subprocess.Popen(
            guard, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **own)

    def _wait(self, deadline: float, timeout: float) -> Any:
        """Returns the content of ready.json, which the server writes when it answers."""
        path = self.data_dir / "ready.json"
        while not path.exists():
            if self._server.poll() is not None:
                raise StartError(f"the server has ended with status {self._server.returncode}\n{self.log}")
            if time.monotonic() > deadline:
                raise StartError(f"the server was not ready within {timeout:g} seconds\n{self.log}")
            time.sleep(POLL_SECONDS)
        return json.loads(path.read_text())

    def read_variables(self) -> dict[str, str]:
        """Returns the values of the file `env`, which the server writes before it is ready."""
        lines = (self.data_dir / "env").read_text().splitlines()
        return dict(shlex.split(line)[0].split("=", 1) for line in lines)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def stop(self) -> None:
        """Ends the server and removes its state. A second call does nothing."""
        if self._guard:
            # The guard ends first, because the process id is free for others after the server has ended.
            self._guard.kill()
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None
        if self._server:
            self._server.terminate()
            try:
                self._server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
        shutil.rmtree(self.data_dir, ignore_errors=True)
