"""Clients of Kafka from the settings: arguments for aiokafka, credentials for Faust, a file for the console tools."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from vision_app.settings import Settings, SettingsError
from vision_app.texts import say

from .kafka_faults import explained
from .kafka_patience import CONNECTING_SECONDS, limit_waits
from .properties import escaped_property
from .tls import TlsFiles, client_context

REQUEST_SECONDS = 40.0
PKCS8 = "PRIVATE KEY-----"
"""In the first line of a key that Java can read, encrypted or not. OpenSSL's older formats name an algorithm there."""


def servers(settings: Settings) -> list[str]:
    """The brokers to begin with, each `host:port`."""
    return [server.strip() for server in settings.kafka_bootstrap_servers.split(",") if server.strip()]


def client_arguments(settings: Settings) -> dict[str, Any]:
    """The arguments with which every aiokafka client connects. Raises SettingsError when a file cannot be used."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": servers(settings),
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": _context(settings),
    }
    if _sasl(settings):
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
        }
    return arguments


def broker_credentials(settings: Settings) -> faust.SASLCredentials | faust.SSLCredentials | None:
    """The same for Faust; None where brokers ask for nothing. Raises SettingsError when a file cannot be used."""
    context = _context(settings)
    if _sasl(settings):
        return faust.SASLCredentials(
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password.get_secret_value(),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


@asynccontextmanager
async def kafka_admin(
    settings: Settings, request_seconds: float = REQUEST_SECONDS
) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises KafkaUnusable with the reason, KafkaError."""
    async with explained(client_arguments(settings)):
        admin = AIOKafkaAdminClient(**client_arguments(settings), request_timeout_ms=int(request_seconds * 1000))
        limit_waits(admin, min(CONNECTING_SECONDS, request_seconds), lambda _: request_seconds)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


@asynccontextmanager
async def kafka_consumer(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A connected consumer without a group. `options`: further arguments. Raises KafkaUnusable, KafkaError."""
    async with explained(client_arguments(settings)):
        made = AIOKafkaConsumer(**client_arguments(settings), enable_auto_commit=False, **options)
        limit_waits(made, CONNECTING_SECONDS, lambda _: REQUEST_SECONDS)
        async with made as consumer:
            yield consumer


@asynccontextmanager
async def kafka_producer(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A connected producer. `options`: further arguments. Raises KafkaUnusable, KafkaError."""
    async with explained(client_arguments(settings)):
        made = AIOKafkaProducer(**client_arguments(settings), **options)
        limit_waits(made, CONNECTING_SECONDS, lambda _: REQUEST_SECONDS)
        async with made as producer:
            yield producer


def tool_properties(settings: Settings) -> str:
    """The configuration of Kafka's own tools, as the text of a properties file. It holds secrets.

    Certificates are in it, not named, so that the tools trust exactly the authorities that our clients trust. Raises
    SettingsError when a file cannot be used.
    """
    lines: dict[str, str] = {"security.protocol": settings.kafka_security_protocol}
    context = _context(settings)
    if context is not None:
        authorities = map(ssl.DER_cert_to_PEM_cert, context.get_ca_certs(binary_form=True))
        lines |= {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": "".join(authorities)}
    if context is not None and settings.kafka_cert_file and settings.kafka_key_file:
        key = settings.kafka_key_file.read_text("utf-8")
        if PKCS8 not in key or any(f"{kind} {PKCS8}" in key for kind in ("RSA", "EC", "DSA")):
            raise SettingsError(
                say(
                    "KAFKA_KEY_FILE: {file} is not in the format PKCS#8, the only one that Kafka's own tools read; "
                    "convert it: openssl pkcs8 -topk8 -in OLD -out NEW",
                    file=settings.kafka_key_file,
                )
            )
        lines |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": settings.kafka_cert_file.read_text("utf-8"),
            "ssl.keystore.key": key,
        }
        if password := settings.kafka_key_password.get_secret_value():
            lines["ssl.key.password"] = password
    if _sasl(settings):
        module = "plain.PlainLoginModule" if settings.kafka_sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
        user, password = settings.kafka_sasl_username, settings.kafka_sasl_password.get_secret_value()
        lines |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
            f"username={_quoted(user)} password={_quoted(password)};",
        }
    return "".join(f"{name}={escaped_property(value)}\n" for name, value in lines.items())


@contextmanager
def tool_configuration(settings: Settings) -> Iterator[int]:
    """An open file with `tool_properties`; a program that inherits it reads it at `tool_path`.

    It has no name in any folder: nobody else can open it, and nothing is left when we are killed.
    """
    with tempfile.TemporaryFile("w+", encoding="ascii") as file:
        file.write(tool_properties(settings))
        file.flush()
        file.seek(0)
        yield file.fileno()


def tool_path(descriptor: int) -> str:
    return f"/dev/fd/{descriptor}"


def tls_files(settings: Settings) -> TlsFiles:
    return TlsFiles(
        "KAFKA",
        settings.kafka_ca_file,
        settings.kafka_cert_file,
        settings.kafka_key_file,
        settings.kafka_key_password.get_secret_value(),
    )


def _context(settings: Settings) -> ssl.SSLContext | None:
    return client_context(tls_files(settings)) if settings.kafka_security_protocol.endswith("SSL") else None


def _sasl(settings: Settings) -> bool:
    return settings.kafka_security_protocol.startswith("SASL")


def _quoted(text: str) -> str:
    """As JAAS quotes: a backslash keeps the next character."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
