"""Checks that every input was answered once and that all stores agree. Pure: material in, counts and complaints out.

An input has ended when its post's row shows a result for every picture it listed, or when it is among the dead letters.
A second publication of a post may correctly lead to no event (nothing new), and a deferred post is correctly announced
a second time. Two events with the same content and no publication between them are a duplicate.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vision_app import topics
from vision_app.stores.keys import post_key
from vision_app.texts import say

from .material import Event, Input, Letter, Post, Progress, Row
from .tally import Tally

ON_THE_WAY_IN = (topics.UPLOADED.name, topics.POSTS.name, topics.MEDIA.name, topics.BUDGET.name, topics.ANALYSIS.name)
ON_THE_WAY_OUT = (topics.SINK_POSTGRES.name, topics.ANALYZED.name, topics.SKIPPED.name)


@dataclass(frozen=True)
class Delivered:
    """Everything about inputs and their results. `graph` is None when it is switched off.

    `judged`: per post, the sorted times at which the policy passed a publication on, or a command was replayed.
    `events_from_ms`: older events may have been trimmed from the stream. `answers` and `documents` are keys in S3;
    those of rows older than `objects_from_ms` may have been cleaned up.
    """

    inputs: Sequence[Input] = ()
    judged: Mapping[Post, Sequence[int]] = field(default_factory=dict)
    rows: Mapping[Post, Row] = field(default_factory=dict)
    events: Sequence[Event] = ()
    letters: Sequence[Letter] = ()
    answers: Collection[str] = frozenset()
    documents: Collection[str] = frozenset()
    graph: Collection[tuple[str, str, str]] | None = None
    progress: Progress = field(default_factory=Progress)
    emits_skipped: bool = True
    since_ms: int = 0
    until_ms: int = 2**63
    events_from_ms: int = 0
    objects_from_ms: int = 0


def judge_delivery(material: Delivered, tally: Tally) -> None:
    """Count inputs and events, and complain about missing or duplicate ones and those in one place only."""
    events = _by_post(material.events)
    _inputs(material, tally)
    _waits(material.inputs, events, tally)
    for post, told in events.items():
        _events_of(post, told, material, tally)
    for row in material.rows.values():
        if material.since_ms <= row.emission[0] < material.until_ms and not row.in_work:
            _row(row, events.get(row.post, ()), material, tally)
    for letter in material.letters:
        counts = tally.of(letter.tenant_id or "").counts
        counts["letters"] += 1
        if letter.fault:
            counts["letters_wrong"] += 1
            whose = f"{letter.tenant_id or 'nobody'}/{letter.post_id or '?'}"
            tally.complain(
                say("wrong dead letters"),
                say("dead letter {id} of {whose}: {fault}", id=letter.id, whose=whose, fault=letter.fault),
            )


def _by_post(events: Iterable[Event]) -> dict[Post, list[Event]]:
    found: dict[Post, list[Event]] = defaultdict(list)
    for event in events:
        found[event.post].append(event)
    return found


# --- inputs -----------------------------------------------------------------------------------------------------------


def _inputs(material: Delivered, tally: Tally) -> None:
    letters = {letter.id for letter in material.letters}
    buried = {(letter.tenant_id, letter.post_id) for letter in material.letters}
    posts: dict[str, set[str]] = defaultdict(set)
    for one in material.inputs:
        tenant = tally.of(one.tenant_id)
        tenant.counts["inputs"] += 1
        posts[one.tenant_id].add(one.post_id)
        row = material.rows.get(one.post)
        if one.id in letters:
            end = "dead_lettered"
        elif row is not None and _covers(row, one):
            end = _end(row)
        elif one.post_id and one.post in buried:
            end = "dead_lettered"
        else:
            end = "under_way" if _is_in_progress(one, material.progress) else "missing"
        tenant.counts[end] += 1
        if end not in ("under_way", "missing"):
            tenant.counts["ended"] += 1
        if end == "skipped" and row is not None:
            tenant.skipped_because[_reason(row)] += 1
        if end == "deferred" and row is not None and _forgotten(row, material.progress):
            tenant.counts["forgotten"] += 1
            tally.complain(say("deferred posts that no ledger knows of"), _lost_place(row))
        if end == "missing":
            tally.complain(say("inputs without an end"), _missing(one, row))
    for tenant_id, ids in posts.items():
        tally.of(tenant_id).counts["posts"] += len(ids - {""})


def _covers(row: Row, one: Input) -> bool:
    """Whether the row is finished and has a result for every picture of the input."""
    return not row.in_work and {medium.sha256 for medium in row.media}.issuperset(one.pictures)


def _end(row: Row) -> str:
    if row.deferred:
        return "deferred"
    return {"ok": "analyzed", "partial": "analyzed", "error": "failed"}.get(row.status, "skipped")


def _forgotten(row: Row, progress: Progress) -> bool:
    """Whether the queue with a deferred post is lost: no task waits, or the ledger is newer than the deferral."""
    if progress.busy(*ON_THE_WAY_IN, *ON_THE_WAY_OUT):
        return False
    return row.tenant_id not in progress.waiting or row.emission[0] < progress.born.get(row.tenant_id, 0)


def _lost_place(row: Row) -> str:
    return say(
        "{row} is deferred, but its tenant's ledger does not know of it (was it lost?); the worker asks "
        "about it again within some minutes, `vision replay --post {post_id}` does so at once",
        row=_row_name(row),
        post_id=row.post_id,
    )


def _reason(row: Row) -> str:
    return next((medium.reason for medium in row.media if medium.reason), say("no media"))


def _is_in_progress(one: Input, progress: Progress) -> bool:
    stream = one.id.rsplit("-", 2)[0]
    return progress.busy(stream, *ON_THE_WAY_IN, *ON_THE_WAY_OUT) or one.tenant_id in progress.waiting


def _missing(one: Input, row: Row | None) -> str:
    who = (
        say("input {id} ({tenant_id}/{post_id})", id=one.id, tenant_id=one.tenant_id, post_id=one.post_id)
        if one.post_id
        else say("input {id}, which cannot be read,", id=one.id)
    )
    if row is not None:
        where = say("its row is in work") if row.in_work else say("its row has no result for every picture it lists")
    elif one.judged_ms is not None:
        where = say("it was judged by the policy, and there is no row")
    elif one.relayed:
        where = say("it is on Kafka, the policy has not handed it on, and there is no row")
    else:
        where = say("it never reached Kafka and is no dead letter")
    return say(
        "{who} has not ended and nothing is under way: {where}; see `vision trace {post_id}`",
        who=who,
        where=where,
        post_id=one.post_id or one.id,
    )


def _waits(inputs: Iterable[Input], events: Mapping[Post, Sequence[Event]], tally: Tally) -> None:
    for one in inputs:
        after = [event for event in events.get(one.post, ()) if event.at_ms >= one.at_ms]
        final = next((event for event in after if not event.deferred), after[0] if after else None)
        if final is not None:
            tally.of(one.tenant_id).waits.append(final.at_ms - one.at_ms)


# --- events -----------------------------------------------------------------------------------------------------------


def _events_of(post: Post, told: Sequence[Event], material: Delivered, tally: Tally) -> None:
    seen: set[tuple[int, int]] = set()
    before: Event | None = None
    for event in told:
        if event.at_ms >= material.since_ms:
            tally.of(post[0]).counts["events"] += 1
            if event.emission in seen:
                _doubled(
                    event,
                    say(
                        "was published before: emission {time_ms}-{offset} twice",
                        time_ms=event.emission[0],
                        offset=event.emission[1],
                    ),
                    tally,
                )
            elif (
                before
                and event.content == before.content
                and not _between(material.judged.get(post, ()), before, event)
            ):
                _doubled(
                    event,
                    say("says what {entry_id} said, and nothing was published since", entry_id=before.entry_id),
                    tally,
                )
            _row_of(event, material.rows.get(post), tally)
        before = before if event.emission in seen else event
        seen.add(event.emission)


def _doubled(event: Event, why: str, tally: Tally) -> None:
    tally.of(event.tenant_id).counts["duplicate_events"] += 1
    tally.complain(say("duplicate events"), f"{_named(event)} {why}")


def _row_of(event: Event, row: Row | None, tally: Tally) -> None:
    """Check the event's row. It is committed before the event is sent, so it shows the event's state or a later one."""
    if row is None or event.emission > row.emission:
        tally.of(event.tenant_id).counts["events_without_row"] += 1
        why = say("there is no row") if row is None else say("the row shows an older state")
        tally.complain(
            say("events without a row"),
            say("{event} is announced, but {why}; see `vision trace`", event=_named(event), why=why),
        )


def _between(judged: Sequence[int], before: Event, event: Event) -> bool:
    """Whether the post was published again between the two events' states."""
    at = bisect.bisect_left(judged, before.emission[0])
    return at < len(judged) and judged[at] <= event.emission[0]


def _named(event: Event) -> str:
    return say(
        "event {entry_id} of {tenant_id}/{post_id}",
        entry_id=event.entry_id,
        tenant_id=event.tenant_id,
        post_id=event.post_id,
    )


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(row: Row, told: Sequence[Event], material: Delivered, tally: Tally) -> None:
    _announcement(row, told, material, tally)
    if row.emission[0] >= material.objects_from_ms:
        _objects(row, material, tally)
    _graph(row, material, tally)


def _announcement(row: Row, told: Sequence[Event], material: Delivered, tally: Tally) -> None:
    """Check that the state of the post in Postgres is also on the output stream."""
    announced = row.analyzed or material.emits_skipped
    if not announced or material.progress.busy(*ON_THE_WAY_OUT):
        return
    if row.emission[0] < material.events_from_ms:
        tally.of(row.tenant_id).counts["rows_not_judged"] += 1
        return
    if all(event.emission != row.emission for event in told):
        tally.of(row.tenant_id).counts["rows_without_event"] += 1
        tally.complain(
            say("rows without an event"),
            say("the row of {row} was never announced; see `vision trace`", row=_row_name(row)),
        )


def _objects(row: Row, material: Delivered, tally: Tally) -> None:
    """Check the post's document and the answers of its row. An OCR answer may be missing: storing it is best effort."""
    counts = tally.of(row.tenant_id).counts
    document = post_key(row.tenant_id, row.post_id)
    if document not in material.documents and not material.progress.busy(topics.SINK_S3.name):
        counts["documents_missing"] += 1
        tally.complain(
            say("missing post documents"),
            say("the document {document} of {row} is not in S3", document=document, row=_row_name(row)),
        )
    for medium in row.media:
        if medium.provider == "gigachat" and medium.answer_key not in material.answers:
            counts["answers_missing"] += 1
            tally.complain(
                say("missing answers"),
                say(
                    "the answer {answer_key}, which {row} shows, is not in S3",
                    answer_key=medium.answer_key,
                    row=_row_name(row),
                ),
            )


def _graph(row: Row, material: Delivered, tally: Tally) -> None:
    if material.graph is None or material.progress.busy(topics.SINK_NEO4J.name):
        return
    for sha256 in dict.fromkeys(medium.sha256 for medium in row.media if medium.provider):
        if (row.tenant_id, row.post_id, sha256) not in material.graph:
            tally.of(row.tenant_id).counts["graph_missing"] += 1
            tally.complain(
                say("pictures missing in the graph"),
                say("the graph does not link {row} to its picture {sha256}", row=_row_name(row), sha256=sha256[:12]),
            )


def _row_name(row: Row) -> str:
    return f"{row.tenant_id}/{row.post_id}"
