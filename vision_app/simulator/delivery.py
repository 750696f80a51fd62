"""Sends an answer to the client, or fails as a fault says. Knows connections, not the meaning of answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import orjson
from aiohttp import web

from vision_app.simulator.errors import MESSAGES, api_error, oauth_error
from vision_app.simulator.faults import Chosen, Drip, Drop, Endpoint, Fault, Hang, Reset, Revoke, Status
from vision_app.simulator.state import SIMULATOR, Simulator

_DISCONNECT_POLL_SECONDS = 0.05
_HTML = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>SynGX</center>\r\n</body>\r\n</html>\r\n"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer. `pieces` are sent one by one when `content_type` is an event stream."""

    pieces: tuple[bytes, ...]
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, body: Any, headers: dict[str, str] | None = None) -> Reply:
        return cls((orjson.dumps(body),), headers=headers or {})

    @property
    def streaming(self) -> bool:
        return self.content_type == "text/event-stream"


async def before_work(
    request: web.Request, chosen: Chosen, endpoint: Endpoint, client_id: str
) -> web.StreamResponse | None:
    """Apply a fault that replaces the work; None means that the work goes on. Raises ApiError."""
    sim = request.app[SIMULATOR]
    if chosen.delay_seconds:
        await _sleep(sim, chosen.delay_seconds)
    match chosen.fault:
        case Status(after_work=False) as fault:
            return _refuse(fault, endpoint)
        case Hang(after_work=False):
            return await _hang(request, sim)
        case Drop(after_work=False):
            return _drop(request)
        case Revoke():
            sim.tokens.revoke(client_id)
            raise api_error(401, "Token has expired")
        case _:
            return None


async def deliver(request: web.Request, reply: Reply, fault: Fault | None = None) -> web.StreamResponse:
    """Send `reply`, or break the sending as `fault` says."""
    match fault:
        case Status():
            return _refuse(fault)
        case Hang():
            return await _hang(request, request.app[SIMULATOR])
        case Drop():
            return _drop(request)
        case Reset():
            return await _reset(request, reply)
        case Drip():
            return await _send(request, reply, list(_cut(reply, fault.chunk_bytes)), fault.interval)
        case _ if reply.streaming:
            return await _send(request, reply, list(reply.pieces), 0)
        case _:
            return web.Response(
                body=b"".join(reply.pieces),
                content_type=reply.content_type,
                charset=_charset(reply),
                headers=reply.headers,
            )


def is_disconnected(request: web.Request) -> bool:
    """Whether the client has closed the connection."""
    return request.transport is None or request.transport.is_closing()


def _refuse(fault: Status, endpoint: Endpoint = "chat") -> web.Response:
    message = fault.message or MESSAGES.get(fault.status, "Error")
    oauth = endpoint == "oauth"
    refused = oauth_error(fault.status, fault.status, message) if oauth else api_error(fault.status, message)
    if fault.retry_after is not None:
        refused.headers["Retry-After"] = _retry_after(fault.retry_after, fault.retry_after_format)
    if fault.html:
        page = _HTML.format(f"{fault.status} {refused.body['message']}")
        return web.Response(text=page, status=fault.status, content_type="text/html", headers=refused.headers)
    if fault.in_200:
        refused.status = 200
    return refused.response()


def _retry_after(seconds: float, style: str) -> str:
    return formatdate(time.time() + seconds, usegmt=True) if style == "http-date" else f"{seconds:g}"


async def _hang(request: web.Request, sim: Simulator) -> web.Response:
    while not is_disconnected(request) and not sim.closing.is_set():
        await _sleep(sim, _DISCONNECT_POLL_SECONDS)
    return _drop(request)


def _drop(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.close()
    return web.Response()  # never sent: the connection is closed


async def _reset(request: web.Request, reply: Reply) -> web.StreamResponse:
    half = (sum(map(len, reply.pieces)) + 1) // 2
    response = await _prepare(request, reply)
    await response.write(b"".join(reply.pieces)[:half])
    if request.transport is not None:
        await asyncio.sleep(0.05)  # let the first half arrive before the reset
        request.transport.abort()
    return response


async def _send(request: web.Request, reply: Reply, pieces: list[bytes], interval: float) -> web.StreamResponse:
    response = await _prepare(request, reply)
    sim = request.app[SIMULATOR]
    for piece in pieces:
        if is_disconnected(request) or sim.closing.is_set():
            break
        await response.write(piece)
        if interval:
            await _sleep(sim, interval)
    return response


async def _prepare(request: web.Request, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(headers=reply.headers)
    response.content_type = reply.content_type
    response.charset = _charset(reply)
    if not reply.streaming:
        response.content_length = sum(map(len, reply.pieces))
    await response.prepare(request)
    return response


def _charset(reply: Reply) -> str | None:
    return "utf-8" if reply.content_type == "application/json" else None


def _cut(reply: Reply, size: int) -> Iterator[bytes]:
    body = b"".join(reply.pieces)
    return (body[at : at + size] for at in range(0, len(body), size))


async def _sleep(sim: Simulator, seconds: float) -> None:
    """Sleep, but not past the simulator's end."""
    try:
        await asyncio.wait_for(sim.closing.wait(), seconds)
    except TimeoutError:
        return
