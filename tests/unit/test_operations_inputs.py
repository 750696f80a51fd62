"""The pure parts of: test posts, inputs rebuilt from rows, ranges of offsets, the test's own picture."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from aiokafka import TopicPartition
from PIL import Image

from tests.samples import AT, analyzed
from vision_app.cli import COMMANDS, main
from vision_app.cli.times import DURATION, MOMENT, clock, milliseconds, printable
from vision_app.events import Unreadable, read_entry
from vision_app.messages import Emission, Medium, MediumResult, Outcome, PostResult, Skipped, Uploaded
from vision_app.operations.connections import OperationError
from vision_app.operations.e2e import StepFailed, commented, picture
from vision_app.operations.inputs import parse_offsets
from vision_app.operations.kafka_log import parse_id
from vision_app.operations.neighbours import never_uploaded
from vision_app.operations.publishing import Batch, Kind, PostKind, fields, kinds
from vision_app.operations.rows import event_of
from vision_app.operations.waiting import _why
from vision_app.stores.rows import enrichment_row
from vision_app.topics import UPLOADED

VALID = Medium(sha256="ab" * 32, s3_key="media/t/ab/x.jpg", mime_type="image/jpeg", size_bytes=10)


def batch(wish: PostKind, count: int = 10, **fields: Any) -> Batch:
    return Batch(count=count, wish=wish, tenant_id="t", prefix="p", stream="s", **fields)


def test_a_mix_is_sixty_thirty_ten() -> None:
    assert Counter(kinds(batch("mixed", 100))) == {"valid": 60, "missing": 30, "poison": 10}
    assert kinds(batch("missing", 3)) == ["missing"] * 3


@pytest.mark.parametrize("kind", ["valid", "missing"])
def test_ids_and_traces_are_numbered(kind: Kind) -> None:
    event = read_entry(fields(batch("mixed"), 7, kind, VALID), default_tenant="default")
    assert (event.post_id, event.trace_id, event.tenant_id) == ("p-0007", "t-test-0007", "t")
    assert (event.media_files[0].sha256 == VALID.sha256) is (kind == "valid")


def test_a_poison_post_is_unreadable_or_has_no_object() -> None:
    with pytest.raises(Unreadable):
        read_entry(fields(batch("poison"), 1, "poison", VALID), default_tenant="default")
    event = read_entry(fields(batch("poison", poison="missing-key"), 1, "poison", VALID), default_tenant="default")
    assert event.media_files[0].s3_key != VALID.s3_key


def test_a_missing_key_may_be_named() -> None:
    event = read_entry(fields(batch("missing", s3_key="no/such/key.jpg"), 1, "missing", VALID), default_tenant="d")
    assert event.media_files[0].s3_key == "no/such/key.jpg"


def test_an_event_comes_back_from_its_row() -> None:
    media = [VALID.model_copy(update={"telegram_file_id": "f"}), never_uploaded("t", "x"), VALID]
    event = Uploaded(
        trace_id="tr",
        occurred_at=AT,
        idempotency_key="k",
        tenant_id="t",
        post_id="p",
        channel_id="c",
        media_files=media,
    ).model_copy(update={"source_entry_id": "1-0"})
    outcomes: list[Outcome] = [analyzed(), Skipped(reason="s3_missing"), analyzed()]
    results = [MediumResult(medium=m, outcome=o, dispatch=1) for m, o in zip(media, outcomes, strict=True)]
    result = PostResult(
        emission=Emission(time_ms=1, offset=1),
        status="partial",
        event=event,
        media=results,
        opened_ms=1,
        completed_ms=2,
    )
    assert event_of(enrichment_row(result)) == event
    assert event_of({"data": {}}) is None


def test_stretches_of_offsets() -> None:
    place = TopicPartition(UPLOADED.name, 3)
    assert parse_offsets(["3:100-200"]) == {place: (100, 201)}
    assert parse_offsets(["3:100-"])[place][1] > 2**62
    for wrong in ("3", "3:5", "x:1-2", "3:9-1", "-1:1-2"):
        with pytest.raises(OperationError, match="3:100-200"):
            parse_offsets([wrong])


def test_ids_of_records() -> None:
    assert parse_id("vision.media-3-17") == ("vision.media", 3, 17)
    with pytest.raises(OperationError, match="topic-partition-offset"):
        parse_id("vision.media")


def test_the_test_picture_is_unique_and_whole() -> None:
    one, mime = picture(None, "e2e_test_1")
    other, _ = picture(None, "e2e_test_2")
    assert hashlib.sha256(one).digest() != hashlib.sha256(other).digest()
    assert mime == "image/jpeg"
    images = [Image.open(io.BytesIO(content)).tobytes() for content in (one, other)]
    assert images[0] == images[1]
    assert commented(b"\xff\xd8rest", "x") == b"\xff\xd8\xff\xfe\x00\x03xrest"


def test_a_file_that_is_none_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(StepFailed) as failed:
        picture(tmp_path / "none.jpg", "x")
    assert "--image" in failed.value.remedy


def test_times_of_commands() -> None:
    assert DURATION.convert("90s", None, None) == timedelta(seconds=90)
    before = datetime.now(UTC)
    assert before <= MOMENT.convert("2h", None, None) + timedelta(hours=2) <= datetime.now(UTC)
    assert MOMENT.convert("2026-11-22T18:00", None, None) == datetime(2026, 11, 22, 18, tzinfo=UTC)
    assert clock(milliseconds(AT) or 0) == "2026-11-22 12:00:00.000"
    assert printable("a\x1b[31mb") == "a?[31mb"
    for wrong in ("2 hours", "", "yesterday"):
        with pytest.raises(click.BadParameter, match="give"):
            MOMENT.convert(wrong, None, None)
        with pytest.raises(click.BadParameter, match="give"):
            DURATION.convert(wrong, None, None)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"paused": True}, "vision resume"),
        ({"waiting": 0, "open_grants": 2}, "2 call"),
        ({"waiting": 4, "spent": 9, "limit": 10, "reserved": 1, "reset_at": "tomorrow"}, "4 waiting tasks"),
        ({"loaded": False, "waiting": 4}, "Postgres"),
        ({}, "0 call"),
        ({"known": False, "loaded": False}, "its ledger was lost"),
    ],
)
def test_why_a_post_waits(budget: dict[str, object], said: str) -> None:
    assert said in _why("t", budget)


@pytest.mark.parametrize("name", ["e2e", "publish", "diag", "trace", "posts", "dlq", "replay"])
def test_commands_are_there_and_explain_themselves(name: str) -> None:
    assert name in COMMANDS
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.help
