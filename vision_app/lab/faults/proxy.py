"""A TCP proxy in front of one service that misbehaves on request. It does not know the protocol.

It listens on the loopback interface and runs in the caller's event loop. `connection.py` handles the bytes of one
connection.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Literal, get_args

import structlog

from .connection import Connection

log = structlog.get_logger(__name__)

Fault = Literal["down", "reset", "slow", "hang", "half_written"]
"""down: existing connections end, new ones are refused. reset: existing ones get a RST, new ones after some bytes.
slow: bytes trickle. hang: connections are accepted and stay open, no bytes pass. half_written: connections end in the
middle of an answer, some at the first one, some a few answers later."""

FAULTS: tuple[Fault, ...] = get_args(Fault)
LOOPBACK = "127.0.0.1"
BACKLOG = 100


class FaultProxy:
    """Passes connections on to `host`:`port`, except between `inject` and `heal`.

    As in a network, bytes held by "slow" or "hang" are delivered after `heal` if both sides still have the connection
    open. A random generator seeded with `name` chooses where each connection is cut.
    """

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name, self.host, self.port = name, host, port
        self.fault: Fault | None = None
        self.listen_port = 0
        self.moving = asyncio.Event()
        self.moving.set()
        self._random = random.Random(name)  # noqa: S311 - not for secrets
        self._socket: socket.socket | None = None
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._clients: dict[Connection, int] = {}
        self._refused: Callable[[int], bool] = lambda _: False

    async def start(self, listen_port: int = 0) -> int:
        """Listen on `listen_port`, 0 for any free one; returns the port. Raises OSError if it is taken."""
        self._socket = _bound(listen_port)
        self.listen_port = int(self._socket.getsockname()[1])
        self._listen(self._socket)
        return self.listen_port

    def inject(self, fault: Fault) -> None:
        """Misbehave in this way until `heal` or another fault."""
        self.heal()
        self.fault = fault
        log.info("fault_injected", service=self.name, fault=fault, connections=len(self._connections))
        if fault == "hang":
            self.moving.clear()
        if fault == "down":
            self._refuse()
        if fault in ("down", "reset"):
            for connection, task in self._connections.items():
                connection.reset_on_close = fault == "reset"
                task.cancel()

    def heal(self) -> None:
        """Pass all bytes again; does nothing when there is no fault."""
        if self.fault == "down" and self._socket:
            self._listen(self._socket)
        if self.fault:
            log.info("fault_healed", service=self.name, fault=self.fault)
        self.fault = None
        self.moving.set()

    def refuse_clients(self, refused: Callable[[int], bool] | None) -> None:
        """From now on, end and refuse the connections of clients whose port `refused` names; None: of nobody."""
        self._refused = refused or (lambda _: False)
        for connection, task in self._connections.items():
            if self._refused(self._clients[connection]):
                task.cancel()

    async def stop(self) -> None:
        """End all connections and listen no more."""
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for task in self._connections.values():
            task.cancel()
        await asyncio.gather(*self._connections.values(), return_exceptions=True)

    def _listen(self, listener: socket.socket) -> None:
        listener.listen(BACKLOG)
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _refuse(self) -> None:
        """Close, and bind the port again without listening: no other process gets it, and connections are refused."""
        if self._socket:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = _bound(self.listen_port)

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, (_, client_port) = listener.accept()
        except OSError as fault:  # the client has gone, or there are too many open files
            log.warning("fault_proxy_connection_failed", service=self.name, error=repr(fault))
            return
        if self._refused(client_port):
            accepted.close()
            return
        connection = Connection(self, accepted, self._random.randrange(4096), self._random.randrange(6))
        task = asyncio.get_running_loop().create_task(connection.run())
        self._connections[connection] = task
        self._clients[connection] = client_port
        task.add_done_callback(lambda _: self._ended(connection))

    def _ended(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        self._clients.pop(connection, None)
        connection.close()


def _bound(port: int) -> socket.socket:
    """A socket that is bound to the port but does not listen."""
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((LOOPBACK, port))
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made
