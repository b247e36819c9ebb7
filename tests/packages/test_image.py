"""The container image and the static program, run in an empty root directory."""

import contextlib
import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time

import pytest

from conftest import ROOT, build

USER = "65532:65532"
CHROOT = shutil.which("chroot")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


@pytest.fixture(scope="module")
def blobs(image):
    """The files of the archive by path."""
    with tarfile.open(image) as archive:
        return {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}


@pytest.fixture(scope="module")
def root(blobs, tmp_path_factory):
    """The file system of the image."""
    folder = tmp_path_factory.mktemp("root")
    folder.chmod(0o755)
    with tarfile.open(fileobj=io.BytesIO(layer(blobs))) as archive:
        archive.extractall(folder, filter="fully_trusted", numeric_owner=True)
    return folder


def blob(blobs, described):
    """Returns the content that a descriptor names, after a check of its digest and size."""
    content = blobs["blobs/" + described["digest"].replace(":", "/")]
    assert described["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert described["size"] == len(content)
    return content


def manifest(blobs):
    [described] = json.loads(blobs["index.json"])["manifests"]
    return json.loads(blob(blobs, described))


def layer(blobs):
    [described] = manifest(blobs)["layers"]
    return gzip.decompress(blob(blobs, described))


def test_the_archive_is_a_layout_for_every_engine(blobs):
    assert json.loads(blobs["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    config = json.loads(blob(blobs, manifest(blobs)["config"]))
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer(blobs)).hexdigest()}"]
    assert config["config"]["User"] == USER
    assert config["config"]["Entrypoint"] == ["/acs-identity"]
    assert set(config["config"]["ExposedPorts"]) == {"8443/tcp", "8080/tcp"}
    assert "ACS_IDENTITY_LISTEN=::" in config["config"]["Env"]
    assert set(config["config"]["Volumes"]) == {"/data"}
    labels = config["config"]["Labels"]
    assert all(labels[f"org.opencontainers.image.{name}"] for name in ("version", "revision"))
    [docker] = json.loads(blobs["manifest.json"])
    assert docker["Config"] in blobs and set(docker["Layers"]) <= set(blobs)


def test_the_same_program_gives_the_same_archive(image):
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    [again] = build("image")
    assert hashlib.sha256(again.read_bytes()).hexdigest() == before


def settings(blobs):
    config = json.loads(blob(blobs, manifest(blobs)["config"]))
    return dict(setting.split("=", 1) for setting in config["config"]["Env"])


@contextlib.contextmanager
def running(root, blobs, *options):
    """Runs the image as its user, until the block ends. Yields the content of ready.json."""
    command = (CHROOT, f"--userspec={USER}", root, "/acs-identity", "--https-port", "0", "--http-port", "0", *options)
    process = subprocess.Popen(command, env=settings(blobs), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        path = root / "data" / "ready.json"
        while not path.exists():
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
        yield json.loads(path.read_text())
    finally:
        process.terminate()
        output, _ = process.communicate()
    assert process.returncode == 0 and output.endswith("Stopped.\n"), output


@needs_root
def test_the_image_serves_as_its_user(root, blobs):
    with running(root, blobs, "--dev", "--algorithm", "ES256") as ready:
        assert (root / "data" / "env").stat().st_uid == 65532
        port = int(ready["endpoints"]["http"].rstrip("/").rsplit(":", 1)[1])
        for host in (f"localhost:{port}", "localhost:40000"):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/_local/ready", headers={"Host": host})
            answer = connection.getresponse()
            assert answer.status == 200 and json.loads(answer.read())["status"]
        check = subprocess.run(
            (CHROOT, f"--userspec={USER}", root, "/acs-identity", "healthcheck"), env=settings(blobs), check=False,
            stdout=subprocess.PIPE, text=True,
        )
        assert (check.returncode, check.stdout) == (0, "ready\n")
    check = subprocess.run((CHROOT, f"--userspec={USER}", root, "/acs-identity", "healthcheck"), env=settings(blobs), check=False)
    assert check.returncode != 0


@needs_root
def test_sdks_reach_a_mapped_port(root, blobs):
    """A container engine maps another port of the machine to the port of the server."""
    with running(root, blobs, "--dev", "--algorithm", "ES256") as ready:
        port = int(ready["endpoints"]["https"].rstrip("/").rsplit(":", 1)[1])
        with forwarded(port) as mapped:
            certificate = root / "data" / "ca.pem"
            program = """if True:
                import sys
                from azure.communication.identity import CommunicationIdentityClient
                client = CommunicationIdentityClient.from_connection_string(sys.argv[1])
                user, token = client.create_user_and_token(scopes=["chat", "voip"])
                client.revoke_tokens(user)
                client.delete_user(user)
            """
            variables = (root / "data" / "env").read_text()
            key = variables.split("accesskey=", 1)[1].split("'", 1)[0]
            string = f"endpoint=https://localhost:{mapped}/;accesskey={key}"
            python = ROOT / "tests" / "deploy" / ".venv" / "bin" / "python"
            trust = {"REQUESTS_CA_BUNDLE": str(certificate), "SSL_CERT_FILE": str(certificate), "PATH": os.environ["PATH"]}
            subprocess.run((python, "-c", program, string), check=True, env=trust)


@contextlib.contextmanager
def forwarded(port):
    """Passes connections to another port on to this one."""
    code = """if True:
        import asyncio, sys
        async def copy(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
        async def serve(reader, writer):
            there, back = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
            await asyncio.gather(copy(reader, back), copy(there, writer), return_exceptions=True)
        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            print(server.sockets[0].getsockname()[1], flush=True)
            await server.serve_forever()
        asyncio.run(main())
    """
    process = subprocess.Popen((sys.executable, "-c", code, str(port)), stdout=subprocess.PIPE, text=True)
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@needs_root
def test_the_archive_holds_a_static_program(tmp_path):
    [archive] = build("binary")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    assert sorted(os.listdir(folder)) == ["LICENSE", "acs-identity", "sbom.cdx.json"]
    crates = {component["name"] for component in json.loads((folder / "sbom.cdx.json").read_text())["components"]}
    assert {"hyper", "dynoxide-rs", "clap"} <= crates
    done = subprocess.run((CHROOT, folder, "/acs-identity", "--version"), check=True, stdout=subprocess.PIPE, text=True)
    assert "musl" in done.stdout and "unknown" not in done.stdout
    sums = (ROOT / "target" / "packages" / "SHA256SUMS").read_text()
    assert f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}\n" in sums
