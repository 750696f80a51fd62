"""TLS to the services: contexts from files, and one sentence for each way in which a handshake fails."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.tls_files import Certificates, make_certificates
from vision_app.clients.faults import Service, explain
from vision_app.clients.tls import TlsFiles, client_context, handshake
from vision_app.settings import SettingsError

KAFKA = Service("Kafka", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def tls_server(pair: tuple[Path, Path], clients: Path | None = None) -> Iterator[int]:
    """A server that reads until the client closes; `clients`: the authority of the certificates it demands."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    with server(context) as port:
        yield port


@contextmanager
def server(context: ssl.SSLContext | None = None, first: bytes = b"") -> Iterator[int]:
    """Blocking sockets: asyncio closes without the alert that says why. `first`: what it sends at once."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                connection = context.wrap_socket(self.request, server_side=True) if context else self.request
                with connection:
                    connection.sendall(first)
                    while connection.recv(1024):
                        pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.01,)).start()
        try:
            yield listening.server_address[1]
        finally:
            listening.shutdown()


async def why(port: int, files: TlsFiles, host: str = "localhost") -> str | None:
    """The sentence of a failed handshake; None after a good one."""
    fault = await handshake(host, port, client_context(files))
    return None if fault is None else explain(fault, KAFKA)


async def test_the_authority_named_is_trusted(made: Certificates) -> None:
    with tls_server(made.server) as port:
        assert await why(port, TlsFiles("KAFKA", ca=made.ca)) is None
        assert await why(port, TlsFiles("KAFKA", ca=made.ca), host="127.0.0.1") is None


async def test_other_authorities_are_not_trusted(made: Certificates) -> None:
    with tls_server(made.server) as port:
        for ca in (made.other_ca, None):
            said = await why(port, TlsFiles("KAFKA", ca=ca))
            assert said is not None
            assert said.startswith("Kafka: the server's certificate is signed by an authority that is not trusted here")
            assert said.endswith("name the authority's file in KAFKA_CA_FILE")


async def test_an_expired_certificate_and_one_for_another_name(made: Certificates) -> None:
    with tls_server(made.expired) as port:
        assert await why(port, TlsFiles("KAFKA", ca=made.ca)) == (
            "Kafka: the server's certificate has expired; renew it on the server"
        )
    with tls_server(made.other_name) as port:
        said = await why(port, TlsFiles("KAFKA", ca=made.ca))
    assert said is not None
    assert said.startswith("Kafka: the server's certificate is for another host name (")
    assert "KAFKA_BOOTSTRAP_SERVERS" in said


async def test_a_server_that_demands_a_client_certificate(made: Certificates) -> None:
    refused = "Kafka: the server refuses our client certificate, or wants one; set KAFKA_CERT_FILE and KAFKA_KEY_FILE"
    with tls_server(made.server, clients=made.ca) as port:
        good = TlsFiles("KAFKA", made.ca, *made.client)
        assert await why(port, good) is None
        for files in (TlsFiles("KAFKA", made.ca), TlsFiles("KAFKA", made.ca, *made.stranger)):
            said = await why(port, files)
            assert said is not None
            assert said.startswith(refused)


async def test_a_port_without_tls_and_one_where_nothing_listens(made: Certificates) -> None:
    with server(first=b"-ERR unknown command\r\n") as port:
        assert await why(port, TlsFiles("KAFKA", made.ca)) == (
            "Kafka: the server does not speak TLS on this port; check the port in KAFKA_BOOTSTRAP_SERVERS, or switch "
            "TLS off"
        )
    assert await why(port, TlsFiles("KAFKA", made.ca)) == (
        "Kafka: nothing listens at the address; check KAFKA_BOOTSTRAP_SERVERS and that it runs"
    )


def test_other_faults_are_not_explained() -> None:
    assert explain(ValueError("a bug"), KAFKA) is None


def test_files_that_cannot_be_used(made: Certificates, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not a certificate")
    chain, key = made.client
    for files, says in [
        (TlsFiles("REDIS", ca=tmp_path / "missing"), "REDIS_CA_FILE: .* cannot be read .*; check path and permissions"),
        (TlsFiles("REDIS", ca=garbage), "REDIS_CA_FILE: .* cannot be used: not in PEM format"),
        (TlsFiles("REDIS", certificate=chain), "REDIS_CERT_FILE is set and REDIS_KEY_FILE is not; set both or none"),
        (TlsFiles("REDIS", key=key), "REDIS_KEY_FILE is set and REDIS_CERT_FILE is not; set both or none"),
        (TlsFiles("REDIS", certificate=chain, key=made.server[1]), "the key does not belong to the certificate"),
    ]:
        with pytest.raises(SettingsError, match=says):
            client_context(files)
