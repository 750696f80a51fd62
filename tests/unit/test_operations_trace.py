"""Pure parts of the trace: the time range to search, and the summary of a message."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import analyzed
from vision_app.messages import Grant, Lost, MediaTask, Medium, Release, Reserve, Settle, Skipped
from vision_app.operations.hops import AFTER_MS, BEFORE_MS, Hop, summary, windows
from vision_app.operations.trace import _stalled
from vision_app.operations.unrecorded import named_by

TASK = MediaTask(tenant_id="t", post_id="p", trace_id="tr", medium=Medium(sha256="ab" * 32), dispatch=1)


@given(st.lists(st.integers(0, 10_000_000), max_size=20), st.one_of(st.none(), st.integers(0, 20_000_000)))
def test_windows_hold_every_moment_and_do_not_overlap(moments: list[int], until: int | None) -> None:
    found = windows(moments, until)
    for at in moments:
        assert any(start <= at - BEFORE_MS and at + AFTER_MS <= end for start, end in found)
    for (_, end), (start, _) in pairwise(found):
        assert end < start
    if moments and until is not None:
        assert found[-1][1] >= until
    assert sum(end - start for start, end in found[:-1]) <= len(moments) * (BEFORE_MS + AFTER_MS)


def test_no_moment_no_window() -> None:
    assert windows([], 5) == []


def test_messages_in_a_few_words() -> None:
    grant = Grant(id="g-1", provider="gigachat", estimate=7, task=TASK)
    told = {
        summary(message.model_dump(mode="json"))
        for message in (
            TASK,
            grant,
            Reserve(tenant_id="t", task=TASK, estimate=7),
            Lost(tenant_id="t", grant_id="g-1", estimate=7, task=TASK),
            Settle(tenant_id="t", grant_id="g-1", tokens=5),
            Release(tenant_id="t", grant_id="g-1"),
            TASK.outcome(Skipped(reason="s3_missing")),
            TASK.outcome(analyzed(cached=True)),
        )
    }
    assert told == {
        "picture abababababab, dispatch 1",
        "grant g-1: 7 tokens, gigachat, picture abababababab",
        "reserve: 7 tokens for picture abababababab",
        "lost: 7 tokens for picture abababababab",
        "settle g-1: 5 tokens",
        "release g-1: nothing spent",
        "picture abababababab skipped: s3_missing",
        "picture abababababab analyzed: gigachat, from the cache",
    }
    assert summary({}) == "?"


def test_a_post_is_named_by_its_event_or_by_what_it_is_in() -> None:
    grant = Grant(id="g-1", provider="gigachat", estimate=7, task=TASK).model_dump(mode="json")
    for body in (grant, TASK.model_dump(mode="json"), {"event": {"post_id": "p", "tenant_id": "t"}}):
        found = named_by(body, "default")
        assert found is not None
        assert (found.tenant_id, found.post_id) == ("t", "p")
    assert named_by({"post_id": 7, "media_files": [{"sha256": "x"}, "junk"]}, "default").pictures == {"x"}  # type: ignore[union-attr]  # None fails it, too
    assert named_by({"type": "settle"}, "default") is None


def stall(place: str, topic: str, partition: int | None, offset: str | None) -> dict[str, Any]:
    where = {"place": place, "topic": topic, "partition": partition, "offset": offset}
    return {**where, "stage": "s", "since": "2026-11-26T10:00:00Z", "reason": "r", "remedy": "m"}


@pytest.mark.parametrize(
    ("found", "named"),
    [
        (stall("vision.media-3-17", "vision.media", 3, "17"), True),
        (stall("vision.media-3-9", "vision.media", 3, "9"), True),
        (stall("vision.media-3-18", "vision.media", 3, "18"), False),
        (stall("vision.media-4-9", "vision.media", 4, "9"), False),
        (stall("event_loop", "event_loop", None, None), True),
        (stall("stream:posts:vision-5-0", "stream:posts:vision", None, "5-0"), False),
    ],
)
def test_what_stands_still_in_the_way_of_a_post_is_named(found: dict[str, Any], named: bool) -> None:
    hops = [Hop(1, "vision.media", "vision.media-3-17", "picture", "not finished"), Hop(1, "post", "", "opened")]
    said = _stalled(hops, [found])
    assert said == ([f"s at {found['place']} has stood still since 2026-11-26T10:00:00Z: r. Next: m"] if named else [])
