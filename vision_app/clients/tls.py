"""TLS contexts from files of certificates, and a handshake that shows why a connection fails."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import certifi

from vision_app.settings import SettingsError
from vision_app.texts import say

HANDSHAKE_SECONDS = 5.0
REFUSAL_SECONDS = 0.5


@dataclass(frozen=True)
class TlsFiles:
    """Files in PEM format for the connections to one service.

    `variables`: first part of the variables that name them (`KAFKA` for KAFKA_CA_FILE), for errors. `ca`: the
    authorities that sign the servers' certificates; None: the system's and certifi's. `certificate`, `key`: our own;
    both or none. `password`: of the key, "" for none.
    """

    variables: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    password: str = ""


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """A context that verifies the server's certificate and host name.

    Raises SettingsError, with the variable, when a file cannot be used.
    """
    context = ssl.create_default_context()
    if files.ca is None:
        context.load_verify_locations(certifi.where())
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load(f"{files.variables}_CA_FILE", files.ca, context.load_verify_locations)
    if (files.certificate is None) != (files.key is None):
        given, missing = ("CERT", "KEY") if files.certificate else ("KEY", "CERT")
        raise SettingsError(
            say(
                "{variables}_{given}_FILE is set and {variables}_{missing}_FILE is not; set both or none",
                variables=files.variables,
                given=given,
                missing=missing,
            )
        )
    if files.certificate is not None:
        key, password = files.key, files.password
        _load(
            say("{variables}_CERT_FILE and {variables}_KEY_FILE", variables=files.variables),
            files.certificate,
            lambda path: context.load_cert_chain(path, key, lambda: password),
        )
    return context


def _load(variables: str, path: Path, load: Callable[[Path], None]) -> None:
    try:
        load(path)
    except ssl.SSLError as fault:
        reason = (
            say("the key does not belong to the certificate")
            if "KEY_VALUES_MISMATCH" in str(fault)
            else (say("not in PEM format, or the key's password is wrong or missing"))
        )
        raise SettingsError(
            say("{variables}: {path} cannot be used: {reason}", variables=variables, path=path, reason=reason)
        ) from fault
    except OSError as fault:
        raise SettingsError(
            say(
                "{variables}: {path} cannot be read ({strerror}); check path and permissions",
                variables=variables,
                path=path,
                strerror=fault.strerror,
            )
        ) from fault


async def handshake(host: str, port: int, context: ssl.SSLContext) -> Exception | None:
    """Connect, shake hands and close. Returns why it failed, None if it did not.

    Some clients hide the reason of a failed connection; this asks for it. With TLS 1.3 a server refuses a client's
    certificate only after the handshake, so it waits for a first byte; silence counts as success.
    """
    return await asyncio.to_thread(_handshake, host, port, context)


def _handshake(host: str, port: int, context: ssl.SSLContext) -> Exception | None:
    try:
        with (
            socket.create_connection((host, port), HANDSHAKE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            secured.settimeout(REFUSAL_SECONDS)
            try:
                if not secured.recv(1):
                    return ConnectionResetError(say("the server closed the connection after the handshake"))
            except TimeoutError:
                return None
    except OSError as fault:  # ssl.SSLError and TimeoutError are such
        return fault
    return None
