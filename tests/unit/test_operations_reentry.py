"""Where dead letters are sent to be tried again: never with an old grant, never past an open post."""

from __future__ import annotations

import orjson
import pytest

from vision_app import topics
from vision_app.messages import (
    REPLAY_HEADER,
    BudgetCommand,
    DeadLetter,
    Grant,
    Lost,
    MediaTask,
    Medium,
    Message,
    Opened,
    Pause,
    Reserve,
    Reset,
    Resume,
    SetLimit,
    Settle,
    Skipped,
    decode,
    key_of,
)
from vision_app.operations.letters import Filter, subject
from vision_app.operations.neighbours import uploaded_event
from vision_app.operations.reentry import STALE_MS, CannotReplay, Reentry, reentry
from vision_app.streams.dead_letters import CUT_HEADER, Origin, dead_letter

NOW_MS = 1_795_000_000_000
STREAM = "stream:posts:vision:uploaded"
MEDIUM = Medium(sha256="ab" * 32, s3_key="media/t/ab/x.jpg", mime_type="image/jpeg", size_bytes=10)
TASK = MediaTask(tenant_id="t", post_id="p", trace_id="tr", medium=MEDIUM, dispatch=2, attempt=3)
GRANT = Grant(id="g-1", provider="gigachat", estimate=100, task=TASK)


def letter(
    origin: str,
    value: bytes | Message,
    *,
    id: str = "letter",
    error: str = "ValueError",
    age_ms: int = 0,
    headers: dict[str, str] | None = None,
) -> DeadLetter:
    content = value.encode() if isinstance(value, Message) else value
    made = dead_letter(Origin(id, origin, 1), content, "boom", error=error, key="t:p", headers=headers or {})
    return made.model_copy(update={"last_seen_ms": NOW_MS - age_ms})


def way(dead: DeadLetter) -> Reentry:
    return reentry(dead, input_streams=(STREAM,), default_tenant="default", now_ms=NOW_MS)


def test_an_entry_goes_back_to_its_stream_field_by_field() -> None:
    found = way(letter(STREAM, orjson.dumps({"event": "x", "data": "{broken"})))
    assert (found.destination, found.fields, found.media) == (STREAM, {"event": "x", "data": "{broken"}, ())


def test_a_readable_entry_tells_what_it_may_ask_about() -> None:
    data = orjson.dumps(uploaded_event("t", "p", [MEDIUM], "tr")).decode()
    found = way(letter(STREAM, orjson.dumps({"data": data})))
    assert [(tenant, medium.sha256, force) for tenant, medium, force in found.media] == [("t", MEDIUM.sha256, False)]


def test_a_trimmed_entry_cannot_come_back() -> None:
    with pytest.raises(CannotReplay, match="discard"):
        way(letter(STREAM, b"{}"))


@pytest.mark.parametrize("origin", [topics.UPLOADED.name, topics.SINK_POSTGRES.name, topics.ANALYZED.name])
def test_other_messages_go_back_as_they_were(origin: str) -> None:
    found = way(letter(origin, b"\xff not even text"))
    assert (found.destination, found.key, found.value) == (origin, b"t:p", b"\xff not even text")
    assert found.headers[REPLAY_HEADER] == b"letter"


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        (topics.MEDIA.name, TASK),
        (topics.ANALYSIS.name, GRANT),
        (topics.BUDGET.name, Reserve(tenant_id="t", task=TASK, estimate=100)),
    ],
)
def test_work_starts_again_before_the_budget_and_without_its_grant(origin: str, message: Message) -> None:
    found = way(letter(origin, message))
    assert (found.destination, found.key) == (topics.MEDIA.name, key_of("t", MEDIUM.sha256))
    again = decode(MediaTask, found.value)
    assert again == TASK.model_copy(update={"attempt": 1})
    assert b"g-1" not in found.value
    assert found.headers["type"] == b"media_task"


def test_what_closes_a_grant_goes_back_to_the_budget() -> None:
    settle = Settle(tenant_id="t", grant_id="g-1", tokens=5)
    found = way(letter(topics.BUDGET.name, settle))
    assert (found.destination, found.value, found.media) == (topics.BUDGET.name, settle.encode(), ())


def test_the_report_of_a_call_that_was_cut_off_goes_back_and_closes_its_grant() -> None:
    """Started before the budget, its task would get a second grant, and the first would hold a place for a day."""
    lost = Lost(tenant_id="t", grant_id="g-1", estimate=100, task=TASK.model_copy(update={"attempt": 3}))
    found = way(letter(topics.BUDGET.name, lost))
    assert (found.destination, found.key) == (topics.BUDGET.name, b"t")
    assert decode(BudgetCommand, found.value) == lost.model_copy(
        update={"task": TASK.model_copy(update={"attempt": 1})}
    )
    assert found.media == (("t", MEDIUM, TASK.force),)
    assert found.headers["type"] == b"lost"


@pytest.mark.parametrize(
    "command",
    [Reset(tenant_id="t"), SetLimit(tenant_id="t", limit=5), Pause(tenant_id="t"), Resume(tenant_id="t")],
    ids=lambda command: command.type,
)
def test_an_operators_command_is_not_replayed(command: Message) -> None:
    """It would undo later commands."""
    with pytest.raises(CannotReplay, match="give it again if need be, and discard it"):
        way(letter(topics.BUDGET.name, command))


def test_an_unreadable_grant_cannot_be_replayed() -> None:
    with pytest.raises(CannotReplay, match="discard"):
        way(letter(topics.ANALYSIS.name, b"{}"))


def test_work_of_a_post_that_may_be_forgotten_starts_again_as_the_whole_post() -> None:
    found = way(letter(topics.ANALYSIS.name, GRANT, age_ms=STALE_MS))
    assert (found.destination, found.whole_post) == (topics.UPLOADED.name, True)
    assert not way(letter(topics.ANALYSIS.name, GRANT, age_ms=STALE_MS - 1)).whole_post


def test_replaying_a_rejected_outcome_starts_its_post_again() -> None:
    outcome = TASK.outcome(Skipped(reason="x"))
    assert way(letter(topics.POSTS.name, outcome, error="rejected")).whole_post
    assert not way(letter(topics.POSTS.name, outcome, error="KeyError")).whole_post


def test_an_opened_post_tells_what_it_may_ask_about_and_whether_by_force() -> None:
    event = {**uploaded_event("t", "p", [MEDIUM], "tr")}
    verdict = {"analyze": True, "reason": "policy_passed"}
    opened = decode(Opened, orjson.dumps({"event": event, "verdicts": [verdict], "force": True}))
    [(tenant, medium, force)] = way(letter(topics.POSTS.name, opened)).media
    assert (tenant, medium.sha256, force) == ("t", MEDIUM.sha256, True)


def test_a_cut_letter_is_refused() -> None:
    with pytest.raises(CannotReplay, match="too large"):
        way(letter(topics.MEDIA.name, TASK, headers={CUT_HEADER: "9999999"}))


def test_a_letter_that_comes_back_has_the_same_subject_under_any_id() -> None:
    first = letter(topics.ANALYSIS.name, GRANT, id="vision.analysis-0-1")
    later = letter(topics.MEDIA.name, TASK.model_copy(update={"attempt": 1, "dispatch": 3}), id="vision.media-4-9")
    other = letter(topics.MEDIA.name, TASK.model_copy(update={"post_id": "q"}))
    assert subject(first) == subject(later) != subject(other)
    poison = [letter(STREAM, orjson.dumps({"data": "{broken"}), id=name) for name in ("a", "b")]
    assert subject(poison[0]) == subject(poison[1])


def test_a_filter_takes_what_fits_every_field() -> None:
    dead = letter(topics.MEDIA.name, TASK, error="ValueError")
    assert Filter().takes(dead)
    assert not Filter()
    assert Filter(ids=("letter",), origin=topics.MEDIA.name, error="ValueError", tenant_id="t", since_ms=NOW_MS).takes(
        dead
    )
    for unfit in (
        Filter(ids=("x",)),
        Filter(origin="x"),
        Filter(error="x"),
        Filter(tenant_id="x"),
        Filter(since_ms=NOW_MS + 1),
    ):
        assert unfit
        assert not unfit.takes(dead)
