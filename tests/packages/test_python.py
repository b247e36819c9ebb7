"""The Python wheel, installed from its file into an empty virtual environment."""

import json
import os
import pathlib
import select
import signal
import subprocess
import textwrap

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "testing.md"

SAMPLE = """
import os
from azure.communication.identity import CommunicationIdentityClient
client = CommunicationIdentityClient.from_connection_string(os.environ["COMMUNICATION_SERVICES_CONNECTION_STRING"])
user, token = client.create_user_and_token(scopes=["chat"])
client.revoke_tokens(user)
client.delete_user(user)
print("passed")
"""


def run(wheel_environment, clean_environment, folder, *command):
    path = f"{wheel_environment / 'bin'}{os.pathsep}{clean_environment['PATH']}"
    return subprocess.run(
        command, cwd=folder, env=clean_environment | {"PATH": path}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )


def example(language):
    """Returns the program of the document in this language."""
    return DOCUMENT.read_text(encoding="utf-8").split(f"```{language}\n")[1].split("```")[0]


def test_samples_run_beside_a_server_of_their_own(wheel_environment, clean_environment, tmp_path):
    (tmp_path / "sample.py").write_text(SAMPLE)
    command = ("acs-identity", "exec", "--algorithm", "ES256", "--", "python", "sample.py")
    done = run(wheel_environment, clean_environment, tmp_path, *command)
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stdout
    assert os.listdir(tmp_path) == ["sample.py"]


def test_the_fixture_tests_expiry_and_revocation(wheel_environment, clean_environment, tmp_path):
    (tmp_path / "test_example.py").write_text(example("python"))
    options = "@pytest.fixture(scope='session')\ndef acs_identity_options():\n    return ('--algorithm', 'ES256')\n"
    (tmp_path / "conftest.py").write_text(f"import pytest\n\n{options}")
    done = run(wheel_environment, clean_environment, tmp_path, "python", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout


def test_options_of_the_caller_beat_those_of_the_helper(wheel_environment, clean_environment, tmp_path):
    program = """
        import socket
        from acs_identity import acs_identity
        with acs_identity("--dev", "--algorithm", "ES256") as server:
            assert server.state()["resourceId"] == "00000000-de00-4000-8000-000000000000"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ("--algorithm", "ES256", "--http-port", str(port), "--listen", "127.0.0.1", "--host", "no.such.name")
        with acs_identity(*options) as server:
            assert server.http_endpoint.endswith(f":{port}/"), server.http_endpoint
            server.seed({"identities": {"a": {}}})
    """
    done = run(wheel_environment, clean_environment, tmp_path, "python", "-c", textwrap.dedent(program))
    assert done.returncode == 0, done.stdout


def test_servers_end_with_a_killed_process(wheel_environment, clean_environment, tmp_path):
    program = """
        import sys
        from acs_identity import start
        server = start("--algorithm", "ES256")
        print(server.data_dir, flush=True)
        sys.stdin.read()
    """
    path = f"{wheel_environment / 'bin'}{os.pathsep}{clean_environment['PATH']}"
    process = subprocess.Popen(
        ("python", "-c", textwrap.dedent(program)), env=clean_environment | {"PATH": path}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path,
    )
    directory = pathlib.Path(process.stdout.readline().strip())
    server = json.loads((directory / "ready.json").read_text())["pid"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    waiting = os.pidfd_open(server)
    try:
        assert select.select([waiting], [], [], 30)[0], "the server still runs"
    finally:
        os.close(waiting)
