"""A dead letter holds everything needed to inspect and replay a message, and says where it came from."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeApp, event
from vision_app import __version__
from vision_app.analysis.results import failed_by_dead_letter
from vision_app.messages import DeadLetter, MediaTask, Medium, Release, Reserve, decode
from vision_app.stores.s3 import StoreUnavailable
from vision_app.streams.dead_letters import CUT_HEADER, DeadLetters, Origin, dead_letter
from vision_app.streams.outbox import Outbox
from vision_app.streams.ownership import LeftUnacked
from vision_app.telemetry import metrics


@pytest.fixture
def app() -> FakeApp:
    return FakeApp()


async def test_an_event_is_kept_whole(app: FakeApp) -> None:
    dead = event(41, b'{"a": 1}', partition=3, topic="vision.media", key=b"t:ab", headers={"trace_id": b"tr"})
    letter = await DeadLetters(Outbox(app)).put_event(dead, ValueError("no tenant"), keep_trying=lambda: True)
    (sent,) = app.sent
    assert (sent.topic, sent.key) == ("vision.dlq", b"t:ab")
    kept = decode(DeadLetter, sent.value)
    assert kept == letter
    assert (kept.id, kept.origin, kept.partition, kept.offset) == ("vision.media-3-41", "vision.media", 3, "41")
    assert (kept.key, kept.value, kept.headers, kept.trace_id) == ("t:ab", '{"a": 1}', {"trace_id": "tr"}, "tr")
    assert (kept.error, kept.reason, kept.attempts) == ("ValueError", "no tenant", 1)
    assert kept.first_seen_ms == int(dead.message.timestamp * 1000) <= kept.last_seen_ms
    assert kept.code_version == __version__


@given(st.binary(max_size=200))
def test_any_bytes_come_back(value: bytes) -> None:
    letter = dead_letter(Origin("x", "vision.media", 0), value, "rejected")
    assert (letter.value is None) != (letter.value_base64 is None)
    kept = decode(DeadLetter, letter.encode())
    whole = kept.value.encode() if kept.value is not None else base64.b64decode(kept.value_base64 or "")
    assert whole == value


async def test_a_dead_letter_names_tenant_and_post(app: FakeApp) -> None:
    task = MediaTask(tenant_id="t1", post_id="p1", trace_id="tr1", medium=Medium(sha256="ab"), dispatch=1)
    letters = DeadLetters(Outbox(app))
    for offset, message in enumerate((task, Reserve(tenant_id="t1", task=task, estimate=5))):
        await letters.put_event(event(offset, message.encode()), "refused", keep_trying=lambda: True)
    await letters.put_event(
        event(3, b'{"data": "{\\"tenant_id\\": \\"t1\\", \\"post_id\\": \\"p1\\"}"}'), "x", keep_trying=lambda: True
    )
    for letter in app.values("vision.dlq"):
        assert (letter["tenant_id"], letter["post_id"]) == ("t1", "p1")
    assert app.values("vision.dlq")[1]["trace_id"] == "tr1"


@pytest.mark.parametrize("value", [b"[1]", b"3", b'{"event": 3, "tenant_id": 5}', b"[" * 100_000, None, b'"\\ud800"'])
async def test_bytes_that_are_not_a_message_are_kept_without_tenant_and_post(app: FakeApp, value: bytes | None) -> None:
    await DeadLetters(Outbox(app)).put_event(event(0, value), "unreadable", keep_trying=lambda: True)
    (letter,) = app.values("vision.dlq")
    assert letter["tenant_id"] is None
    assert letter["value"].encode() == (value or b"")


async def test_companions_go_first_and_know_the_letter(app: FakeApp) -> None:
    before = _counted()
    await DeadLetters(Outbox(app)).put_event(
        event(0),
        RuntimeError("x"),
        keep_trying=lambda: True,
        companions=lambda letter: [Release(tenant_id="t", grant_id=letter.id)],
    )
    assert [sent.topic for sent in app.sent] == ["vision.budget", "vision.dlq"]
    assert app.sent[0].body["grant_id"] == app.sent[1].body["id"]
    assert _counted() == before + 1


async def test_a_letter_that_kafka_does_not_take_leaves_the_event(app: FakeApp) -> None:
    app.refuse = lambda topic, value: KafkaConnectionError("away")
    before = _counted()
    with pytest.raises(LeftUnacked):
        await DeadLetters(Outbox(app)).put_event(event(0), "x", keep_trying=lambda: False)
    assert _counted() == before


@pytest.mark.parametrize("value", [b'"' * 2_000_000, b"\xff" * 2_000_000, b"\x01" * 2_000_000])
async def test_an_oversized_letter_is_cut_and_marked(app: FakeApp, value: bytes) -> None:
    limit = 2 * 1024 * 1024
    app.refuse = lambda topic, sent: MessageSizeTooLargeError("big") if len(sent or b"") > limit else None
    dead = event(7, value, partition=2, topic="vision.media", headers={f"h{n}": b"v" * 5000 for n in range(50)})
    await DeadLetters(Outbox(app)).put_event(dead, "Oversized", keep_trying=lambda: True)
    (letter,) = app.values("vision.dlq")
    assert int(letter["headers"][CUT_HEADER]) >= 2_000_000
    assert "vision.media, partition 2, offset 7" in letter["reason"]


LIMIT = 2 * 1024 * 1024


def kafka_takes(limit: int, app: FakeApp) -> None:
    """The broker's own rule, with key and headers, as `FakeApp` cannot know it: `limit` bytes a value."""
    app.refuse = lambda topic, sent: MessageSizeTooLargeError("big") if len(sent or b"") > limit else None


def hostile_ids() -> Any:
    """Everything about the event is too large, its ids first."""
    task = MediaTask(
        tenant_id="t" * 2_000_000,
        post_id="p" * 2_000_000,
        trace_id="x" * 2_000_000,
        medium=Medium(sha256="ab"),
        dispatch=1,
    )
    headers = {"trace_id": b"x" * 2_000_000}
    return event(7, task.encode(), partition=2, topic="vision.media", key=b"k" * 2_000_000, headers=headers)


@pytest.mark.parametrize("limit", [LIMIT, 900_000, 30_000])
async def test_a_letter_whose_parts_are_all_too_large_shrinks_until_it_fits(app: FakeApp, limit: int) -> None:
    kafka_takes(limit, app)
    dead = hostile_ids()
    reduced = _reduced("letter")
    await DeadLetters(Outbox(app)).put_event(dead, "x" * 9_000_000, keep_trying=lambda: True)
    (sent,) = [sent for sent in app.sent if sent.topic == "vision.dlq"]
    letter = decode(DeadLetter, sent.value)
    assert len(sent.key or b"") + len(sent.value or b"") + sum(map(len, sent.headers.values())) < limit + 10_000
    assert (letter.id, letter.origin, letter.partition, letter.offset) == ("vision.media-2-7", "vision.media", 2, "7")
    assert letter.headers["vision-sha256"] == hashlib.sha256(dead.value).hexdigest()
    assert f"value={len(dead.value)}" in letter.headers["vision-sizes"]
    assert letter.reason.startswith("x" * 1000)
    assert _reduced("letter") == reduced + 1


async def test_the_whole_of_a_letter_that_is_too_large_is_in_s3(app: FakeApp) -> None:
    kafka_takes(LIMIT, app)
    kept: dict[str, bytes] = {}

    async def keep(letter_id: str, content: bytes) -> str:
        kept[letter_id] = content
        return f"s3://bucket/{letter_id}"

    dead = hostile_ids()
    await DeadLetters(Outbox(app), keep).put_event(dead, "Oversized", keep_trying=lambda: True)
    (letter,) = app.values("vision.dlq")
    assert letter["headers"]["vision-whole"] == "s3://bucket/vision.media-2-7"
    assert "s3://bucket/vision.media-2-7" in letter["reason"]
    whole = decode(DeadLetter, kept["vision.media-2-7"])
    assert (whole.value or "").encode() == dead.value
    assert whole.key == "k" * 2_000_000


async def test_a_letter_that_fits_is_not_put_into_s3(app: FakeApp) -> None:
    async def keep(letter_id: str, content: bytes) -> str:
        raise AssertionError("nothing was too large")

    await DeadLetters(Outbox(app), keep).put_event(event(0), "x", keep_trying=lambda: True)
    assert len(app.values("vision.dlq")) == 1


@pytest.mark.parametrize("how", ["refuses", "hangs", "breaks"])
async def test_an_unavailable_s3_neither_delays_nor_fails_a_letter(app: FakeApp, how: str) -> None:
    kafka_takes(LIMIT, app)

    async def keep(letter_id: str, content: bytes) -> str:
        if how == "hangs":
            await asyncio.Event().wait()
        raise StoreUnavailable("away") if how == "refuses" else ZeroDivisionError

    failed = metrics.REGISTRY.get_sample_value("vision_whole_letters_total", {"result": "failed"}) or 0
    letters = DeadLetters(Outbox(app), keep, whole_seconds=0.01 if how == "hangs" else 60)
    await letters.put_event(hostile_ids(), "Oversized", keep_trying=lambda: True)
    (letter,) = app.values("vision.dlq")
    assert "vision-whole" not in letter["headers"]
    assert "vision.media, partition 2, offset 7" in letter["reason"]
    assert metrics.REGISTRY.get_sample_value("vision_whole_letters_total", {"result": "failed"}) == failed + 1


async def test_a_companion_that_is_too_large_goes_out_smaller(app: FakeApp) -> None:
    kafka_takes(LIMIT, app)
    task = MediaTask(tenant_id="t", post_id="p", trace_id="x" * 2_500_000, medium=Medium(sha256="ab"), dispatch=1)
    await DeadLetters(Outbox(app)).put_event(
        event(7, task.encode(), topic="vision.media"),
        "Oversized",
        keep_trying=lambda: True,
        companions=lambda letter: [failed_by_dead_letter(task, letter), Release(tenant_id="t", grant_id="g")],
    )
    (outcome,) = app.values("vision.posts")
    (letter,) = app.values("vision.dlq")
    assert (outcome["tenant_id"], outcome["post_id"], outcome["sha256"]) == ("t", "p", "ab")
    assert outcome["outcome"]["dead_letter_id"] == letter["id"]
    assert [release["grant_id"] for release in app.values("vision.budget")] == ["g"]


async def test_a_companion_that_fits_in_no_form_does_not_hold_the_letter_back(app: FakeApp) -> None:
    kafka_takes(LIMIT, app)
    await DeadLetters(Outbox(app)).put_event(
        event(7),
        "Oversized",
        keep_trying=lambda: True,
        companions=lambda letter: [Release(tenant_id="t" * 3_000_000, grant_id="g")],
    )
    assert len(app.values("vision.dlq")) == 1
    assert app.values("vision.budget") == []


async def test_companions_that_cannot_be_made_do_not_hold_the_letter_back(app: FakeApp) -> None:
    def companions(letter: DeadLetter) -> list[Release]:
        raise RecursionError

    await DeadLetters(Outbox(app)).put_event(event(7), "x", keep_trying=lambda: True, companions=companions)
    assert len(app.values("vision.dlq")) == 1


async def test_an_event_that_cannot_be_described_leaves_its_place(app: FakeApp) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    await DeadLetters(Outbox(app)).put_event(event(7, topic="vision.media"), Odd(), keep_trying=lambda: True)
    (letter,) = app.values("vision.dlq")
    assert (letter["id"], letter["error"]) == ("vision.media-0-7", "Odd")


async def test_an_error_that_is_not_the_events_fault_is_raised(app: FakeApp) -> None:
    app.refuse = lambda topic, value: RuntimeError("a fault of this program")
    with pytest.raises(RuntimeError):
        await DeadLetters(Outbox(app)).put_event(event(0), "x", keep_trying=lambda: True)


def _reduced(what: str) -> float:
    return metrics.REGISTRY.get_sample_value("vision_endings_reduced_total", {"what": what}) or 0


def _counted() -> float:
    labels = ({"base_event": "topic", "error_code": code} for code in ("RuntimeError", "rejected"))
    return sum(metrics.REGISTRY.get_sample_value("events_dlq_total", label) or 0 for label in labels)
