"""A client of aiokafka that meets a broker which says nothing goes on to the next one."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest

from vision_app.clients.kafka_patience import limit_waits


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """The address of a server that takes connections, reads and never answers."""

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


class Connection:
    """Of aiokafka, with the timeout that each request got."""

    _request_timeout = 0.0

    def __init__(self) -> None:
        self.waited: list[float] = []

    def connected(self) -> bool:
        return True

    async def send(self, _: Any, *, expect_response: bool) -> bool:
        self.waited.append(self._request_timeout)
        return expect_response


async def test_each_request_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "self._request_timeout" in inspect.getsource(AIOKafkaConnection.send), "aiokafka keeps it elsewhere"
    client, connection = AIOKafkaClient(bootstrap_servers="127.0.0.1:1"), Connection()
    monkeypatch.setitem(client._conns, (1, ConnectionGroup.COORDINATION), connection)
    limit_waits(client, 5, lambda request: 160 if isinstance(request, SyncGroupRequest) else 10)
    requests = [HeartbeatRequest("g", 1, "m"), SyncGroupRequest("g", 1, "m", "", []), HeartbeatRequest("g", 1, "m")]
    for request in requests:
        assert await client.send(1, request, group=ConnectionGroup.COORDINATION)
    assert connection.waited == [10, 160, 10]
    client._conns.clear()
    await client.close()


@pytest.mark.parametrize("kind", [AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient])
async def test_whatever_has_a_client_can_be_limited(kind: Any) -> None:
    user = kind(bootstrap_servers="127.0.0.1:1")
    limit_waits(user, 3, lambda _: 40)
    client = user.client if kind is AIOKafkaProducer else user._client
    assert client._request_timeout_ms == 3000
    await (user.close() if kind is AIOKafkaAdminClient else user.stop())


async def test_a_silent_broker_costs_its_time_and_no_more(silent: str) -> None:
    client = AIOKafkaClient(bootstrap_servers=silent)  # by itself it would wait for 40 s
    limit_waits(client, 0.2, lambda _: 40)
    started = time.monotonic()
    with pytest.raises(KafkaConnectionError):
        await client.bootstrap()
    assert time.monotonic() - started < 20
    await client.close()
