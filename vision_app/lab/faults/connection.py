"""One connection through a fault proxy: the client's half, the service's half, and the bytes between them."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from .proxy import FaultProxy

log = structlog.get_logger(__name__)

CHUNK_BYTES = 64 * 1024
SLOW_BYTES, SLOW_SECONDS = 64, 0.02  # 3.2 kB/s each way
RESET = struct.pack("ii", 1, 0)  # linger 0: closing sends RST and drops unsent bytes


class Connection:
    """`bytes_before_reset` and `answers_before_cut` say when "reset" and "half_written" break this connection."""

    def __init__(
        self, proxy: FaultProxy, client: socket.socket, bytes_before_reset: int, answers_before_cut: int
    ) -> None:
        self._proxy, self._client = proxy, client
        self._bytes_left, self._answers_left = bytes_before_reset, answers_before_cut
        self._service: socket.socket | None = None
        self.reset_on_close = False

    async def run(self) -> None:
        """Pass bytes until either side ends, a fault breaks the connection, or the task is cancelled."""
        try:
            await self._proxy.moving.wait()
            await self._relay()
        except* OSError as fault:
            log.debug("fault_proxy_connection_ended", service=self._proxy.name, error=repr(fault.exceptions[0]))

    def close(self) -> None:
        """Close both halves; harmless when they are closed."""
        for half in (self._client, self._service):
            if half is not None and half.fileno() >= 0:
                if self.reset_on_close:
                    half.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                half.close()

    async def _relay(self) -> None:
        self._service = await _connected(self._proxy.host, self._proxy.port)
        self._client.setblocking(False)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pump(self._client, self._service, answers=False))
            both.create_task(self._pump(self._service, self._client, answers=True))

    async def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(source, CHUNK_BYTES):
            await self._pass_on(data, target, answers)
        await self._proxy.moving.wait()
        target.shutdown(socket.SHUT_WR)

    async def _pass_on(self, data: bytes, target: socket.socket, answers: bool) -> None:
        loop = asyncio.get_running_loop()
        await self._proxy.moving.wait()
        while data and self._proxy.fault == "slow":
            await loop.sock_sendall(target, data[:SLOW_BYTES])
            data = data[SLOW_BYTES:]
            await asyncio.sleep(SLOW_SECONDS)
        await self._proxy.moving.wait()
        keep = self._share(data, answers)
        await loop.sock_sendall(target, data[:keep])
        if keep < len(data):
            raise ConnectionAbortedError(f"cut after {keep} of {len(data)} bytes, as told")

    def _share(self, data: bytes, answers: bool) -> int:
        """How many of these bytes pass. If not all of them pass, the connection ends after them."""
        if self._proxy.fault == "reset":
            keep = min(self._bytes_left, len(data))
            self._bytes_left -= keep
            self.reset_on_close = keep < len(data)
            return keep
        if self._proxy.fault == "half_written" and answers and data:
            self._answers_left -= 1
            return len(data) // 2 if self._answers_left < 0 else len(data)
        return len(data)


async def _connected(host: str, port: int) -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, (host, port))
    except BaseException:
        made.close()
        raise
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
