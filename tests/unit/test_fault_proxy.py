"""The fault proxy on real sockets: what a client and the service behind it see of each fault."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from vision_app.lab.faults import FAULTS, Fault, FaultProxy, proxied
from vision_app.stack.errors import StackError

ANSWER_BYTES = 1000


class Service:
    """Answers each received byte with a thousand bytes."""

    def __init__(self) -> None:
        self.asked = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1):
                self.asked += 1
                writer.write(b"a" * ANSWER_BYTES)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, proxy: FaultProxy) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.listen_port))

    async def ask(self) -> bytes:
        """One question; fewer bytes than ANSWER_BYTES: the connection ended first."""
        self.writer.write(b"?")
        await self.writer.drain()
        try:
            return await asyncio.wait_for(self.reader.readexactly(ANSWER_BYTES), 10)
        except asyncio.IncompleteReadError as ended:
            return ended.partial

    def close(self) -> None:
        self.writer.transport.abort()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def proxy(service: Service) -> AsyncIterator[FaultProxy]:
    standing = FaultProxy("service", "127.0.0.1", await service.start())
    await standing.start()
    yield standing
    await standing.stop()
    await service.stop()


async def test_without_a_fault_everything_passes_and_ends_are_passed_on(proxy: FaultProxy, service: Service) -> None:
    client = await Client.connect(proxy)
    assert [len(await client.ask()) for _ in range(3)] == [ANSWER_BYTES] * 3
    client.writer.write_eof()
    assert await client.reader.read() == b""
    assert service.asked == 3
    client.close()


async def test_down_ends_connections_and_refuses_new_ones(proxy: FaultProxy) -> None:
    client = await Client.connect(proxy)
    await client.ask()
    proxy.inject("down")
    assert await client.reader.read() == b""
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(proxy)
    client.close()


async def test_reset_is_a_rst_for_old_connections_and_for_new_ones_after_some_bytes(proxy: FaultProxy) -> None:
    client = await Client.connect(proxy)
    await client.ask()
    proxy.inject("reset")
    with pytest.raises(ConnectionResetError):
        await client.reader.read()
    client.close()
    counts = [await _answers_until_reset(proxy) for _ in range(10)]
    assert max(counts) <= 4
    assert len(set(counts)) > 1, "at different places"


async def test_clients_can_be_refused_by_their_port_while_others_go_on(proxy: FaultProxy) -> None:
    cut, other = await Client.connect(proxy), await Client.connect(proxy)
    assert [len(await client.ask()) for client in (cut, other)] == [ANSWER_BYTES] * 2
    ports = {cut.writer.get_extra_info("sockname")[1]}
    proxy.refuse_clients(ports.__contains__)
    assert await cut.reader.read() == b""
    assert len(await other.ask()) == ANSWER_BYTES
    proxy.refuse_clients(lambda _: True)
    refused = await Client.connect(proxy)
    assert await refused.reader.read() == b""
    proxy.refuse_clients(None)
    healed = await Client.connect(proxy)
    assert len(await healed.ask()) == ANSWER_BYTES
    for client in (cut, other, refused, healed):
        client.close()


async def test_slow_is_slow_and_loses_nothing(proxy: FaultProxy) -> None:
    client = await Client.connect(proxy)
    proxy.inject("slow")
    started = time.monotonic()
    assert len(await client.ask()) == ANSWER_BYTES
    assert time.monotonic() - started > 0.2
    client.close()


async def test_hang_moves_nothing_and_what_was_held_arrives_afterwards(proxy: FaultProxy, service: Service) -> None:
    old = await Client.connect(proxy)
    await old.ask()
    proxy.inject("hang")
    new = await Client.connect(proxy)
    asking = [asyncio.create_task(client.ask()) for client in (old, new)]
    done, _ = await asyncio.wait(asking, timeout=0.3)
    assert not done
    assert service.asked == 1
    proxy.heal()
    assert [len(answer) for answer in await asyncio.gather(*asking)] == [ANSWER_BYTES] * 2
    old.close()
    new.close()


async def test_half_written_cuts_in_the_middle_of_an_answer(proxy: FaultProxy, service: Service) -> None:
    proxy.inject("half_written")
    whole = []
    for _ in range(12):
        client, answers = await Client.connect(proxy), 0
        while len(last := await client.ask()) == ANSWER_BYTES:
            answers += 1
        assert 0 < len(last) < ANSWER_BYTES
        whole.append(answers)
        client.close()
    assert service.asked == sum(whole) + len(whole), "the question whose answer was cut was answered"
    assert min(whole) == 0 < max(whole)


@pytest.mark.parametrize("fault", FAULTS)
async def test_after_heal_the_same_port_serves(proxy: FaultProxy, fault: Fault) -> None:
    port = proxy.listen_port
    proxy.inject(fault)
    proxy.heal()
    assert proxy.listen_port == port
    client = await Client.connect(proxy)
    assert len(await client.ask()) == ANSWER_BYTES
    client.close()


@pytest.mark.parametrize("fault", FAULTS)
async def test_stop_ends_everything_whatever_the_fault(proxy: FaultProxy, fault: Fault) -> None:
    client = await Client.connect(proxy)
    await client.ask()
    proxy.inject(fault)
    await proxy.stop()
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(proxy)
    client.close()


async def test_a_service_that_is_away_ends_the_clients_connection(proxy: FaultProxy, service: Service) -> None:
    await service.stop()
    client = await Client.connect(proxy)
    with contextlib.suppress(ConnectionResetError):
        assert await client.reader.read() == b""
    client.close()
    await service.start()


async def test_proxies_stand_before_embedded_services_only(tmp_path: object) -> None:
    with pytest.raises(StackError, match="REDIS_URL"):
        async with proxied({"VISION_HOME": str(tmp_path), "REDIS_URL": "unix:///run/redis.sock"}):
            pass
    plain = {"GIGACHAT_BASE_URL": "http://127.0.0.1:1/api/v1", "GIGACHAT_AUTH_URL": "http://127.0.0.1:1/oauth"}
    with pytest.raises(StackError, match="embedded Kafka"):
        async with proxied({"VISION_HOME": str(tmp_path), **plain}):
            pass
    with pytest.raises(StackError, match="GIGACHAT_BASE_URL and GIGACHAT_AUTH_URL"):
        async with proxied({"VISION_HOME": str(tmp_path)}):
            pass


async def _answers_until_reset(proxy: FaultProxy) -> int:
    client, answers = await Client.connect(proxy), 0
    try:
        while len(await client.ask()) == ANSWER_BYTES:
            answers += 1
    except ConnectionResetError:
        return answers
    finally:
        client.close()
    raise AssertionError("the connection ended without a RST")
