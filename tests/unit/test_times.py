"""Times as commands accept and show them: any number is shown, and impossible times are refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from vision_app.cli.times import DURATION, MOMENT, clock, milliseconds
from vision_app.operations.connections import OperationError
from vision_app.operations.hops import windows
from vision_app.operations.kafka_log import KafkaLog, parse_id
from vision_app.operations.unrecorded import _is_entry_id
from vision_app.settings import Settings

HUGE = 2**64 - 616


@pytest.mark.parametrize(
    ("at_ms", "shown"),
    [
        (1_763_800_000_123, "2025-11-22 08:26:40.123"),
        (0, "1970-01-01 00:00:00.000"),
        (-1, "1969-12-31 23:59:59.999"),
        (253_402_300_799_999, "9999-12-31 23:59:59.999"),
        (HUGE, f"not in the years 1 to 9999 ({HUGE} ms)"),
        (-(2**63), f"not in the years 1 to 9999 ({-(2**63)} ms)"),
    ],
)
def test_any_number_of_milliseconds_is_shown(at_ms: int, shown: str) -> None:
    assert clock(at_ms) == shown


@given(st.integers())
def test_no_number_is_too_large_to_be_shown(at_ms: int) -> None:
    assert clock(at_ms)


WRONG = ["9" * 12 + "d", "9" * 5000 + "s", "100001d", "9999-12-31T23:59-10:00", "0001-01-01T00:00+10:00", "10000-01-01"]


@pytest.mark.parametrize("text", WRONG)
def test_implausible_times_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="2026-11-22T18:00"):
        MOMENT.convert(text, None, None)


@pytest.mark.parametrize("text", [*WRONG[:3], "5", "-5m"])
def test_implausible_durations_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="for example 5m"):
        DURATION.convert(text, None, None)


def test_usual_times_mean_what_they_say() -> None:
    assert DURATION.convert("100000d", None, None) == timedelta(days=100_000)
    assert MOMENT.convert("100000d", None, None) < datetime.now(UTC)
    assert MOMENT.convert("2026-11-22T18:00", None, None) == datetime(2026, 11, 22, 18, tzinfo=UTC)
    assert milliseconds(MOMENT.convert("2026-11-22T18:00+03:00", None, None)) == 1_795_359_600_000


@pytest.mark.parametrize("text", ["t-²-1", "t-1-٣", "t-1-" + "9" * 5000, "t--1-1-", "t-1"])
def test_what_is_no_place_in_kafka_is_refused(text: str) -> None:
    with pytest.raises(OperationError, match=re.escape("give it as topic-partition-offset")):
        parse_id(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [(f"{HUGE}-0", True), (f"{2**64}-0", False), ("1727654321000-" + "9" * 20, False), ("1-1", False)],
)
def test_ids_of_entries_are_those_that_redis_takes(text: str, is_one: bool) -> None:
    assert _is_entry_id(text) is is_one


class Consumer:
    """Refuses, like the real consumer, times that do not fit into the protocol's 64 bits."""

    def __init__(self) -> None:
        self.asked: dict[TopicPartition, int] = {}

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 10)

    async def offsets_for_times(self, asked: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        for at_ms in asked.values():
            at_ms.to_bytes(8, signed=True)
        return dict.fromkeys(asked)


async def test_kafka_is_asked_only_for_times_it_knows() -> None:
    log, place = KafkaLog(Settings(), Consumer(), None, frozenset({"t"})), TopicPartition("t", 0)
    for since_ms, until_ms in [*windows([HUGE]), (-(2**70), HUGE), (HUGE, 2**70)]:
        assert await log.between([place], since_ms, until_ms) == {}
