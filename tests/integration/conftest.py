"""Fixtures shared by the tests on the embedded services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from vision_app.settings import Settings
from vision_app.stores.postgres import PostgresSink, create_pool


@pytest.fixture
async def pool(stack_settings: Settings) -> AsyncIterator[Any]:
    pool = await create_pool(stack_settings)
    yield pool
    await pool.close()


@pytest.fixture
async def sink(stack_settings: Settings) -> AsyncIterator[PostgresSink]:
    sink = PostgresSink(stack_settings)
    await sink.open()
    yield sink
    await sink.close()
