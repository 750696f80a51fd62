"""What the pages read from Postgres: whose fault it is when a value cannot be sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from vision_app.settings import Settings
from vision_app.stores.postgres import PostgresSink
from vision_app.stores.posts import Wanted
from vision_app.telemetry.metrics import REGISTRY
from vision_app.web.errors import ApiError
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
