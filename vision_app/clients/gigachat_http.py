"""HTTP/1.1 to GigaChat over aiohttp, which says of each failed request whether it can have reached the server.

httpx takes several times the processor time per request (scripts/step_costs.py).
"""

from __future__ import annotations

import io
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from vision_app.settings import Settings

from .gigachat import gigachat_fault, proxy_for

CHUNK_BYTES = 64 * 1024
NOT_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
"""Errors of aiohttp that come before a connection can be used, so that nothing of the request was sent."""


class NotSent(Exception):
    """Nothing of the request reached the server. The text says why and what to do."""


class Unanswered(Exception):
    """The request was sent, maybe only a part of it, and no complete answer came."""


@dataclass(frozen=True)
class HttpAnswer:
    """A complete answer. Names of headers are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class GigaChatHttp:
    """Connections to one address. `close` it at the end."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        tls: ssl.SSLContext,
        *,
        connections: int,
        connect_seconds: float,
        silent_seconds: float,
        keepalive_seconds: float,
        user_agent: str,
    ) -> None:
        """`silent_seconds`: the longest silence of the server, and the longest wait for a free connection."""
        self._proxy = proxy_for(settings, url)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=tls, keepalive_timeout=keepalive_seconds),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=silent_seconds, sock_connect=connect_seconds, sock_read=silent_seconds
            ),
            headers={"User-Agent": user_agent, "Accept": "application/json"},
            skip_auto_headers=("Accept-Encoding",),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._http.close()

    async def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | aiohttp.FormData | None,
        limit_bytes: int,
    ) -> HttpAnswer:
        """One request and its whole answer. Raises NotSent; Unanswered, also for an answer above `limit_bytes`."""
        try:
            request = self._http.request(
                method, url, headers=headers, data=body, allow_redirects=False, proxy=self._proxy
            )
            async with request as answer:
                content = bytearray()
                while chunk := await answer.content.read(CHUNK_BYTES):
                    content += chunk
                    if len(content) > limit_bytes:
                        answer.close()
                        raise Unanswered(f"the answer exceeds {limit_bytes} bytes")
                return HttpAnswer(answer.status, answer.headers, bytes(content))
        except NOT_CONNECTED as fault:
            raise NotSent(gigachat_fault(fault)) from fault
        except (aiohttp.ClientError, OSError) as fault:
            raise Unanswered(f"{type(fault).__name__}: {fault}") from fault


def upload_form(filename: str, content: bytes, mime_type: str) -> aiohttp.FormData:
    """The body of `POST /files`."""
    form = aiohttp.FormData({"purpose": "general"})
    form.add_field("file", io.BytesIO(content), filename=filename, content_type=mime_type)
    return form
