"""GigaChat Vision over HTTP: upload the picture, ask about it, delete it.

This file decides which requests are repeated: only those that certainly had no effect, which are failed connections and
refusals by status. If the result of an upload is unknown, the file is looked up by its unique name and never sent
twice. If the result of a chat request is unknown, `CallLost` is raised. Longer outages are waited out at the gate
(`gate.py`).

A 5xx answer to a chat request may come after the work was done (500: it broke, 502 and 504: the gateway lost it). It is
not documented whether such work is billed, so `CallLost` is raised. Only 501, 503 and 505 say that nothing was begun.
If the whole provider is down, the upload fails first, which costs nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson
import structlog
from aiohttp import FormData

from vision_app.clients.gigachat import gigachat_context
from vision_app.clients.gigachat_http import GigaChatHttp, NotSent, Unanswered, upload_form
from vision_app.providers.base import (
    BeforeChat,
    CallLost,
    CallTrace,
    InputFault,
    Picture,
    ProviderError,
    ProviderOutage,
    RateLimited,
    RawAnswer,
    Refused,
    VisionProvider,
    nothing,
)
from vision_app.providers.gigachat_auth import AccessTokens
from vision_app.providers.gigachat_wire import (
    USER_AGENT,
    Reply,
    call_headers,
    chat_body,
    error_of,
    file_id_of,
    file_ids_named,
    read_chat,
    unique_filename,
    unmasked,
)
from vision_app.providers.pictures import estimate_text_tokens, estimate_tokens
from vision_app.settings import Settings
from vision_app.telemetry import metrics

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0
AUTH_SECONDS = 15.0  # one token request in total
CLEANUP_SECONDS = 5.0  # to find and delete one uploaded file; at most a quarter of the whole time of a call
KEEPALIVE_SECONDS = 4.0  # below the server's idle timeout, so that no request uses a connection that is being closed
MAX_BACKOFF_SECONDS = 8.0
MAX_INLINE_PAUSE_SECONDS = 5.0  # a longer Retry-After is waited out at the gate, without holding a slot
MAX_REPLY_BYTES = 16 * 1024 * 1024

_UPLOAD = "/files"
_CHAT = "/chat/completions"
_NOT_BEGUN = frozenset({501, 503, 505})
"""The 5xx statuses that refuse a request before any work (RFC 9110, 15.6)."""


class _Ambiguous(Exception):
    """The request was sent, maybe only in part, and no complete reply came."""


def _no_body() -> None:
    return None


@dataclass
class _Call:
    """One analysis in progress: the data that a deadline or a cancellation needs."""

    trace: CallTrace
    filename: str
    file_id: str | None = None
    at_server: str | None = None  # the path of an upload or chat request whose result is unknown


class GigaChat(VisionProvider):
    """The account of `settings` at GigaChat (API v1)."""

    name = "gigachat"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._base_url = settings.gigachat_base_url.rstrip("/")
        self._cleanups: set[asyncio.Task[None]] = set()
        self._cleanup_seconds = min(CLEANUP_SECONDS, settings.gigachat_vision_timeout / 4)
        self._opened = AsyncExitStack()

    async def open(self) -> None:
        """Prepare connections; sends nothing. Raises SettingsError when the CA bundle cannot be read."""
        tls = gigachat_context(self._settings)
        self._api = self._client(self._settings.gigachat_base_url, tls, self._settings.gigachat_vision_timeout)
        self._opened.push_async_callback(self._api.close)
        self._auth = self._client(self._settings.gigachat_auth_url, tls, AUTH_SECONDS)
        self._opened.push_async_callback(self._auth.close)
        self._tokens = AccessTokens(self._settings, self._post_auth)
        self._opened.push_async_callback(self._tokens.close)

    async def sign_in(self) -> None:
        """Get an access token, which costs nothing. Raises AccountBlocked when there are no credentials or they are
        refused, RateLimited, ProviderOutage.
        """
        await self._tokens.get()

    async def close(self) -> None:
        if self._cleanups:
            await asyncio.wait(self._cleanups, timeout=CLEANUP_SECONDS)
        await self._opened.aclose()

    @asynccontextmanager
    async def analyze(
        self,
        picture: Picture | None,
        prompt: str,
        trace: CallTrace,
        before_chat: BeforeChat,
        refused: Refused = nothing,
    ) -> AsyncIterator[RawAnswer]:
        started = time.perf_counter()
        call = _Call(trace, unique_filename(picture.mime_type) if picture else "")
        try:
            reply = await self._ask(call, picture, prompt, before_chat, refused)
            yield self._raw(reply, picture, prompt, trace, started)
        finally:
            await self._forget(call)

    # --- steps --------------------------------------------------------------------------------------------------------

    async def _ask(
        self, call: _Call, picture: Picture | None, prompt: str, before_chat: BeforeChat, refused: Refused
    ) -> Reply:
        total, clock = self._settings.gigachat_vision_timeout, asyncio.get_running_loop().time
        due = clock() + total - self._cleanup_seconds
        try:
            async with asyncio.timeout_at(due) as deadline:
                if picture is not None:
                    await self._upload(call, picture)

                async def untimed(hook: BeforeChat) -> None:
                    """Await a hook outside of the deadline: a slow store must not cut off a paid call."""
                    left = (deadline.when() or due) - clock()
                    deadline.reschedule(None)
                    await hook()
                    deadline.reschedule(clock() + left)

                return await self._chat(call, prompt, lambda: untimed(before_chat), lambda: untimed(refused))
        except TimeoutError as late:
            waited = f"no answer within {total} s (GIGACHAT_VISION_TIMEOUT)"
            raise (CallLost(waited) if call.at_server == _CHAT else ProviderOutage(waited)) from late

    async def _upload(self, call: _Call, picture: Picture) -> None:
        def form() -> FormData:  # can be sent only once
            return upload_form(call.filename, picture.content, picture.mime_type)

        try:
            reply = await self._send(call, "POST", _UPLOAD, body=form)
            call.file_id = file_id_of(reply)
        except _Ambiguous as unknown:
            log.info("gigachat_upload_unknown", error=str(unknown), filename=call.filename)
        except ProviderError:
            metrics.FILE_UPLOADS.labels("error").inc()
            raise
        if call.file_id is None:
            call.file_id = await self._find(call)
        metrics.FILE_UPLOADS.labels("error" if call.file_id is None else "success").inc()
        if call.file_id is None:
            raise ProviderOutage("the upload got no usable answer and the file is not listed; trying again later")

    async def _find(self, call: _Call) -> str | None:
        """The id of a file whose upload got no usable answer."""
        try:
            ids = file_ids_named(await self._send(call, "GET", "/files"), call.filename)
        except _Ambiguous as unknown:
            raise ProviderOutage(f"neither the upload nor the list of files was answered ({unknown})") from unknown
        return ids[0] if ids else None

    async def _chat(self, call: _Call, prompt: str, before: BeforeChat, refused: Refused) -> Reply:
        settings = self._settings
        question = chat_body(settings.gigachat_vision_model, prompt, call.file_id, settings.vision_max_output_tokens)
        body = orjson.dumps(question)
        try:
            return await self._send(call, "POST", _CHAT, before=before, refused=refused, body=lambda: body)
        except _Ambiguous as unknown:
            raise CallLost(f"the request was sent and no complete answer came ({unknown})") from unknown

    def _raw(self, reply: Reply, picture: Picture | None, prompt: str, trace: CallTrace, started: float) -> RawAnswer:
        chat = read_chat(reply)
        tokens = chat.tokens
        if not tokens:  # an answered call is never free, even if its usage says so
            tokens = (
                estimate_tokens(len(picture.content), picture.mime_type, self._settings)
                if picture
                else estimate_text_tokens(prompt, self._settings)
            )
            metrics.USAGE_UNKNOWN.labels("missing" if chat.tokens is None else "zero").inc()
            log.warning(
                "gigachat_usage_missing", request_id=trace.request_id, assumed_tokens=tokens, reported=chat.tokens
            )
        return RawAnswer(
            content=chat.content,
            finish_reason=chat.finish_reason,
            model=chat.model or self._settings.gigachat_vision_model,
            tokens=tokens,
            usage=chat.usage,
            request_id=reply.headers.get("X-Request-ID", "")[:128] or None,
            duration_ms=round((time.perf_counter() - started) * 1000),
        )

    # --- deleting -----------------------------------------------------------------------------------------------------

    async def _forget(self, call: _Call) -> None:
        """Delete the uploaded file, also while the call is being cancelled. It never makes the call fail."""
        if call.file_id is None and call.at_server != _UPLOAD:
            return
        task = asyncio.create_task(self._delete(call), name="gigachat-delete")
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)
        await asyncio.shield(task)

    async def _delete(self, call: _Call) -> None:
        try:
            async with asyncio.timeout(self._cleanup_seconds):
                file_id = call.file_id or await self._find(call)
                if file_id is not None:
                    await self._send(call, "POST", f"/files/{file_id}/delete")
        except (ProviderError, _Ambiguous, TimeoutError) as fault:
            if isinstance(fault, InputFault) and fault.status == 404:
                return  # gone already
            metrics.PROVIDER_FILES_LEFT.inc()
            log.warning(
                "gigachat_file_left",
                file_id=call.file_id,
                filename=call.filename,
                error=str(fault) or f"no answer within {self._cleanup_seconds:g} s",
                remedy="delete it at the provider by its file name",
            )

    # --- sending ------------------------------------------------------------------------------------------------------

    async def _send(
        self,
        call: _Call,
        method: str,
        path: str,
        *,
        before: BeforeChat = nothing,
        refused: Refused = nothing,
        body: Callable[[], bytes | FormData | None] = _no_body,
    ) -> Reply:
        """Send until a 2xx comes. Repeats only requests that certainly had no effect. Raises ProviderError, _Ambiguous.

        `body` makes the body of each request: JSON, or a form. Awaits `before` before each request, and `refused`
        before the pause after a request without effect.
        """
        refused_token: str | None = None
        for attempt in itertools.count():
            token = await self._tokens.get(refused_token)
            await before()
            try:
                reply = await self._once(call, method, path, call_headers(token, call.trace), body())
            except ProviderOutage as fault:
                error: ProviderError = fault
            else:
                if reply.ok:
                    return reply
                if reply.status == 401 and refused_token is None:
                    refused_token = token
                    await refused()
                    continue
                if reply.status >= 500 and _may_have_worked(method, path, reply.status):
                    raise _Ambiguous(f"HTTP {reply.status}: {reply.message}")
                error = error_of(reply)
            pause = _pause(error, attempt, self._settings.vision_api_max_retries)
            if pause is None:
                raise error
            metrics.RETRIES.labels("vision_api").inc()
            log.info("gigachat_retry", path=path, attempt=attempt + 1, pause_seconds=round(pause, 2), error=str(error))
            await refused()
            await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def _once(
        self, call: _Call, method: str, path: str, headers: dict[str, str], body: bytes | FormData | None
    ) -> Reply:
        """Send one request. Meanwhile `call.at_server` notes that an upload or a chat request may be at the server."""
        if method == "POST" and path in (_UPLOAD, _CHAT):
            call.at_server = path
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/json"
        try:
            reply = await _exchange(self._api, method, self._base_url + path, headers, body)
        except ProviderOutage:
            call.at_server = None
            raise
        call.at_server = None
        return reply

    async def _post_auth(self, headers: dict[str, str], form: dict[str, str]) -> Reply:
        try:
            async with asyncio.timeout(AUTH_SECONDS):
                url = self._settings.gigachat_auth_url
                return await _exchange(self._auth, "POST", url, headers, FormData(form))
        except TimeoutError as late:
            raise ProviderOutage(f"no access token within {AUTH_SECONDS:g} s; check GIGACHAT_AUTH_URL") from late
        except _Ambiguous as fault:
            raise ProviderOutage(f"the token endpoint broke off ({fault})") from fault

    def _client(self, url: str, tls: ssl.SSLContext, timeout: float) -> GigaChatHttp:
        return GigaChatHttp(
            self._settings,
            url,
            tls,
            connections=2 * self._settings.vision_provider_streams + 2,
            connect_seconds=min(CONNECT_SECONDS, timeout),
            silent_seconds=timeout,
            keepalive_seconds=KEEPALIVE_SECONDS,
            user_agent=USER_AGENT,
        )


async def _exchange(
    http: GigaChatHttp, method: str, url: str, headers: Mapping[str, str], body: bytes | FormData | None
) -> Reply:
    """One request and its whole reply. Raises ProviderOutage (not sent) or _Ambiguous (sent, not answered)."""
    try:
        answer = await http.exchange(method, url, headers, body, MAX_REPLY_BYTES)
    except NotSent as fault:
        raise ProviderOutage(f"cannot be reached: {fault}") from fault
    except Unanswered as fault:
        raise _Ambiguous(str(fault)) from fault
    reply = unmasked(Reply(answer.status, answer.headers, answer.body))
    if reply.ok and answer.headers.get("Content-Type", "").startswith("text/html"):
        host = urlsplit(url).hostname
        raise ProviderOutage(f"{host} answers with a web page; check GIGACHAT_BASE_URL and the proxy")
    return reply


def _may_have_worked(method: str, path: str, status: int) -> bool:
    """Whether a request answered with this 5xx may have had its effect: a file stored, a call billed."""
    return method == "POST" and (path == _UPLOAD or (path == _CHAT and status not in _NOT_BEGUN))


def _pause(error: ProviderError, attempt: int, max_retries: int) -> float | None:
    """Seconds before the next attempt; None: do not try again here."""
    if not isinstance(error, ProviderOutage) or attempt >= max_retries:
        return None
    asked = error.retry_after_seconds if isinstance(error, RateLimited) else None
    if asked is not None and asked > MAX_INLINE_PAUSE_SECONDS:
        return None
    backoff = min(MAX_BACKOFF_SECONDS, 0.5 * 2.0**attempt)
    return (asked or 0.0) + backoff * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
