"""Bytes that an earlier version (5b57af2, 2026-11-23) has written are read with the same meaning.

The fixture holds the data of its demo and of some test posts of every kind: all records of all topics and changelogs,
all answers and call records in S3. A rolling upgrade has to read all of them.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from vision_app import topics
from vision_app.audit.kafka_reader import ledger_version
from vision_app.domain.budget import BudgetRow, Parked
from vision_app.domain.calls import CallRecord, StoredAnswer
from vision_app.domain.posts import PostRow
from vision_app.messages import decode
from vision_app.operations.kafka_log import Record
from vision_app.operations.neighbours import announced

FIXTURE = Path(__file__).parent.parent / "fixtures" / "recorded.jsonl.gz"
ANNOUNCED = (topics.ANALYZED.name, topics.SKIPPED.name)
MODELS: dict[str, Any] = {
    **{topic.name: topic.model for topic in topics.ALL if topic.name not in ANNOUNCED},
    "vision-posts-changelog": PostRow,
    "vision-budget-changelog": BudgetRow,
    "vision-parked-changelog": Parked,
}


def recorded(kind: str) -> Iterator[dict[str, Any]]:
    with gzip.open(FIXTURE) as lines:
        yield from (line for line in map(orjson.loads, lines) if line["kind"] == kind)


def contains(new: Any, old: Any, at: str = "") -> str | None:
    """What the new form lacks or changes of the old one. Fields added since are allowed."""
    if isinstance(old, dict) and isinstance(new, dict):
        return next((where for key in old if (where := contains(new.get(key), old[key], f"{at}.{key}"))), None)
    if isinstance(old, list) and isinstance(new, list) and len(new) == len(old):
        return next(
            (where for i, (n, o) in enumerate(zip(new, old, strict=True)) if (where := contains(n, o, f"{at}[{i}]"))),
            None,
        )
    return None if new == old else f"{at}: {old!r} became {new!r}"


@pytest.mark.parametrize("topic", MODELS)
def test_every_record_of_a_topic_is_read_and_says_the_same(topic: str) -> None:
    records = [one for one in recorded("kafka") if one["topic"] == topic and one["value"] is not None]
    assert records
    for one in records:
        read = decode(MODELS[topic], one["value"].encode())
        wrong = contains(read.model_dump(mode="json"), orjson.loads(one["value"]))
        assert wrong is None, f"{topic}-{one['partition']}-{one['offset']}{wrong}"


def test_every_message_goes_to_the_topic_and_key_it_went_to() -> None:
    routed = {topic.name for topic in topics.ALL} - {
        "posts.vision.uploaded",
        "posts.vision.analyzed",
        "posts.vision.skipped",
    }
    for one in recorded("kafka"):
        if one["topic"] in routed:
            message = decode(MODELS[one["topic"]], one["value"].encode())
            places = [(topic.name, key.decode()) for topic, key in topics.routes(message)]
            assert (one["topic"], one["key"]) in places


def test_what_was_announced_is_read_by_the_neighbours() -> None:
    bodies = [
        one["value"] for one in recorded("kafka") if one["topic"] in ("posts.vision.analyzed", "posts.vision.skipped")
    ]
    assert len(bodies) > 20
    for body in bodies:
        event = announced("1-0", {"event": orjson.loads(body)["event_type"], "data": body})
        assert event.post_id


def test_the_accountant_reads_the_ledgers() -> None:
    for one in recorded("kafka"):
        if one["topic"] == "vision-budget-changelog":
            record = Record(one["topic"], one["partition"], one["offset"], one["time_ms"], one["key"].encode(), b"")
            version = ledger_version(record, orjson.loads(one["value"]), 250_000, gap=False)
            assert version.tenant_id == orjson.loads(one["value"])["tenant_id"]


def test_every_answer_and_call_record_in_s3_is_read_and_says_the_same() -> None:
    read = {"call": 0, "answer": 0}
    for one in recorded("s3"):
        kind, model = ("call", CallRecord) if "/.calls/" in one["key"] else ("answer", StoredAnswer)
        found = TypeAdapter(model).validate_json(one["value"])
        assert contains(found.model_dump(mode="json"), orjson.loads(one["value"])) is None, one["key"]
        read[kind] += 1
    assert min(read.values()) >= 8, read
