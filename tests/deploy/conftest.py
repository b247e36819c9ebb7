import contextlib
import socket

import pytest

import deployment
import front
import stand_in
from service import Service, binary

HOST = "identity.example.com"
CERTIFICATE = "arn:aws:acm:us-east-1:000000000000:certificate/5e0d8f7c-0b0a-4c8e-9a54-6a4f3d1c2b10"


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """The service with the real functions, after it has made its first keys."""
    with deployed(binary, tmp_path_factory.mktemp("front"), RequestMetrics="true", ScopeClaim="true") as stack:
        service = Service(stack)
        service.wait_for_keys()
        yield service


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """The stack with functions that return their event."""
    with deployed(deployment.echo, tmp_path_factory.mktemp("front")) as stack:
        yield stack


@contextlib.contextmanager
def deployed(code, folder, template=None, **more):
    """Deploys the template under its own host name with these bootstraps, until the block ends."""
    port = stand_in.free_port()
    with (
        front.serving(HOST, port, folder) as https,
        stand_in.running(port, https) as aws,
        pytest.MonkeyPatch.context() as patches,
    ):
        trust(patches, https)
        parameters = {"DomainName": HOST, "CertificateArn": CERTIFICATE, "AllowedHosts": https.authority, **more}
        yield deployment.deploy(aws, code, parameters, https, template)


def trust(patches, https):
    """Makes clients in this process resolve the host to loopback and trust its certificate."""
    resolve = socket.getaddrinfo

    def on_loopback(host, *arguments, **options):
        return resolve("127.0.0.1" if host == https.host else host, *arguments, **options)

    patches.setattr(socket, "getaddrinfo", on_loopback)
    patches.setenv("SSL_CERT_FILE", str(https.certificate_file))
    patches.setenv("REQUESTS_CA_BUNDLE", str(https.certificate_file))
