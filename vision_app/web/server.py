"""The API's server: limits of connections and of their idle time, and answers to input that is not HTTP.

A connection costs a file descriptor and some memory, and the pipeline needs both. If there are too many, the oldest one
without a request in work is closed. So an honest caller gets through, even if another caller holds the other
connections. Not here: what a request may ask, how often (`auth.py`, `rate.py`), and how long its answer may take
(`operation.py`).
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web

from .errors import count_refused, plain_error

SHUTDOWN_SECONDS = 5.0
"""Time for requests in work when the worker stops. A slow caller must not delay the stop."""

BUSY_ANSWER = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Connection(web.RequestHandler):
    """One connection. It is idle until a whole request, body included, has arrived, and again after the answer."""

    __slots__ = ("handling",)

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.handling: web.Request | None = None

    @property
    def busy(self) -> bool:
        return self.handling is not None and self.handling.content.is_eof()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Count input that is not HTTP and answer it uniformly. Nothing of it is logged or repeated."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is already on its way")
        count_refused("not_http")
        response = plain_error(status)
        response.force_close()
        return response


@web.middleware
async def mark_busy(request: web.Request, handler: Any) -> web.StreamResponse:
    """Mark connections with a request in work, so that they are not closed to make room. The outermost middleware.

    A request whose body is still arriving is not in work. So slow bodies cannot keep other callers out.
    """
    connection = request.protocol
    if not isinstance(connection, Connection):
        answer: web.StreamResponse = await handler(request)
        return answer
    connection.handling = request
    try:
        answer = await handler(request)
    finally:
        connection.handling = None
    return answer


class BoundedRunner(web.AppRunner):
    """Hands out at most `max_connections` connections, plus those that arrive in one turn of the event loop.

    `cancel`: whether a request's work is cancelled when its caller closes the connection.
    """

    def __init__(
        self,
        app: web.Application,
        *,
        max_connections: int,
        idle_seconds: float,
        shutdown_seconds: float = SHUTDOWN_SECONDS,
        cancel: bool = False,
    ) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=shutdown_seconds, handler_cancellation=cancel)
        self._max_connections, self._idle_seconds = max_connections, idle_seconds

    @property
    def server(self) -> Any:
        """What a site calls for each new connection."""
        return super().server and self._connect

    @property
    def connections(self) -> list[Connection]:
        """The open connections, the oldest first."""
        server = cast(web.Server, super().server)  # set as soon as a site listens
        return [held for held in server.connections if isinstance(held, Connection) and held.transport is not None]

    def _connect(self) -> asyncio.BaseProtocol:
        if len(connected := self.connections) >= self._max_connections:
            idle = next((held for held in connected if not held.busy), None)
            count_refused("connection_replaced" if idle else "too_many_connections")
            if idle is None:
                return _Busy()
            idle.force_close()
        loop = asyncio.get_running_loop()
        # the same timer bounds the wait for a request's headers, also if they come slowly
        return Connection(super().server, loop=loop, keepalive_timeout=self._idle_seconds, access_log=None)


class _Busy(asyncio.Protocol):
    """Answers that the server is busy, and closes the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast(asyncio.Transport, transport)
        connection.write(BUSY_ANSWER)
        connection.close()
