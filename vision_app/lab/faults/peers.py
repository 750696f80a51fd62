"""Proxies between the brokers of an embedded cluster, which cut one broker off from the others.

Clients reach a broker that is cut off, and it does not know that the others go on without it: the case in which a
cluster without enough copies would lose what it acknowledged.

The brokers start only when they reach each other, so the proxies must listen before them. They run in a thread of their
own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.kafka import Node

from .proxy import LOOPBACK, FaultProxy

Pid = Callable[[], int | None]


class Peers:
    """The proxies of one cluster. `cut` and `heal` may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, nodes: list[Node]) -> None:
        self._loop = loop
        self._proxies = {
            node.number: [
                FaultProxy(f"{node.name}-brokers", LOOPBACK, node.brokers_port),
                FaultProxy(f"{node.name}-controllers", LOOPBACK, node.controllers_port),
            ]
            for node in nodes
        }
        self._ports = {node.number: (node.peer_brokers_port, node.peer_controllers_port) for node in nodes}

    async def start(self) -> None:
        """Listen. Raises OSError if a port is taken."""
        for number, proxies in self._proxies.items():
            for proxy, port in zip(proxies, self._ports[number], strict=True):
                await proxy.start(port)

    async def stop(self) -> None:
        for proxies in self._proxies.values():
            for proxy in proxies:
                await proxy.stop()

    def cut(self, number: int, pid: Pid) -> None:
        """Cut this broker off: the others get no answer from it, and its own connections to them are refused.

        `pid` returns its process, which may change meanwhile.
        """
        self._loop.call_soon_threadsafe(self._cut, number, pid)

    def heal(self) -> None:
        """Let all brokers reach each other again."""
        self._loop.call_soon_threadsafe(self._heal)

    def _cut(self, number: int, pid: Pid) -> None:
        for other, proxies in self._proxies.items():
            for proxy in proxies:
                if other == number:
                    proxy.inject("hang")
                else:
                    proxy.refuse_clients(lambda port: port in _ports_of(pid()))

    def _heal(self) -> None:
        for proxies in self._proxies.values():
            for proxy in proxies:
                proxy.refuse_clients(None)
                proxy.heal()


def _ports_of(pid: int | None) -> set[int]:
    """The local ports of a process' connections; none if it has ended."""
    with suppress(psutil.Error):
        return {place.laddr.port for place in psutil.Process(pid).net_connections("tcp")} if pid else set()
    return set()


@contextmanager
def between_brokers(home: Home, brokers: int) -> Iterator[Peers]:
    """Proxies for a cluster that is started afterwards in `home`, with `broker_proxies`. Raises OSError."""
    home.root.mkdir(parents=True, exist_ok=True)
    instance = Instance.load(home)
    nodes = [Node.of(instance, number, proxied=True) for number in range(1, brokers + 1)]
    instance.save(home)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="peers", daemon=True)
    thread.start()
    peers = Peers(loop, nodes)
    try:
        asyncio.run_coroutine_threadsafe(peers.start(), loop).result()
        yield peers
    finally:
        asyncio.run_coroutine_threadsafe(peers.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
