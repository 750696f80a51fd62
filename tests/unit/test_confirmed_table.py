"""A table that ends the process if it is ahead of its changelog, and ignores outdated records on recovery."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import faust
import orjson
import pytest
from faust.tables.base import Collection
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_app.streams.confirmed_table import ConfirmedTable
from vision_app.telemetry import metrics

Futures = list["asyncio.Future[Any]"]


def new_table() -> ConfirmedTable:
    app = faust.App("test", store="memory://", Table=ConfirmedTable, key_serializer="raw", value_serializer="raw")
    table: Any = app.Table("posts", key_type=bytes, value_type=bytes, partitions=1)
    assert isinstance(table, ConfirmedTable)
    return table


def record(key: bytes, value: Any, partition: int = 0) -> Any:
    return SimpleNamespace(key=key, value=value, message=SimpleNamespace(value=value, partition=partition))


def row(offset: int, time_ms: int | None = None) -> bytes:
    return orjson.dumps({"applied": {"offset": offset, "time_ms": offset if time_ms is None else time_ms}})


def offset_of(value: bytes) -> int:
    return int(orjson.loads(value)["applied"]["offset"])


def stale() -> float:
    return metrics.REGISTRY.get_sample_value("vision_changelog_stale_total") or 0.0


@pytest.fixture
def futures(monkeypatch: pytest.MonkeyPatch) -> Futures:
    """What Faust's own send_changelog returns: one future per record, resolved when the broker has it."""
    made: Futures = []

    def send(self: Any, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        made.append(asyncio.get_running_loop().create_future())
        return made[-1]

    monkeypatch.setattr(Collection, "send_changelog", send)  # patched: Faust's, there is no broker
    return made


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)  # patched: the end of the process
    return codes


# --- confirming -------------------------------------------------------------------------------------------------------


async def test_confirm_waits_for_every_record_and_for_none_twice(futures: Futures, exits: list[int]) -> None:
    table = new_table()
    table.send_changelog(0, b"a", {})
    table.send_changelog(0, b"b", {})
    confirming = asyncio.create_task(table.confirm())
    futures[0].set_result(None)
    await asyncio.sleep(0)
    assert not confirming.done()
    futures[1].set_result(None)
    await asyncio.wait_for(confirming, 2)
    await asyncio.wait_for(table.confirm(), 2)
    assert exits == []


async def test_confirm_waits_for_all_records_and_cancels_none(futures: Futures, exits: list[int]) -> None:
    table = new_table()
    table.send_changelog(0, b"a", {})
    first, second = asyncio.create_task(table.confirm()), asyncio.create_task(table.confirm())
    await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()
    first.cancel()
    await asyncio.wait([first])
    assert not futures[0].cancelled()
    futures[0].set_result(None)
    await asyncio.wait_for(second, 2)
    assert exits == []


async def test_a_record_that_kafka_refuses_ends_the_process(futures: Futures, exits: list[int]) -> None:
    table = new_table()
    table.send_changelog(0, b"a", {})
    futures[0].set_exception(RuntimeError("broker away"))
    await table.confirm()
    assert exits == [70]


# --- recovering -------------------------------------------------------------------------------------------------------


async def test_rows_are_recovered_in_the_order_of_the_log() -> None:
    table = new_table()
    table.apply_changelog_batch([record(b"a", row(1)), record(b"b", row(2)), record(b"a", row(3))])
    assert dict(table.data) == {b"a": row(3), b"b": row(2)}


@pytest.mark.parametrize("apart", [False, True])
async def test_a_record_that_was_written_late_is_ignored_and_counted(apart: bool) -> None:
    """A worker that was cut off from the group wrote its row after the new owner had written a newer one."""
    table, before = new_table(), stale()
    log = [record(b"a", row(5)), record(b"a", row(4)), record(b"a", row(6))]
    for batch in [[entry] for entry in log] if apart else [log]:
        table.apply_changelog_batch(batch)
    assert table.data[b"a"] == row(6)
    assert stale() == before + 1


async def test_a_late_record_at_the_end_of_the_log_does_not_win() -> None:
    table = new_table()
    table.apply_changelog_batch([record(b"a", row(5)), record(b"a", row(4))])
    assert table.data[b"a"] == row(5)


async def test_a_recreated_inbox_has_small_offsets_and_later_times_and_is_not_stale() -> None:
    table, before = new_table(), stale()
    table.apply_changelog_batch([record(b"a", row(5000, 100)), record(b"a", row(0, 200))])
    assert table.data[b"a"] == row(0, 200)
    assert stale() == before


async def test_a_deleted_row_may_come_again() -> None:
    table = new_table()
    table.apply_changelog_batch([record(b"a", row(1)), record(b"a", None)])
    assert b"a" not in table.data
    table.apply_changelog_batch([record(b"a", row(2))])
    assert table.data[b"a"] == row(2)


async def test_replaying_a_log_over_rows_still_held_changes_and_counts_nothing() -> None:
    """A partition that stays with a worker is replayed from its beginning at every rebalance."""
    table, before = new_table(), stale()
    log = [record(b"a", row(offset)) for offset in range(5)]
    for _ in range(2):
        for entry in log:
            table.apply_changelog_batch([entry])
            assert offset_of(table.data[b"a"]) >= offset_of(entry.value)
        await table.on_recovery_completed(set(), set())
        table.data[b"a"] = row(4)  # as a live row: Faust itself drops recovered rows of partitions that are not here
    assert stale() == before


async def test_rows_without_a_moment_are_taken_as_they_come() -> None:
    table = new_table()
    table.apply_changelog_batch([record(b"t|1", b'{"task": 1}'), record(b"t|1", b'{"task": 2}')])
    assert table.data[b"t|1"] == b'{"task": 2}'


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, 9)), max_size=30),
    st.integers(1, 7),
)
def test_whatever_was_written_late_the_newest_row_of_each_key_remains(log: list[tuple[bytes, int]], size: int) -> None:
    table = new_table()
    records = [record(key, row(offset)) for key, offset in log]
    for start in range(0, len(records), size):
        table.apply_changelog_batch(records[start : start + size])
    newest = {key: row(max(offset for k, offset in log if k == key)) for key, _ in log}
    assert dict(table.data) == newest
