"""The certificate authorities that the downloads of the embedded stack trust."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi

from vision_app.stack.errors import StackError
from vision_app.texts import noted, say

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
"""Each may name a file of certificates in PEM format, as with curl, pip and requests."""

HINT = noted(
    "behind a company's own authority, name its file of certificates: SSL_CERT_FILE=/path/ca.pem or "
    "REQUESTS_CA_BUNDLE=/path/ca.pem"
)


def tls_context() -> ssl.SSLContext:
    """Trusts the system's authorities, those that certifi ships, and those in the files that VARIABLES name.

    Raises StackError when one of the files cannot be used.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    for variable in VARIABLES:
        if path := os.environ.get(variable):
            try:
                context.load_verify_locations(cafile=None if Path(path).is_dir() else path, capath=path)
            except OSError as error:  # OSError includes ssl.SSLError
                raise StackError(
                    say(
                        "{variable}={path} is no file of certificates in PEM format: {error}",
                        variable=variable,
                        path=path,
                        error=error,
                    )
                ) from error
    return context


def is_untrusted(error: BaseException) -> bool:
    """Whether an error, or its cause, is an untrusted certificate of a server."""
    cause: BaseException | None = error
    while cause is not None:
        if "CERTIFICATE_VERIFY_FAILED" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
