"""Ids are read also from messages that are no JSON, for searching and logging."""

from __future__ import annotations

import time

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.fakes import FakeApp, event
from vision_app.messages import DeadLetter
from vision_app.operations.letters import Filter
from vision_app.streams.dead_letters import DeadLetters, Origin, dead_letter
from vision_app.streams.letter_ids import ids_in, ids_of
from vision_app.streams.outbox import Outbox

EVENT = {"trace_id": "tr", "tenant_id": "магазин", "post_id": 'p"1', "media_files": [{"sha256": "ab"}]}


def cut(value: str) -> bytes:
    return value[: value.index("media_files")].encode()


@pytest.mark.parametrize(
    "value",
    [
        cut(orjson.dumps(EVENT).decode()),
        cut(orjson.dumps({"data": orjson.dumps(EVENT).decode()}).decode()),
        rb'{"tenant_id": "\u043c\u0430\u0433\u0430\u0437\u0438\u043d", "trace_id": "tr", "post_id',
        rb'{"data": "{\"tenant_id\": \"\\u043c\\u0430\\u0433\\u0430\\u0437\\u0438\\u043d\", \"trace_id\":\"tr\", "',
    ],
)
def test_ids_of_a_message_that_was_cut(value: bytes) -> None:
    found = ids_in(value)
    assert (found["tenant_id"], found["trace_id"]) == ("магазин", "tr")


@given(st.binary(max_size=400))
def test_any_bytes_can_be_searched(value: bytes) -> None:
    assert ids_in(value).keys() <= {"tenant_id", "post_id", "trace_id"}


@pytest.mark.parametrize("value", [b"\\" * 1_000_000, b'"tenant_id":"' * 70_000, b'"tenant_id"' + b" " * 900_000])
def test_a_hostile_message_takes_no_time(value: bytes) -> None:
    began = time.process_time()
    ids_in(value)
    assert time.process_time() - began < 1


def letter(value: bytes, key: str | None = None) -> DeadLetter:
    return dead_letter(Origin("x-1", "stream:posts", 0), value, "unreadable", key=key)


def test_a_filter_by_tenant_finds_letters_whose_bytes_or_key_name_it() -> None:
    broken = letter(b'{"tenant_id": "shop", "post_id": "p7", "media_f')
    assert broken.tenant_id is None, "a field of the letter comes from whole JSON only"
    assert Filter(tenant_id="shop").takes(broken)
    assert not Filter(tenant_id="another").takes(broken)
    assert ids_of(broken)["post_id"] == "p7"
    assert Filter(tenant_id="my shop").takes(letter(b"\xff", key="my%20shop:p"))
    assert not Filter(tenant_id="shop").takes(letter(b"\xff"))


async def test_the_log_lines_of_a_letter_carry_its_ids() -> None:
    app = FakeApp()
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await DeadLetters(Outbox(app)).put_event(
            event(1, b'{"tenant_id": "shop", "post_id": "p7", "trace_id": "tr", "media_f'),
            "x",
            keep_trying=lambda: True,
        )
    [line] = [line for line in lines if "dead_letter_id" in line]
    assert (line["tenant_id"], line["post_id"], line["trace_id"]) == ("shop", "p7", "tr")
