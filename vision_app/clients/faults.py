"""Turns what clients raise while connecting into one sentence with a remedy."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from vision_app.texts import say

# X509_V_ERR_… of OpenSSL, as in ssl.SSLCertVerificationError.verify_code
_NOT_YET_VALID, _EXPIRED, _REVOKED = 9, 10, 23
_WRONG_NAME = (62, 64)
_CLIENT_REFUSED = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_UNKNOWN", "HANDSHAKE_FAILURE")
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE")


@dataclass(frozen=True)
class Service:
    """How a service's faults are named.

    `address_variable`: where its address is set. `variables`: first part of the variables of its TLS files (KAFKA for
    KAFKA_CERT_FILE). `ca_variable`: the one for the authority, if its name differs.
    """

    title: str
    address_variable: str
    variables: str
    ca_variable: str = ""


def explain(fault: BaseException, service: Service) -> str | None:
    """What is wrong and what to do, in one sentence without secrets; None if this is no fault of network or TLS."""
    for cause in causes(fault):
        # aiohttp's own errors are of these types, too, but without the attributes; their cause has them
        if isinstance(cause, ssl.SSLCertVerificationError) and hasattr(cause, "verify_code"):
            return _certificate(cause, service)
        if isinstance(cause, ssl.SSLError) and hasattr(cause, "reason"):
            return _tls(cause, service)
    for cause in causes(fault):
        if isinstance(cause, socket.gaierror):
            return say(
                "{title}: the host name cannot be resolved; check {address_variable}",
                title=service.title,
                address_variable=service.address_variable,
            )
        if isinstance(cause, ConnectionRefusedError):
            return say(
                "{title}: nothing listens at the address; check {address_variable} and that it runs",
                title=service.title,
                address_variable=service.address_variable,
            )
        if isinstance(cause, ConnectionResetError | BrokenPipeError):
            return say(
                "{title}: the server closes the connection; check {address_variable}, whether the server "
                "expects TLS on this port, and whether it wants a client certificate",
                title=service.title,
                address_variable=service.address_variable,
            )
        if isinstance(cause, TimeoutError):
            return say(
                "{title}: no answer in time; check {address_variable}, the network and that it runs",
                title=service.title,
                address_variable=service.address_variable,
            )
    return None


def cause_of(fault: BaseException) -> str:
    """The text of an error. Many timeouts have none: then the name of the type."""
    text = str(fault).strip().rstrip(".")
    return text if text.strip("()', ") else type(fault).__name__


def causes(fault: BaseException) -> Iterator[BaseException]:
    """The error, its causes, and the members of groups among them, each once."""
    waiting, seen = [fault], set[int]()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [cause for cause in (current.__cause__, current.__context__) if cause is not None]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions


def _certificate(fault: ssl.SSLCertVerificationError, service: Service) -> str:
    if fault.verify_code in _WRONG_NAME:
        return say(
            "{title}: the server's certificate is for another host name ({verify_message}); use the name "
            "in the certificate in {address_variable}, or have the certificate issued for this name",
            title=service.title,
            verify_message=fault.verify_message,
            address_variable=service.address_variable,
        )
    if fault.verify_code == _EXPIRED:
        return say("{title}: the server's certificate has expired; renew it on the server", title=service.title)
    if fault.verify_code == _NOT_YET_VALID:
        return say(
            "{title}: the server's certificate is not valid yet; check the clocks of both machines", title=service.title
        )
    if fault.verify_code == _REVOKED:
        return say("{title}: the server's certificate was revoked; renew it on the server", title=service.title)
    variable = service.ca_variable or f"{service.variables}_CA_FILE"
    return say(
        "{title}: the server's certificate is signed by an authority that is not trusted here "
        "({verify_message}); name the authority's file in {variable}",
        title=service.title,
        verify_message=fault.verify_message,
        variable=variable,
    )


def _tls(fault: ssl.SSLError, service: Service) -> str:
    reason = (fault.reason or str(fault)).upper()
    if any(word in reason for word in _NO_TLS):
        return say(
            "{title}: the server does not speak TLS on this port; check the port in {address_variable}, or "
            "switch TLS off",
            title=service.title,
            address_variable=service.address_variable,
        )
    if any(word in reason for word in _CLIENT_REFUSED):
        return say(
            "{title}: the server refuses our client certificate, or wants one; set {variables}_CERT_FILE "
            "and {variables}_KEY_FILE to one that its authority has signed",
            title=service.title,
            variables=service.variables,
        )
    return say(
        "{title}: TLS failed ({reason}); check versions and ciphers of the server",
        title=service.title,
        reason=fault.reason or fault,
    )
