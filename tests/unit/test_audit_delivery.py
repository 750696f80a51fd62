"""`vision audit` on inputs, rows and events: no complaint about a correct run, the right one about a falsified run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_app.audit.account import trimmed_note
from vision_app.audit.delivery import Delivered, judge_delivery
from vision_app.audit.figures import SENTENCES_PER_KIND, Account, Waits
from vision_app.audit.material import Event, Input, Letter, Progress, Row, RowMedium
from vision_app.audit.tally import Tally
from vision_app.stores.keys import post_key
from vision_app.topics import ANALYZED, SINK_NEO4J, SINK_S3, UPLOADED, Topic

STREAM = "stream:posts"
SECOND = 1000


def judged(material: Delivered) -> Account:
    tally = Tally()
    judge_delivery(material, tally)
    return tally.account()


def medium(end: str, number: int) -> RowMedium:
    sha256 = f"sha{number}"
    if end == "analyzed":
        return RowMedium(sha256, "analyzed", provider="gigachat", answer_key=f"vision/t/{sha256}.json")
    return RowMedium(sha256, end, reason="budget" if end == "deferred" else "s3_missing", deferred=end == "deferred")


def status(ends: list[str]) -> str:
    if "analyzed" in ends:
        return "ok" if set(ends) == {"analyzed"} else "partial"
    return "error" if "failed" in ends else "skipped"


ENDS = st.lists(st.sampled_from(["analyzed", "skipped", "deferred", "failed"]), min_size=1, max_size=3)
POSTS = st.lists(st.tuples(ENDS, st.integers(1, 3)), max_size=6)  # ends of its media, times published


@st.composite
def worlds(draw: st.DrawFn) -> Delivered:
    """A correct run: each post is published a few times, ends, and is announced once per change."""
    inputs, rows, events, when = [], {}, [], 10 * SECOND
    judged_at: dict[tuple[str, str], list[int]] = {}
    for number, (ends, times) in enumerate(draw(POSTS)):
        post = ("t", f"p{number}")
        media = tuple(medium(end, n) for n, end in enumerate(ends))
        for time in range(times):
            when += SECOND
            name = f"{STREAM}-{when}-0"
            pictures = tuple(one.sha256 for one in media)
            inputs.append(Input(name, *post, when, pictures, relayed=True, judged_ms=when + 1))
            judged_at.setdefault(post, []).append(when + 1)
            if time and set(ends) == {"analyzed"}:
                continue  # nothing new: no announcement
            emission = (when + 2, number)
            events.append(Event(f"{when + 3}-0", when + 3, *post, emission, "said", deferred="deferred" in ends))
            rows[post] = Row(*post, status(ends), emission, False, media)
    seen = [(row, one) for row in rows.values() for one in row.media if one.provider]
    return Delivered(
        inputs=inputs,
        judged=judged_at,
        rows=rows,
        events=events,
        answers={one.answer_key or "" for _, one in seen},
        documents={post_key(*post) for post in rows},
        graph={(*row.post, one.sha256) for row, one in seen},
        progress=Progress(waiting=frozenset({"t"})),
    )


@settings(max_examples=60)
@given(worlds())
def test_an_account_without_faults_is_clean(world: Delivered) -> None:
    account = judged(world)
    assert account.discrepancies == []
    assert account.inputs == account.ended == len(world.inputs)
    ends = account.analyzed + account.skipped + account.deferred + account.failed + account.dead_lettered
    assert (ends, account.missing, account.under_way) == (account.ended, 0, 0)
    assert (account.events, account.posts) == (len(world.events), len(world.rows))
    assert sum(account.skipped_because.values()) == account.skipped


def without_row(world: Delivered, at: int) -> Delivered:
    post = world.events[at].post
    return replace(world, rows={name: row for name, row in world.rows.items() if name != post})


def with_event_twice(world: Delivered, at: int) -> Delivered:
    return replace(world, events=[*world.events, world.events[at]])


def with_another_final_event(world: Delivered, at: int) -> Delivered:
    last = [event for event in world.events if event.post == world.events[at].post][-1]
    again = replace(last, entry_id="99999-0", emission=(last.emission[0], last.emission[1] + 1), at_ms=99999)
    return replace(world, events=[*world.events, again])


def without_last_event(world: Delivered, at: int) -> Delivered:
    last = [event for event in world.events if event.post == world.events[at].post][-1]
    return replace(world, events=[event for event in world.events if event is not last])


def without_documents(world: Delivered, at: int) -> Delivered:
    return replace(world, documents=set(world.documents) - {post_key(*world.events[at].post)})


def still_in_work(world: Delivered, at: int) -> Delivered:
    post = world.events[at].post
    return replace(world, rows={**world.rows, post: replace(world.rows[post], in_work=True)})


def with_a_picture_more(world: Delivered, at: int) -> Delivered:
    one = next(one for one in world.inputs if one.post == world.events[at].post)
    more = replace(one, id=f"{STREAM}-99999-0", pictures=(*one.pictures, "another"), judged_ms=None)
    return replace(world, inputs=[*world.inputs, more])


CHANGES: dict[Callable[[Delivered, int], Delivered], str] = {
    without_row: "missing",
    with_event_twice: "duplicate_events",
    with_another_final_event: "duplicate_events",
    without_last_event: "rows_without_event",
    without_documents: "documents_missing",
    still_in_work: "missing",
    with_a_picture_more: "missing",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@settings(max_examples=20)
@given(world=worlds(), data=st.data())
def test_a_planted_fault_is_found(
    change: Callable[[Delivered, int], Delivered], world: Delivered, data: st.DataObject
) -> None:
    if world.events:
        falsified = change(world, data.draw(st.integers(0, len(world.events) - 1)))
        account = judged(replace(falsified, progress=Progress()))  # no waiting task that might explain it
        assert getattr(account, CHANGES[change]) >= 1
        assert account.discrepancies


def one_post(**changes: Any) -> Delivered:
    row = Row("t", "p", "ok", (12, 0), False, (medium("analyzed", 0),))
    world = Delivered(
        inputs=[Input(f"{STREAM}-10-0", "t", "p", 10, ("sha0",), relayed=True, judged_ms=11)],
        rows={("t", "p"): row},
        events=[Event("13-0", 13, "t", "p", (12, 0), "said")],
        answers={"vision/t/sha0.json"},
        documents={post_key("t", "p")},
        graph={("t", "p", "sha0")},
    )
    return replace(world, **changes)


def test_answers_and_graph_are_looked_for() -> None:
    assert judged(one_post(answers=set())).answers_missing == 1
    assert judged(one_post(graph=set())).graph_missing == 1
    assert judged(one_post(graph=None)).clean, "a graph that is switched off lacks nothing"
    assert judged(one_post(answers=set(), documents=set(), objects_from_ms=20)).clean, "cleaned up in the meantime"


@pytest.mark.parametrize(
    ("lacks", "topic"),
    [
        ({"rows": {}, "events": []}, UPLOADED),
        ({"events": []}, ANALYZED),
        ({"documents": set()}, SINK_S3),
        ({"graph": set()}, SINK_NEO4J),
    ],
)
def test_what_is_on_its_way_is_not_missing(lacks: dict[str, object], topic: Topic) -> None:
    assert not judged(one_post(**lacks)).clean
    at_work = Progress({topic.name: 1})
    assert judged(one_post(**lacks, progress=at_work)).clean


def test_a_tenant_whose_tasks_wait_has_work_under_way() -> None:
    account = judged(one_post(rows={}, events=[], progress=Progress(waiting=frozenset({"t"}))))
    assert (account.under_way, account.missing, account.discrepancies) == (1, 0, [])


def test_a_deferred_post_unknown_to_its_ledger_is_reported() -> None:
    """The tenant's queue is empty, or its ledger began after the post was deferred: the earlier ledger was lost."""
    row = Row("t", "p", "skipped", (12, 0), False, (medium("deferred", 0),))
    event = replace(one_post().events[0], emission=row.emission, deferred=True)
    waits = frozenset({"t"})

    def account(progress: Progress) -> Account:
        return judged(one_post(rows={row.post: row}, events=[event], progress=progress))

    for progress in (Progress(waiting=waits), Progress(waiting=waits, born={"t": 12}), Progress({UPLOADED.name: 1})):
        assert (account(progress).forgotten, account(progress).discrepancies) == (0, [])
    for progress in (Progress(), Progress(waiting=waits, born={"t": 13}), Progress(waiting=frozenset({"u"}))):
        found = account(progress)
        assert (found.deferred, found.forgotten, found.clean) == (1, 1, False)
        assert "vision replay --post p" in found.discrepancies[0]


def test_a_dead_letter_ends_its_input_and_its_post() -> None:
    unread = Input(f"{STREAM}-20-0", "t", "", 20)
    letters = [Letter(unread.id, STREAM, "t", None), Letter("vision.posts-0-1", "vision.posts", "t", "p")]
    account = judged(one_post(rows={}, events=[], inputs=[*one_post().inputs, unread], letters=letters))
    assert (account.dead_lettered, account.letters, account.discrepancies) == (2, 2, [])


def test_a_row_older_than_the_stream_reaches_back_proves_nothing() -> None:
    account = judged(one_post(events=[], events_from_ms=13))
    assert (account.clean, account.rows_not_judged) == (True, 1)
    note = trimmed_note("stream:out", 1_764_244_800_000, account)
    assert note.startswith("stream:out begins at 2025-11-27 12:00:00 UTC")
    assert "whether the 1 finished rows" in note
    assert not judged(one_post(events=[], events_from_ms=12)).clean


def test_skipped_events_that_are_switched_off_are_not_missed() -> None:
    row = {("t", "p"): Row("t", "p", "skipped", (12, 0), False, (medium("skipped", 0),))}
    assert judged(one_post(rows=row, events=[])).rows_without_event == 1
    assert judged(one_post(rows=row, events=[], emits_skipped=False)).clean


def test_many_faults_are_reported_in_a_few_lines() -> None:
    inputs = [Input(f"{STREAM}-{n}-0", "t", f"p{n}", n) for n in range(1000)]
    account = judged(Delivered(inputs=inputs))
    assert (account.missing, len(account.discrepancies)) == (1000, SENTENCES_PER_KIND + 1)
    assert account.discrepancies_total == 1000
    assert account.discrepancies[-1] == f"and {1000 - SENTENCES_PER_KIND} more inputs without an end"


@given(st.lists(st.integers(0, 10_000)))
def test_waits_are_taken_from_what_was_waited(waits: list[int]) -> None:
    found = Waits.of(waits)
    assert found.count == len(waits)
    if waits:
        assert {found.p50_ms, found.p95_ms, found.max_ms} <= set(waits)
        assert found.p50_ms <= found.p95_ms <= found.max_ms == max(waits)
