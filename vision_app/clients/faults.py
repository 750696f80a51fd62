"""Turns what clients raise while connecting into one sentence with a remedy."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

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
            return f"{service.title}: the host name cannot be resolved; check {service.address_variable}"
        if isinstance(cause, ConnectionRefusedError):
            return f"{service.title}: nothing listens at the address; check {service.address_variable} and that it runs"
        if isinstance(cause, ConnectionResetError | BrokenPipeError):
            return (
                f"{service.title}: the server closes the connection; check {service.address_variable}, whether the "
                "server expects TLS on this port, and whether it wants a client certificate"
            )
        if isinstance(cause, TimeoutError):
            return f"{service.title}: no answer in time; check {service.address_variable}, the network and that it runs"
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
        return (
            f"{service.title}: the server's certificate is for another host name ({fault.verify_message}); use the "
            f"name in the certificate in {service.address_variable}, or have the certificate issued for this name"
        )
    if fault.verify_code == _EXPIRED:
        return f"{service.title}: the server's certificate has expired; renew it on the server"
    if fault.verify_code == _NOT_YET_VALID:
        return f"{service.title}: the server's certificate is not valid yet; check the clocks of both machines"
    if fault.verify_code == _REVOKED:
        return f"{service.title}: the server's certificate was revoked; renew it on the server"
    variable = service.ca_variable or f"{service.variables}_CA_FILE"
    return (
        f"{service.title}: the server's certificate is signed by an authority that is not trusted here "
        f"({fault.verify_message}); name the authority's file in {variable}"
    )


def _tls(fault: ssl.SSLError, service: Service) -> str:
    reason = (fault.reason or str(fault)).upper()
    if any(word in reason for word in _NO_TLS):
        return (
            f"{service.title}: the server does not speak TLS on this port; check the port in "
            f"{service.address_variable}, or switch TLS off"
        )
    if any(word in reason for word in _CLIENT_REFUSED):
        return (
            f"{service.title}: the server refuses our client certificate, or wants one; set "
            f"{service.variables}_CERT_FILE and {service.variables}_KEY_FILE to one that its authority has signed"
        )
    return f"{service.title}: TLS failed ({fault.reason or fault}); check versions and ciphers of the server"
