"""HTTPS in front of the HTTP stand-in. The SDKs require TLS, and send a key over no other transport.

The front forwards bytes unchanged, so the functions receive the request of the client with its `Host`. The front is also a
proxy whose only target is itself, for a client that has only the host name.
"""

import contextlib
import datetime
import select
import socket
import socketserver
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Front:
    """The address of the service for clients."""

    def __init__(self, host, port, certificate_file):
        self.host = host
        self.port = port
        self.authority = f"{host}:{port}"
        self.certificate_file = certificate_file


@contextlib.contextmanager
def serving(host, upstream_port, folder):
    """Serves TLS on loopback under the name `host`, until the block ends."""
    certificate_file, context = identity_of(host, folder)

    class Connection(socketserver.BaseRequestHandler):
        def handle(self):
            meet(self.request)
            with contextlib.suppress(OSError), context.wrap_socket(self.request, server_side=True) as client:
                with socket.create_connection(("127.0.0.1", upstream_port)) as upstream:
                    pass_on(client, upstream)

    with Server(("127.0.0.1", 0), Connection) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Front(host, server.server_address[1], certificate_file)
        server.shutdown()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


def meet(client):
    """Opens the tunnel, if the client requests one before TLS begins."""
    if client.recv(7, socket.MSG_PEEK) == b"CONNECT":
        while not client.recv(65536).endswith(b"\r\n\r\n"):
            pass
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")


def pass_on(client, upstream):
    """Forwards the bytes of both sides, until one side ends."""
    other = {client: upstream, upstream: client}
    while True:
        # Bytes that TLS has already decrypted do not make the socket readable again.
        ready = [client] if client.pending() else select.select(list(other), [], [])[0]
        for side in ready:
            data = side.recv(65536)
            if not data:
                return
            other[side].sendall(data)


def identity_of(host, folder):
    """Makes a self-signed certificate, and the server context that holds its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate_file, key_file)
    return certificate_file, context
