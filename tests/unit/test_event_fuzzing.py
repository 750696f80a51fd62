"""Fuzzing of the way in: any entry is relayed whole or dead-lettered whole, and nothing crashes.

Uses the real bridge, outbox and dead letters, with a Redis and a Kafka that record what they are given.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
import structlog
from aiokafka.errors import MessageSizeTooLargeError

from bridges.redis_in import DLQ_DATA_BYTES, RedisIn
from tests.event_mutations import Fields, entries
from tests.examples import examples
from tests.fakes import FakeApp
from vision_app.events import read_json
from vision_app.messages import DeadLetter, decode
from vision_app.operations.reentry import reentry
from vision_app.settings import load_settings
from vision_app.streams.dead_letters import CUT_HEADER, DeadLetters
from vision_app.streams.outbox import Outbox
from vision_app.telemetry import metrics
from vision_app.topics import DLQ, MAX_MESSAGE_BYTES, UPLOADED

SETTINGS = load_settings()
STREAM = SETTINGS.input_streams[0]
BATCH = 100


class WritesDown:
    """The part of Redis that the way in uses for one batch."""

    def __init__(self) -> None:
        self.acked: set[bytes] = set()
        self.buried: dict[str, dict[str, Any]] = {}

    async def xack(self, stream: str, group: str, *ids: bytes) -> None:
        self.acked.update(ids)

    async def xadd(self, stream: str, fields: dict[str, Any], **_: Any) -> None:
        assert all(isinstance(value, bytes | str | int | float) for value in fields.values()), "Redis refuses others"
        self.buried[str(fields["original_message_id"])] = fields


def way_in() -> tuple[RedisIn, WritesDown, FakeApp]:
    app, redis = FakeApp(), WritesDown()
    app.refuse = lambda topic, value: MessageSizeTooLargeError() if len(value or b"") > MAX_MESSAGE_BYTES else None
    outbox = Outbox(app)
    bridge = RedisIn(app, outbox, DeadLetters(outbox), SETTINGS, "fuzzer", lambda: False)
    bridge._redis = cast(Any, redis)
    return bridge, redis, app


async def survive(seed: int, count: int) -> Counter[str]:
    """Relay `count` mutated entries. None may be lost. Returns how many went where."""
    bridge, redis, app = way_in()
    ended: Counter[str] = Counter()
    batch: list[tuple[bytes, Fields]] = []
    for number, fields in enumerate(entries(seed, count), 1):
        batch.append((f"1763812800000-{number}".encode(), fields))
        if len(batch) == BATCH or number == count:
            with structlog.testing.capture_logs():
                for entry, given in batch:
                    bridge._hold(STREAM, entry, given, attempt=True)
                await bridge._relay_batch([held for _ in range(BATCH) if (held := bridge._waiting.take())])
            ended += accounted_for(batch, redis, app)
            batch, redis.acked, redis.buried = [], set(), {}
            app.sent.clear()
    return ended


def accounted_for(batch: list[tuple[bytes, Fields]], redis: WritesDown, app: FakeApp) -> Counter[str]:
    assert redis.acked == {entry for entry, _ in batch}
    relayed = {sent.body["source_entry_id"]: sent for sent in app.sent if sent.topic == UPLOADED.name}
    letters = {
        letter.offset: letter for letter in (decode(DeadLetter, s.value) for s in app.sent if s.topic == DLQ.name)
    }
    assert len(app.sent) == len(relayed) + len(letters) == len(batch), "each once"
    ended: Counter[str] = Counter()
    for entry, fields in batch:
        name = entry.decode()
        if name in relayed:
            assert name not in redis.buried
            kept_all(relayed[name], fields)
            ended["relayed"] += 1
        else:
            kept_whole(letters[name], redis.buried[name], fields)
            ended[letters[name].error] += 1
    return ended


def kept_all(sent: Any, fields: Fields) -> None:
    """A relayed event can be read again, names the same post, and has all keys of the event."""
    event = read_json(sent.value, default_tenant="nobody")
    assert sent.key == event.key
    assert sent.headers["trace_id"].decode() == event.trace_id
    body = fields.get(b"data") or fields.get(b"payload")
    given = orjson.loads(body) if body else {name.decode(): value.decode() for name, value in fields.items()}
    missing = {name for name, value in given.items() if value is not None} - set(sent.body)
    assert missing <= {"media", "event", "uploaded_at", "channel_id"}, missing
    listed = given.get("media_files", given.get("media"))
    listed = orjson.loads(listed) if isinstance(listed, str) else listed
    if listed is not None:
        assert len(event.media_files) == len(listed)
    for name in ("tenant_id", "post_id"):
        if str(given.get(name) or "").strip():
            assert sent.body[name] in (str(given[name]), str(given[name]).strip())


def kept_whole(letter: DeadLetter, buried: dict[str, Any], fields: Fields) -> None:
    """Both dead letters have everything that fits. The entry can be restored from ours without loss."""
    assert letter.reason
    assert buried["error"]
    body = fields.get(b"data") or fields.get(b"payload")
    if body:
        data = buried["data"]
        data = data if isinstance(data, bytes) else data.encode()
        whole = len(body) <= DLQ_DATA_BYTES
        assert data == (body if whole else body[:DLQ_DATA_BYTES])
        assert whole or buried["data_sha256"] == hashlib.sha256(body).hexdigest()
    if CUT_HEADER in letter.headers:
        return  # too large for a record; S3 has it all
    again = reentry(letter, input_streams=SETTINGS.input_streams, default_tenant="t", now_ms=0)
    assert {as_bytes(name): as_bytes(value) for name, value in (again.fields or {}).items()} == fields


def as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


async def test_three_thousand_entries_are_relayed_or_kept() -> None:
    unexpected = metrics.UNEXPECTED_ERRORS.labels(where="redis_in")._value.get()
    count = examples(3000)
    ended = await survive(seed=20261122, count=count)
    assert sum(ended.values()) == count
    assert ended["relayed"] > count // 4
    assert ended["unreadable"] > count // 10
    assert metrics.UNEXPECTED_ERRORS.labels(where="redis_in")._value.get() == unexpected


@pytest.mark.load
@pytest.mark.timeout(1800)
async def test_a_hundred_and_twenty_thousand_entries_are_relayed_or_kept() -> None:
    started = time.monotonic()
    ended = await survive(seed=6, count=120_000)
    print(SimpleNamespace(seconds=round(time.monotonic() - started), **ended))
    assert sum(ended.values()) == 120_000
    assert min(ended["relayed"], ended["unreadable"]) > 30_000
