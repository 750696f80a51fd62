"""What the pages read from Postgres: whose fault it is when a value cannot be sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from vision_app.lab.faults.proxy import FaultProxy
from vision_app.settings import Settings
from vision_app.stores.postgres import PostgresSink
from vision_app.stores.posts import Wanted
from vision_app.telemetry.metrics import REGISTRY
from vision_app.web.errors import ApiError
from vision_app.web.pulse import LOOK_SECONDS, PATIENCE_SECONDS
from vision_app.web.readers import Readers

BEYOND = datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-10)))


@pytest.fixture
async def readers(stack_settings: Settings) -> AsyncIterator[Readers]:
    sink = PostgresSink(stack_settings)
    await sink.open()  # makes the tables
    await sink.close()
    readers = Readers(stack_settings)
    yield readers
    await readers.close()


def outages() -> float:
    return REGISTRY.get_sample_value("vision_retries_total", {"stage": "db"}) or 0


VALUES: list[dict[str, Any]] = [{"analyzed_after": BEYOND}, {"tenant_id": 7}]


@pytest.mark.parametrize("value", VALUES)
async def test_a_value_that_cannot_be_sent_is_the_callers_fault_and_no_outage(
    readers: Readers, value: dict[str, Any]
) -> None:
    before = outages()
    with pytest.raises(ApiError) as refused:
        async with readers.for_page() as reader:
            await reader.analyzed(Wanted(**value))
    assert (refused.value.status, refused.value.code) == (422, "invalid_request")
    assert outages() == before


async def test_a_connection_error_is_still_an_outage(stack_settings: Settings) -> None:
    away = Readers(
        stack_settings.model_copy(
            update={"database_url": type(stack_settings.database_url)("postgresql://postgres@127.0.0.1:1/x")}
        )
    )
    before = outages()
    with pytest.raises(ApiError) as refused:
        async with away.for_page():
            raise AssertionError("there is no Postgres")
    assert refused.value.status == 503
    assert outages() == before + 1


@pytest.fixture
async def proxied(stack_settings: Settings) -> AsyncIterator[tuple[FaultProxy, Readers]]:
    """Pages whose Postgres can be frozen, with connections that worked before."""
    url = urlsplit(stack_settings.database_url.get_secret_value())
    proxy = FaultProxy("postgres", url.hostname or "", url.port or 5432)
    through = url._replace(netloc=f"{url.username}@127.0.0.1:{await proxy.start()}").geturl()
    readers = Readers(stack_settings.model_copy(update={"database_url": SecretStr(through)}))
    async with readers.pool_for_page() as pool:
        assert await pool.fetchval("SELECT 1") == 1
    yield proxy, readers
    proxy.heal()
    await readers.close()
    await proxy.stop()


async def test_pages_do_not_wait_for_a_postgres_that_is_frozen(proxied: tuple[FaultProxy, Readers]) -> None:
    """Neither those that have a connection, nor those that wait for one, nor those that come later."""
    proxy, readers = proxied

    async def page() -> ApiError:
        with pytest.raises(ApiError) as refused:
            async with readers.pool_for_page() as pool:
                await pool.fetchval("SELECT 1")
        return refused.value

    proxy.inject("hang")
    for _ in range(2):
        began = time.monotonic()
        answers = await asyncio.gather(*(page() for _ in range(8)))
        assert time.monotonic() - began < PATIENCE_SECONDS + LOOK_SECONDS + 2
        assert {(one.status, one.code) for one in answers} == {(503, "store_unavailable")}
        assert {one.text.partition(" ")[0] for one in answers} == {"Postgres"}
    proxy.heal()
    async with readers.pool_for_page() as pool:
        assert await pool.fetchval("SELECT 1") == 1


async def test_a_slow_query_is_waited_for_while_postgres_answers(proxied: tuple[FaultProxy, Readers]) -> None:
    _, readers = proxied
    async with readers.pool_for_page() as pool:
        assert await pool.fetchval("SELECT 7 FROM pg_sleep($1)", PATIENCE_SECONDS + 0.5) == 7
