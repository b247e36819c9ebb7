"""The same user operations against the local server, and against the function binaries under `cargo lambda watch`."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

import stand_in
import template as sam
from life import check_life_cycle

LOCAL = pathlib.Path(os.environ.get("LOCAL_PROGRAM", sam.ROOT / "target" / "debug" / "acs-identity"))
STARTS_WITHIN = 60
CONNECTION_STRING = "COMMUNICATION_SERVICES_CONNECTION_STRING"


@contextlib.contextmanager
def local(state, *arguments):
    """Runs the program during the block, which begins when the program is ready."""
    if not LOCAL.is_file():
        pytest.fail(f"{LOCAL} is missing: run `cargo build --package acs-identity`")
    command = [LOCAL, "--data-dir", state, "--algorithm", "ES256", *arguments]
    with open(f"{state}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(lambda: is_ready(state, process), process, log.name)
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def is_ready(state, process):
    """Whether this process has written `ready.json`. A process that was killed leaves its own behind."""
    try:
        return json.loads((state / "ready.json").read_text(encoding="utf-8"))["pid"] == process.pid
    except FileNotFoundError:
        return False


def accepts(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def wait_until(condition, process, log):
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(pathlib.Path(log).read_text(encoding="utf-8"))


def read_env(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: value.strip("'") for name, value in (line.split("=", 1) for line in lines)}


def trust(monkeypatch, env):
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, env[name])


@contextlib.contextmanager
def watch(state, port):
    """Runs `cargo lambda watch` during the block, in the folder of the functions, as the page of `platform` describes."""
    cargo_lambda = pathlib.Path(sys.executable).with_name("cargo-lambda")
    tls = ["--tls-cert", state / "server.pem", "--tls-key", state / "server-key.pem"]
    command = [cargo_lambda, "lambda", "watch", "--ignore-changes", "--invoke-address", "127.0.0.1"]
    env = {**os.environ, **read_env(state / "platform.env")}
    with open(f"{state}.watch.log", "wb") as log:
        process = subprocess.Popen(
            [*command, "--invoke-port", str(port), *tls], cwd=sam.ROOT / "functions", env=env, stdout=log, stderr=log
        )
        try:
            wait_until(lambda: accepts(port), process, log.name)
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def test_life_cycle_on_the_local_server(tmp_path, monkeypatch):
    state = tmp_path / "state"
    with local(state, "--https-port", "0", "--http-port", "0"):
        env = read_env(state / "env")
        trust(monkeypatch, env)
        check_life_cycle(env[CONNECTION_STRING])


def test_life_cycle_on_the_functions(tmp_path, monkeypatch):
    state = tmp_path / "state"
    port = stand_in.free_port()
    with local(state, "platform", "--aws-port", "0", "--functions-port", str(port)), watch(state, port):
        env = read_env(state / "env")
        trust(monkeypatch, env)
        check_life_cycle(env[CONNECTION_STRING])
