"""Arguments of the S3 client."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from botocore.credentials import Credentials

from vision_app.settings import Settings

from .faults import Service
from .tls import TlsFiles, client_context

S3 = Service("S3", "S3_ENDPOINT_URL", "S3")


class VerifyingSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """The client's HTTP session, with a context of ours: aiobotocore's own does not compare the host name with the
    certificate (seen in 2.25), and behind a proxy it verifies nothing.
    """

    context: ssl.SSLContext

    def _create_connector(self, proxy_url: str | None) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=self._max_pool_connections, ssl=self.context, **self._connector_args)


def _session(settings: Settings) -> type[VerifyingSession]:
    return type("Session", (VerifyingSession,), {"context": client_context(TlsFiles("S3", settings.s3_ca_file))})


def s3_arguments(settings: Settings, **config: Any) -> dict[str, Any]:
    """The arguments of `aioboto3.Session().client("s3", …)`; `config`: further fields of its configuration.

    With S3_AUTH=role there are no keys among them: the client then looks for a role of the machine, the
    container or the pod. Raises SettingsError when S3_CA_FILE cannot be used.
    """
    arguments: dict[str, Any] = {
        "endpoint_url": settings.s3_endpoint_url,
        "region_name": settings.s3_region,
        "config": AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": settings.s3_addressing_style},
            http_session_cls=_session(settings),
            **config,
        ),
    }
    if settings.s3_auth == "keys":
        arguments["aws_access_key_id"] = settings.s3_access_key_id.get_secret_value()
        arguments["aws_secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
        arguments["aws_session_token"] = settings.s3_session_token.get_secret_value() or None
    return arguments


async def s3_credentials(arguments: Mapping[str, Any], session: Any) -> Any:
    """The credentials by which a client of `session` with these `s3_arguments` signs; None if a role has none."""
    if "aws_access_key_id" not in arguments:
        return await session.get_credentials()
    return Credentials(
        arguments["aws_access_key_id"], arguments["aws_secret_access_key"], arguments["aws_session_token"]
    )


def encryption_arguments(settings: Settings) -> Mapping[str, str]:
    """The arguments of `put_object` that ask for encryption; empty unless S3_SERVER_SIDE_ENCRYPTION is set."""
    kind = settings.s3_server_side_encryption
    found = {"ServerSideEncryption": kind, "SSEKMSKeyId": settings.s3_sse_kms_key_id}
    return {name: value for name, value in found.items() if kind and value}
