"""The API of a worker with several processes: it passes each request to one of them, and the answer back as it comes.

All go to the first process that is ready, so that limits of a caller, streams of changes and kept thumbnails are
counted once; the others are for the time when it is not. A process that is not ready still answers, as a worker without
a supervisor does; it is asked if no other is there. Not here: who may ask what. The processes decide that; they are
told the caller's address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http import HTTPStatus

import aiohttp
import structlog
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from vision_app.settings import Settings
from vision_app.telemetry import metrics
from vision_app.texts import say
from vision_app.web.client_address import CLIENT_HEADER, KEY_HEADER
from vision_app.web.errors import TRACE, TRACE_HEADER, ApiError

from .processes import Processes, Running

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 3.0
LOOK_SECONDS = 0.5
"""How often a request that waits for its answer looks whether its process still runs and answers."""
WRITE_SECONDS = 45.0
"""A caller that takes nothing of an answer for longer is cut off. The processes' own streams do it after 30 s."""
KEPT_OPEN_SECONDS = 10.0
"""A connection to a process is used again for so long: shorter than VISION_API_IDLE_SECONDS, so that it is not closed
just when the next request is sent."""
HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade", "expect", "content-length"),
    }
)
"""Headers of one connection, and those that aiohttp makes itself."""
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""Headers that aiohttp would add if the caller has not sent them."""


class NoAnswer(Exception):
    """A process gave no answer. `sent`: whether it may have received the request. The message says what happened."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


class Proxy:
    """Passes requests on. `key`: what proves to the processes that a request comes from here."""

    def __init__(self, settings: Settings, processes: Processes, key: str) -> None:
        self._settings, self._processes, self._key = settings, processes, key
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        kept = min(KEPT_OPEN_SECONDS, self._settings.vision_api_idle_seconds / 2)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=kept),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on. Raises ApiError: 408, 413 for its body, 503 if no process answers."""
        body = await self._body(request)
        refused: list[str] = []
        for process in self._targets():
            try:
                answer = await self._ask(process, request, body)
            except NoAnswer as fault:
                metrics.RETRIES.labels(stage="process").inc()
                log.warning("process_gave_no_answer", process=process.name, path=request.path, error=str(fault))
                refused.append(f"{process.name}: {fault}")
                if fault.sent and request.method not in REPEATABLE:
                    raise self._unanswered(refused, sent=True) from fault
                continue
            try:
                return await self._pass_on(request, answer)
            finally:
                answer.release()  # closes the connection if the answer was not read to its end
        raise self._unanswered(refused, sent=False)

    def _targets(self) -> Iterator[Running]:
        return iter(self._processes.in_order())

    async def _body(self, request: web.Request) -> bytes:
        """The whole body, which the processes would not take larger either."""
        limit, most = self._settings.vision_api_timeout_seconds, self._settings.vision_api_max_body_bytes
        found = bytearray()
        try:
            async with asyncio.timeout(limit):
                async for chunk in request.content.iter_any():
                    found += chunk
                    if len(found) > most:
                        raise ApiError(
                            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                            "request_entity_too_large",
                            say("the body is larger than VISION_API_MAX_BODY_BYTES ({most})", most=most),
                        )
        except TimeoutError:
            raise ApiError(
                408, "request_timeout", say("the request's body did not arrive in time; send it again")
            ) from None
        return bytes(found)

    async def _ask(self, process: Running, request: web.Request, body: bytes) -> aiohttp.ClientResponse:
        """The process' answer, of which only the head is read. Raises NoAnswer."""
        assert self._http is not None  # noqa: S101 - opened before the port
        asking = asyncio.ensure_future(
            self._http.request(
                request.method,
                URL(f"{process.service.url}{request.raw_path}", encoded=True),
                data=body or None,
                headers=self._headers(request, body),
                skip_auto_headers=AUTOMATIC,
                allow_redirects=False,
            )
        )
        identity = process.process
        try:
            while not (await asyncio.wait([asking], timeout=LOOK_SECONDS))[0]:
                if process.process != identity or not process.answers:
                    raise NoAnswer(process.trouble, sent=True)
            return asking.result()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as fault:
            text = say("it does not answer at its port yet") if process.runs else process.trouble
            raise NoAnswer(text, sent=False) from fault
        except (aiohttp.ClientError, OSError) as fault:
            raise NoAnswer(say("it broke off: {fault}", fault=type(fault).__name__), sent=True) from fault
        finally:
            if not asking.done():
                asking.cancel()

    def _headers(self, request: web.Request, body: bytes) -> CIMultiDict[str]:
        """The caller's, as they are, without those of its connection, and with its address."""
        named = {name.strip().lower() for name in request.headers.get("Connection", "").split(",")}
        headers = CIMultiDict(
            (name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP | named
        )
        headers[CLIENT_HEADER], headers[KEY_HEADER] = request.remote or "", self._key
        headers.setdefault(TRACE_HEADER, request[TRACE])
        if body or request.headers.get("Content-Length"):
            headers["Content-Length"] = str(len(body))
        return headers

    async def _pass_on(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = CIMultiDict((name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP)
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        if (length := answer.headers.get("Content-Length")) is not None:
            response.content_length = int(length)
        await response.prepare(request)
        try:
            async for chunk in answer.content.iter_any():
                async with asyncio.timeout(WRITE_SECONDS):
                    await response.write(chunk)
            await response.write_eof()
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            # The head is sent, so a broken connection is the only way to say that the rest is missing.
            log.info("answer_cut_off", path=request.path, error=type(fault).__name__)
            if request.transport is not None:
                request.transport.abort()
        return response

    def _unanswered(self, refused: list[str], *, sent: bool) -> ApiError:
        silent = refused or [f"{one.name}: {one.trouble}" for one in self._processes.all]
        why = "; ".join(silent)
        if sent:
            return ApiError(
                503,
                "process_gone",
                say(
                    "the process that worked on it gave no answer ({why}); see whether it was done, then repeat it",
                    why=why,
                ),
            )
        return ApiError(
            503,
            "no_process",
            say("no process of this worker answers ({why}); ask again in a few seconds, or see GET /readyz", why=why),
            headers={"Retry-After": "2"},
        )
