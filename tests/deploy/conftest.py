import contextlib
import socket

import pytest

import deployment
import front
import stand_in

HOST = "identity.example.com"
CERTIFICATE = "arn:aws:acm:us-east-1:000000000000:certificate/5e0d8f7c-0b0a-4c8e-9a54-6a4f3d1c2b10"


@pytest.fixture(scope="module")
def deploy(tmp_path_factory):
    """Deploys the template, under a host name of its own, with these bootstraps. For one module."""
    with contextlib.ExitStack() as stack:

        def deployed(code):
            aws = stack.enter_context(stand_in.running())
            https = stack.enter_context(front.serving(HOST, aws.port, tmp_path_factory.mktemp("front")))
            patches = stack.enter_context(pytest.MonkeyPatch.context())
            trust(patches, https)
            parameters = {"DomainName": HOST, "CertificateArn": CERTIFICATE, "AllowedHosts": https.authority}
            return deployment.deploy(aws, code, parameters, https)

        yield deployed


def trust(patches, https):
    """Clients in this process find the host on loopback and trust its certificate."""
    resolve = socket.getaddrinfo

    def on_loopback(host, *arguments, **options):
        return resolve("127.0.0.1" if host == https.host else host, *arguments, **options)

    patches.setattr(socket, "getaddrinfo", on_loopback)
    patches.setenv("SSL_CERT_FILE", str(https.certificate_file))
    patches.setenv("REQUESTS_CA_BUNDLE", str(https.certificate_file))
