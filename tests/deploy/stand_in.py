"""A stand-in for AWS on loopback. Its environment has only the path of this machine."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import boto3

REGION = "us-east-1"
STARTS_WITHIN = 60


class StandIn:
    def __init__(self, port):
        self.endpoint = f"http://127.0.0.1:{port}"
        self.port = port

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )


@contextlib.contextmanager
def running(port, front):
    """Runs the stand-in until the block ends. It uses HTTPS only with the front."""
    folder = tempfile.mkdtemp(prefix="stand-in-")
    with open(os.path.join(folder, "log"), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            env=environment(port, folder, front),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            stand_in = StandIn(port)
            wait_for(stand_in, process, log.name)
            yield stand_in
        finally:
            process.terminate()
            process.wait(timeout=30)
            shutil.rmtree(folder, ignore_errors=True)


def environment(port, folder, front):
    return {
        "PATH": os.environ["PATH"],
        "HOME": folder,
        "TMPDIR": folder,
        # By default it listens on every interface, also for MQTT and SFTP.
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        # The functions receive this address, so they never connect to AWS.
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": REGION,
        # It resolves issuers by their names and trusts them, as API Gateway does.
        "https_proxy": f"http://127.0.0.1:{front.port}",
        "SSL_CERT_FILE": str(front.certificate_file),
    }


def wait_for(stand_in, process, log):
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"{stand_in.endpoint}/_ministack/health", timeout=2).close()
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"the stand-in did not start: {open(log, encoding='utf-8', errors='replace').read()[-2000:]}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
