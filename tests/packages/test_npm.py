"""The npm packages, installed from their files into an empty folder."""

import pathlib
import shutil
import subprocess

import pytest

from conftest import NODE_SDK, build

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "testing.md"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with the installed packages, and the SDK from the packages of the tests."""
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    packages = build("npm")
    # The packages are in no registry, so each one is installed from its file.
    install = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--offline", "--omit=optional", *packages)
    subprocess.run(install, cwd=folder, check=True)
    (folder / "node_modules" / "@azure").symlink_to(NODE_SDK / "@azure")
    return folder


def node(project, clean_environment, *command):
    return subprocess.run(
        command, cwd=project, env=clean_environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def test_npx_runs_a_program_beside_a_server(project, clean_environment):
    (project / "sample.js").write_text("""
        import { CommunicationIdentityClient } from "@azure/communication-identity";
        const client = new CommunicationIdentityClient(process.env.COMMUNICATION_SERVICES_CONNECTION_STRING);
        const { token } = await client.createUserAndToken(["chat"]);
        console.log(token.split(".").length);
    """)
    command = ("npx", "acs-identity", "exec", "--algorithm", "ES256", "--", "node", "sample.js")
    done = node(project, clean_environment, *command)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stdout
    failed = node(project, clean_environment, "npx", "acs-identity", "token", "inspect")
    assert failed.returncode == 2, failed.stdout


def test_options_of_the_caller_beat_those_of_the_helper(project, clean_environment):
    (project / "options.js").write_text("""
        import { start } from "acs-identity";
        const options = ["--dev", "--algorithm", "ES256", "--listen", "127.0.0.1", "--host", "no.such.name"];
        const server = await start({ options });
        try {
          console.log((await server.state()).resourceId);
        } finally {
          await server.stop();
        }
    """)
    done = node(project, clean_environment, "node", "options.js")
    assert (done.returncode, done.stdout) == (0, "00000000-de00-4000-8000-000000000000\n"), done.stdout


def test_the_helper_tests_expiry_and_revocation(project, clean_environment):
    program = DOCUMENT.read_text(encoding="utf-8").split("```js\n")[1].split("```")[0]
    (project / "example.test.js").write_text(program)
    done = node(project, clean_environment, shutil.which("node"), "--test", "example.test.js")
    assert done.returncode == 0 and "# pass 3" in done.stdout, done.stdout
