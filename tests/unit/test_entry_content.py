"""An entry is parsed once: its tenant decides whose turn it is, and the same parse gives the record for Kafka."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import orjson
import pytest

from bridges import redis_in
from bridges.entry_content import UploadedRecord, read_content
from bridges.fair_queue import Held
from bridges.redis_in import RedisIn
from tests.fakes import FakeApp
from vision_app.events import Unreadable, read_entry
from vision_app.settings import load_settings
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.outbox import Outbox
from vision_app.telemetry import metrics

SETTINGS = load_settings()
STREAM, ENTRY = SETTINGS.input_streams[0], b"1763812800000-1"


def fields(**changes: Any) -> dict[bytes, bytes]:
    event = {"tenant_id": "t1", "post_id": "p1", "trace_id": "trace", "media_files": [], **changes}
    return {b"event": b"posts.vision.uploaded", b"data": orjson.dumps(event)}


class FakeRedis:
    """Redis with one entry on its stream."""

    def __init__(self) -> None:
        self.acked: set[bytes] = set()

    async def xack(self, stream: str, group: str, *ids: bytes) -> None:
        self.acked.update(ids)


def test_the_record_names_its_entry_and_the_size_counts_fields_and_value() -> None:
    given = fields()
    content = read_content(STREAM, ENTRY, given, "default")
    record = content.record
    assert isinstance(record, UploadedRecord)
    assert (record.tenant_id, record.post_id, record.trace_id) == ("t1", "p1", "trace")
    body = orjson.loads(record.value)
    assert (body["source_stream"], body["source_entry_id"]) == (STREAM, ENTRY.decode())
    assert content.size_bytes == sum(len(k) + len(v) for k, v in given.items()) + len(record.value)


def test_an_unreadable_entry_keeps_its_fields_and_the_reason() -> None:
    given = fields(post_id=None)
    content = read_content(STREAM, ENTRY, given, "default")
    assert isinstance(content.record, Unreadable)
    assert "post_id" in str(content.record)
    assert content.fields == given


def test_an_unexpected_error_is_counted_and_makes_the_entry_unreadable() -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RecursionError("too deep")

    errors = metrics.UNEXPECTED_ERRORS.labels(where="redis_in")
    before = errors._value.get()
    content = read_content(STREAM, ENTRY, fields(), "default", fail)
    assert isinstance(content.record, Unreadable)
    assert str(content.record) == "RecursionError: too deep"
    assert errors._value.get() == before + 1


async def test_a_held_entry_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str | None] = []

    def count(fields: Any, *, default_tenant: str, entry_id: str | None = None) -> Any:
        parsed.append(entry_id)
        return read_entry(fields, default_tenant=default_tenant, entry_id=entry_id)

    # patched: to count what the way in does through several layers
    monkeypatch.setattr(redis_in, "read_content", partial(read_content, read=count))
    app, redis = FakeApp(), FakeRedis()
    outbox = Outbox(app)
    bridge = RedisIn(app, outbox, DeadLetters(outbox), SETTINGS, "w1", lambda: False)
    bridge._redis = cast(Any, redis)
    bridge._hold(STREAM, ENTRY, fields(), attempt=True)
    await bridge._relay_batch([cast(Held, bridge._waiting.take())])
    assert redis.acked == {ENTRY}
    assert [sent.body["post_id"] for sent in app.sent] == ["p1"]
    assert parsed == [ENTRY.decode()]
