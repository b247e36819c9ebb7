"""HTTPS in front of the stand-in, which speaks HTTP: the SDKs insist on TLS, and send a key over nothing else.

Bytes are passed on as they come, so the functions see the request that the client has sent, its `Host` among it.
"""

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Front:
    """Where clients address the service."""

    def __init__(self, host, port, certificate_file):
        self.host = host
        self.port = port
        self.authority = f"{host}:{port}"
        self.certificate_file = certificate_file


@contextlib.contextmanager
def serving(host, upstream_port, folder):
    """TLS on loopback under the name `host`, until the block ends."""
    certificate_file, context = identity_of(host, folder)
    listener = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.new_event_loop()

    async def pass_on(reader, writer):
        onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
        await asyncio.gather(pipe(reader, onward_writer), pipe(onward_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(pass_on, sock=listener, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield Front(host, listener.getsockname()[1], certificate_file)
    finally:
        loop.call_soon_threadsafe(stop, loop, server)
        thread.join(timeout=10)


def stop(loop, server):
    server.close()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_soon(loop.stop)


async def pipe(reader, writer):
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        writer.close()


def identity_of(host, folder):
    """A certificate that vouches for itself, and the server side that holds its key."""
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
