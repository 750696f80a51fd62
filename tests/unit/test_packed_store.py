"""The packed memory of a table is read and written like any other, through recovery and deletion."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import faust
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_app.streams.confirmed_table import ConfirmedTable
from vision_app.streams.packed_store import PACKED, PackedStore, PackedValues

KEYS = st.binary(min_size=1, max_size=2)
VALUES = st.none() | st.binary(max_size=200)
STEPS = st.lists(st.tuples(st.sampled_from(["set", "del", "pop"]), KEYS, VALUES), max_size=30)


@given(STEPS)
def test_it_behaves_like_a_dictionary(steps: list[tuple[str, bytes, bytes | None]]) -> None:
    packed, plain = PackedValues(), dict[bytes, bytes | None]()
    for step, key, value in steps:
        if step == "set":
            packed[key] = plain[key] = value
        elif step == "pop":
            assert packed.pop(key, b"none") == plain.pop(key, b"none")
        elif key in plain:
            del packed[key], plain[key]
        assert list(packed) == list(plain)
        assert dict(packed) == plain
        assert (key in packed, len(packed)) == (key in plain, len(plain))


def test_a_missing_key_is_missing() -> None:
    with pytest.raises(KeyError):
        PackedValues()[b"a"]


def new_table() -> Any:
    app = faust.App("test", store="memory://", Table=ConfirmedTable, key_serializer="raw", value_serializer="raw")
    return app.Table("posts", key_type=bytes, value_type=bytes, partitions=1, store=PACKED)


def record(key: bytes, value: bytes | None, partition: int = 0) -> Any:
    return SimpleNamespace(key=key, value=value, message=SimpleNamespace(value=value, partition=partition))


def row(offset: int, text: str = "") -> bytes:
    return orjson.dumps({"applied": {"offset": offset, "time_ms": offset}, "text": text})


async def test_a_table_recovers_into_it_deletes_and_forgets_other_partitions() -> None:
    table = new_table()
    assert isinstance(table.data, PackedStore)
    table.apply_changelog_batch([record(b"a", row(1)), record(b"b", row(2)), record(b"c", row(3), partition=1)])
    table.apply_changelog_batch([record(b"a", row(4)), record(b"b", None), record(b"a", row(3))])
    assert dict(table.items()) == {b"a": row(4), b"c": row(3)}, "late records are skipped, deleted rows are gone"
    await table.on_recovery_completed({("changelog", 0)}, set())
    assert table.get(b"a") == row(4)
    assert list(table) == [b"a"]


def test_a_row_takes_less_memory() -> None:
    values = PackedValues()
    values[b"a"] = plain = row(1, "Фотография, сцена при обычном освещении; " * 20)
    packed = values._packed[b"a"]
    assert packed is not None
    assert len(packed) < len(plain) / 2
