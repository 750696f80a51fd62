"""A row that Postgres refuses for what is in it is written without that, and the post is announced all the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

import orjson
import pytest

from tests.samples import AT, analyzed, medium, missing, post
from vision_app.messages import PostResult
from vision_app.stores.base import Rejected
from vision_app.stores.postgres import PostgresSink
from vision_app.telemetry import metrics

FAR = timezone(timedelta(hours=16))
LONG = "".join(Random(12).choices([chr(code) for code in range(0x4E00, 0x9FA5)], k=20_000))
"""Nothing that an index could compress."""


def deep(levels: int = 300) -> Any:
    nested: Any = "bottom"
    for _ in range(levels):
        nested = [nested]
    return nested


async def row_of(pool: Any, result: PostResult) -> dict[str, Any]:
    found = await pool.fetch("SELECT * FROM post_enrichment WHERE post_id = $1", result.event.post_id)
    assert len(found) == 1
    return {**found[0], "data": orjson.loads(found[0]["data"])}


async def media_of(pool: Any, result: PostResult) -> list[Any]:
    statement = "SELECT * FROM post_media_map WHERE post_id = $1"
    return list(await pool.fetch(statement, result.event.post_id))


def reduced_rows() -> float:
    return metrics.REGISTRY.get_sample_value("vision_endings_reduced_total", {"what": "row"}) or 0


HOSTILE: dict[str, tuple[Callable[[], PostResult], list[str]]] = {
    "a trace id that no index takes": (lambda: post(trace_id=LONG), ["trace_id"]),
    "a time further from UTC than Postgres goes": (
        lambda: post(occurred_at=datetime(2026, 11, 22, 12, tzinfo=FAR)),
        ["media.uploaded_at"],
    ),
    "both": (
        lambda: post(trace_id=LONG, occurred_at=datetime(2026, 11, 22, 12, tzinfo=FAR)),
        ["trace_id", "media.uploaded_at"],
    ),
    "more tokens than a number of Postgres": (lambda: post([analyzed(tokens=2**63)]), ["vision_tokens_used"]),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_postgres_refuses_is_left_out_and_named_and_the_post_is_announced(
    sink: PostgresSink, pool: Any, name: str
) -> None:
    make, emptied = HOSTILE[name]
    hostile, siblings = make(), [post(), post([missing()])]
    before = reduced_rows()
    written = await sink.write([siblings[0], hostile, siblings[1]])
    assert written == [siblings[0], hostile, siblings[1]], "all are announced"
    row = await row_of(pool, hostile)
    assert row["data"]["reduced"]["fields"] == emptied
    assert "Postgres refuses it" in row["data"]["reduced"]["reason"]
    assert (row["status"], row["vision_description"], row["vision_provider"]) == ("ok", "Кот на окне", "gigachat")
    assert row["vision_analyzed_at"] == AT
    assert len(await media_of(pool, hostile)) == 1
    for sibling in siblings:
        assert "reduced" not in (await row_of(pool, sibling))["data"]
    assert reduced_rows() == before + 1


async def test_a_result_that_cannot_be_json_has_a_row_and_is_announced(sink: PostgresSink, pool: Any) -> None:
    hostile, sibling = post(deep=deep()), post()
    assert await sink.write([hostile, sibling]) == [hostile, sibling]
    row = await row_of(pool, hostile)
    assert (row["status"], row["provider"], row["album_size"]) == ("ok", "gigachat", 1)
    assert row["vision_analyzed_at"] == AT
    assert row["vision_tokens_used"] == 1320
    assert "data" in row["data"]["reduced"]["fields"]
    assert "cannot be written as JSON" in row["data"]["reduced"]["reason"]


async def test_a_reduced_row_is_written_twice_without_change_and_gives_way_to_a_whole_one(
    sink: PostgresSink, pool: Any
) -> None:
    hostile = post(trace_id=LONG, emission=(1000, 1))
    await sink.write([hostile])
    first = await row_of(pool, hostile)
    assert await sink.write([hostile]) == [hostile]
    again = await row_of(pool, hostile)
    assert {**again, "updated_at": None} == {**first, "updated_at": None}
    event = hostile.event
    mended = post(tenant=event.tenant_id, post_id=event.post_id, media=event.media_files, emission=(2000, 1))
    assert await sink.write([mended]) == [mended]
    row = await row_of(pool, hostile)
    assert "reduced" not in row["data"]
    assert row["trace_id"] == mended.event.trace_id


async def test_a_record_without_a_key_that_postgres_takes_is_still_rejected(sink: PostgresSink) -> None:
    nobody = post().model_copy(update={"status": "a word that no constraint allows"})
    with pytest.raises(Rejected) as rejected:
        await sink.write([post(), nobody])
    assert rejected.value.index == 1


async def test_an_opened_post_with_a_hostile_trace_is_a_row_in_work(sink: PostgresSink, pool: Any) -> None:
    opened = post([None], trace_id=LONG, media=[medium()])
    await sink.write([opened])
    row = await row_of(pool, opened)
    assert row["status"] == "in_work"
    assert row["in_work_since"] is not None
