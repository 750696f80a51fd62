"""The life of a post: open it, dispatch its pictures, collect their outcomes, emit it. Pure; no clock, no I/O.

`decide` takes the post's row and one command and returns the new row and what to send. A post is complete when every
medium is analyzed, skipped, failed or deferred; each completion is emitted with an id that only grows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field
from pydantic_core import to_json

from vision_app.messages import (
    Analysis,
    Analyzed,
    AskAgain,
    Deferred,
    Emission,
    Failed,
    Forget,
    MediaOutcome,
    MediaTask,
    Medium,
    MediumResult,
    Message,
    Opened,
    Outcome,
    PolicyVerdict,
    PostResult,
    PostStatus,
    Skipped,
    Times,
    Uploaded,
)

from .moment import Applied, Moment

REDISPATCH_AFTER_MS = FORGET_AFTER_MS = 24 * 60 * 60 * 1000
KNOWN_FOR_MS = FORGET_AFTER_MS - 60 * 60 * 1000
"""For how long after its completion a row answers for its post, see `is_answered`; well before it may be forgotten."""
ANALYSES_BYTES_PER_POST = 250_000
"""Encoded bytes of all analyses in a row; so a row stays under 500 kB. S3 has each analysis whole."""

MAX_LISTED = 200
"""Most media of all publications of a post. A publication that would exceed it is rejected."""
MAX_EVENT_BYTES = 512 * 1024
"""Most bytes of the event in a row, with the media of all publications. A single publication has at most half of it."""

_RANK = {"deferred": 1, "skipped": 2, "failed": 2, "analyzed": 3}


@dataclass(frozen=True)
class PostRules:
    """The version of model and prompts in force; an answer of another version is replaced by a new call."""

    vision_version: str


class MediumState(Message):
    """One picture of the post. `outcome` is announced: an analysis is replaced only by an analysis of a later dispatch.

    `outcome_of` is the dispatch that gave it. `lesser` is the outcome of the latest dispatch if it gave no analysis
    while `outcome` is one.
    """

    medium: Medium
    verdict: PolicyVerdict
    in_work: bool
    dispatch: int = 0
    dispatched_ms: int = 0
    outcome: Outcome | None = None
    outcome_of: int = 0
    lesser: Outcome | None = None
    times: Times = Field(default_factory=dict)

    @property
    def latest(self) -> Analyzed | Skipped | Failed | Deferred | None:
        """The outcome of the latest dispatch, or None."""
        return self.outcome if self.outcome_of == self.dispatch else self.lesser


class PostRow(Message):
    """The state of one post. `media` by sha256; the event's list keeps every listed position, twins included."""

    applied: Applied
    event: Uploaded
    input_id: str = ""  # of the publication applied last
    media: dict[str, MediumState]
    opened_ms: int
    completed_ms: int | None = None
    times: Times = Field(default_factory=dict)


@dataclass
class PostDecision:
    """The result of one command. `forget`: delete the row. `reject`: why the command cannot be applied."""

    row: PostRow | None
    send: list[Message] = field(default_factory=list)
    forget: bool = False
    reject: str | None = None
    observed: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


def decide(row: PostRow | None, command: Any, at: Moment, rules: PostRules) -> PostDecision:
    """Apply one command of the post."""
    if row is not None and row.applied.covers(at):
        return PostDecision(None, observed=[("duplicate", {})])
    match command:
        case Opened():
            return _open(row, command, at, rules)
        case MediaOutcome():
            return _collect(row, command, at)
        case Forget():
            return _forget(row, command, at)
        case AskAgain():
            return _ask_again(row, command, at)
    raise TypeError(f"no post command: {type(command).__name__}")


# --- opening ----------------------------------------------------------------------------------------------------------


def _open(row: PostRow | None, command: Opened, at: Moment, rules: PostRules) -> PostDecision:
    if row is not None and command.input_id and command.input_id == row.input_id:
        return PostDecision(row.model_copy(update={"applied": row.applied.then(at)}), observed=[("duplicate", {})])
    event = _merged(row.event if row else None, command.event)
    if row is not None and (reason := _too_much(event)):
        return PostDecision(None, reject=reason)
    media = dict(row.media) if row else {}
    dispatched: list[str] = []
    changed = False
    for medium, verdict in zip(command.event.media_files, command.verdicts, strict=True):
        state = media.get(medium.sha256)
        if medium.sha256 in dispatched:
            continue  # a twin: one call serves both
        if not verdict.analyze:
            if state is None or isinstance(state.outcome, Skipped | Failed):
                skipped = Skipped(reason=verdict.reason, details=verdict.details)
                changed |= state is None or state.outcome != skipped
                media[medium.sha256] = _skip(state, medium, verdict, skipped)
        elif _wanted(state, command, at, rules):
            media[medium.sha256] = _dispatch(state, medium, verdict, at)
            dispatched.append(medium.sha256)
    if row is not None and not dispatched and not changed:
        listed = _merged(command.event, row.event)
        known = {"applied": row.applied.then(at), "event": listed, "input_id": command.input_id}
        silent = row.model_copy(update=known)
        return PostDecision(silent, observed=[("nothing_new", {})])
    applied = (row.applied if row else Applied()).then(at)
    times = {**command.times, "opened": at.time_ms}
    bounded = {sha256: _bounded_state(state, len(media)) for sha256, state in media.items()}
    opened = PostRow(
        applied=applied, event=event, input_id=command.input_id, media=bounded, opened_ms=at.time_ms, times=times
    )
    tasks: list[Message] = [_task(opened, media[sha256], command.force) for sha256 in dispatched]
    return _completed_or_waiting(opened, at, tasks, announce_opening=True)


def _wanted(state: MediumState | None, command: Opened, at: Moment, rules: PostRules) -> bool:
    """Whether to dispatch: new, ended without an answer, answered by another version, forced, or waiting for a day.

    A replay also dispatches deferred media, because the ledger may have lost them. If it has not, the task that is
    granted second finds the answer of the first.
    """
    if state is None or command.force:
        return True
    stale = at.time_ms - state.dispatched_ms >= REDISPATCH_AFTER_MS
    if state.in_work:
        return stale
    if isinstance(state.latest, Deferred):
        return stale or command.replay
    if isinstance(state.outcome, Analyzed):
        return state.outcome.answer.vision_version != rules.vision_version
    return True


def is_answered(row: PostRow, event: Uploaded, now_ms: int, rules: PostRules) -> bool:
    """Whether opening the post with this event again would change nothing but the row's bookkeeping.

    That is so if the row lists every position of the event and each of its media has an analysis of the version in
    force. It may be asked outside the actor, of a row that this worker owns: then commands that wait in the inbox are
    applied after this publication, as if it had arrived before them.
    """
    if row.completed_ms is None or now_ms - row.completed_ms > KNOWN_FOR_MS:
        return False
    states = [row.media.get(medium.sha256) for medium in event.media_files]
    if not all(state is not None and _is_answered(state, rules) for state in states):
        return False
    return len(_merged(event, row.event).media_files) == len(row.event.media_files)


def _is_answered(state: MediumState, rules: PostRules) -> bool:
    return (
        not state.in_work
        and isinstance(state.outcome, Analyzed)
        and state.outcome.answer.vision_version == rules.vision_version
        and not isinstance(state.latest, Deferred)
    )


def _skip(state: MediumState | None, medium: Medium, verdict: PolicyVerdict, skipped: Skipped) -> MediumState:
    dispatch, at_ms = (state.dispatch, state.dispatched_ms) if state else (0, 0)  # numbers are never used again
    return MediumState(
        medium=medium,
        verdict=verdict,
        in_work=False,
        dispatch=dispatch,
        dispatched_ms=at_ms,
        outcome=skipped,
        outcome_of=dispatch,
    )


def _dispatch(state: MediumState | None, medium: Medium, verdict: PolicyVerdict, at: Moment) -> MediumState:
    kept = state if state and isinstance(state.outcome, Analyzed) else None
    return MediumState(
        medium=medium,
        verdict=verdict,
        in_work=True,
        dispatch=state.dispatch + 1 if state else 1,
        dispatched_ms=at.time_ms,
        outcome=kept.outcome if kept else None,
        outcome_of=kept.outcome_of if kept else 0,
    )


def _task(row: PostRow, state: MediumState, force: bool) -> MediaTask:
    return MediaTask(
        tenant_id=row.event.tenant_id,
        post_id=row.event.post_id,
        trace_id=row.event.trace_id,
        medium=state.medium,
        dispatch=state.dispatch,
        prompt_key=state.verdict.prompt_key,
        ocr_allowed=state.verdict.ocr_allowed,
        force=force,
        times=row.times,
        traceparent=row.event.traceparent,
    )


def _merged(old: Uploaded | None, new: Uploaded) -> Uploaded:
    """The new event with every position that either event listed."""
    if old is None:
        return new
    extra = Counter(medium.sha256 for medium in old.media_files)
    extra.subtract(medium.sha256 for medium in new.media_files)
    kept: list[Medium] = []
    for medium in reversed(old.media_files):
        if extra[medium.sha256] > 0:
            extra[medium.sha256] -= 1
            kept.insert(0, medium)
    return new.model_copy(update={"media_files": [*kept, *new.media_files]})


def _too_much(event: Uploaded) -> str | None:
    """Why the merged publications of a post do not fit into a row; None if they do."""
    if (listed := len(event.media_files)) > MAX_LISTED:
        return (
            f"the post's publications list {listed} media, more than {MAX_LISTED}: publish the new ones as a new post"
        )
    if (size := len(event.encode())) > MAX_EVENT_BYTES:
        return f"the post's publications have {size} bytes, more than {MAX_EVENT_BYTES}: publish a new post"
    return None


def _ask_again(row: PostRow | None, command: AskAgain, at: Moment) -> PostDecision:
    """Dispatch again what waited in a lost ledger. Does nothing for a post without a row."""
    if row is None:
        return PostDecision(None, observed=[("nothing_to_ask_again", {})])
    applied = row.applied.then(at)
    lost = [sha256 for sha256, state in row.media.items() if _lost(state, command)]
    if not lost:
        return PostDecision(row.model_copy(update={"applied": applied}), observed=[("nothing_to_ask_again", {})])
    again = {
        sha256: _dispatch(row.media[sha256], row.media[sha256].medium, row.media[sha256].verdict, at) for sha256 in lost
    }
    opened = row.model_copy(update={"applied": applied, "media": {**row.media, **again}, "completed_ms": None})
    tasks: list[Message] = [_task(opened, again[sha256], force=False) for sha256 in lost]
    decision = _completed_or_waiting(opened, at, tasks, announce_opening=True)
    decision.observed.append(("asked_again", {"media": len(lost)}))
    return decision


def _lost(state: MediumState, command: AskAgain) -> bool:
    if state.in_work:
        return state.dispatched_ms < command.in_work_before_ms
    return isinstance(state.latest, Deferred) and state.dispatched_ms < command.deferred_before_ms


# --- collecting -------------------------------------------------------------------------------------------------------


def _collect(row: PostRow | None, command: MediaOutcome, at: Moment) -> PostDecision:
    state = row.media.get(command.sha256) if row else None
    if row is None or state is None:
        return PostDecision(None, reject="no open post asked for this picture; replay the post from its input")
    applied = row.applied.then(at)
    if not _improves(state, command):
        return PostDecision(row.model_copy(update={"applied": applied}), observed=[("outcome_ignored", {})])
    settled = _settled(state, command, len(row.media), at)
    collected = row.model_copy(update={"applied": applied, "media": {**row.media, command.sha256: settled}})
    if not state.in_work and settled.outcome == state.outcome:
        return PostDecision(collected, observed=[("outcome_unchanged", {})])
    return _completed_or_waiting(collected, at, [])


def _improves(state: MediumState, command: MediaOutcome) -> bool:
    """Whether an outcome replaces the known one: a better one of its dispatch, or a first analysis of an older one."""
    new, latest = command.outcome, state.latest
    if command.dispatch != state.dispatch:
        return isinstance(new, Analyzed) and not isinstance(state.outcome, Analyzed)
    if latest is None:
        return True
    if isinstance(new, Deferred) and isinstance(latest, Deferred):
        return new.retry_at > latest.retry_at
    return _RANK[new.kind] > _RANK[latest.kind]


def _settled(state: MediumState, command: MediaOutcome, media: int, at: Moment) -> MediumState:
    """The medium with its new outcome. An analysis is replaced neither by a lesser outcome nor by a copy of itself."""
    new, old = _bounded(command.outcome, media), state.outcome
    update: dict[str, Any] = {"in_work": False, "times": {**command.times, "collected": at.time_ms}}
    if isinstance(old, Analyzed) and not isinstance(new, Analyzed):
        return state.model_copy(update={**update, "lesser": new})
    kept = old if isinstance(old, Analyzed) and isinstance(new, Analyzed) and _same_answer(old, new) else new
    return state.model_copy(update={**update, "outcome": kept, "outcome_of": command.dispatch, "lesser": None})


def _same_answer(one: Analyzed, other: Analyzed) -> bool:
    """Whether both hold the same stored answer. Then the first is kept, because it shows the cost."""
    return (one.s3_key, one.answer.analyzed_at) == (other.s3_key, other.answer.analyzed_at)


# --- keeping rows small -----------------------------------------------------------------------------------------------


def _bounded_state(state: MediumState, media: int) -> MediumState:
    return state.model_copy(update={"outcome": _bounded(state.outcome, media)}) if state.outcome else state


def _bounded(outcome: Analyzed | Skipped | Failed | Deferred, media: int) -> Analyzed | Skipped | Failed | Deferred:
    """The outcome, made to fit into a row with this many media: the analysis is cut, OCR text first, or the details
    are left out.
    """
    room = ANALYSES_BYTES_PER_POST // max(media, 8)
    if not isinstance(outcome, Analyzed):
        if (size := len(to_json(outcome.details))) > room:
            return outcome.model_copy(update={"details": {"reduced": f"{size} bytes of details"}})
        return outcome
    if not (analysis := outcome.answer.analysis):
        return outcome
    less = _less_text(analysis, room)
    for name, nothing in (("context", {}), ("objects", []), ("labels", [])):
        if len(less.encode()) > room:
            less = less.model_copy(update={name: nothing})
    if less is analysis:
        return outcome
    return outcome.model_copy(update={"answer": outcome.answer.model_copy(update={"analysis": less})})


def _less_text(analysis: Analysis, room: int) -> Analysis:
    excess = len(analysis.encode()) - room
    if excess <= 0 or not analysis.ocr:
        return analysis
    text = analysis.ocr.text
    left = max(0, len(to_json(text)) - excess)
    text = text.encode()[:left].decode(errors="ignore")
    while text and len(to_json(text)) > left:  # quotes and line ends take two bytes each, or more
        text = text[: min(len(text) - 1, len(text) * left // len(to_json(text)))]
    return analysis.model_copy(update={"ocr": analysis.ocr.model_copy(update={"text": text})})


# --- completing -------------------------------------------------------------------------------------------------------


def _completed_or_waiting(
    row: PostRow, at: Moment, tasks: list[Message], *, announce_opening: bool = False
) -> PostDecision:
    if any(state.in_work for state in row.media.values()):
        opening = [result_of(row, at, "in_work")] if announce_opening else []
        return PostDecision(row, send=[*tasks, *opening])
    row = row.model_copy(update={"completed_ms": at.time_ms, "times": {**row.times, "completed": at.time_ms}})
    status = status_of(row)
    return PostDecision(row, send=[result_of(row, at, status)], observed=[("completed", {"status": status})])


def status_of(row: PostRow) -> PostStatus:
    outcomes = [state.outcome for state in row.media.values()]
    analyzed = [outcome for outcome in outcomes if isinstance(outcome, Analyzed)]
    if analyzed:
        whole = len(analyzed) == len(outcomes) and all(outcome.answer.verdict == "ok" for outcome in analyzed)
        return "ok" if whole else "partial"
    return "error" if any(isinstance(outcome, Failed) for outcome in outcomes) else "skipped"


def result_of(row: PostRow, at: Moment, status: PostStatus) -> PostResult:
    """The post as the sinks write it: one item per listed position."""
    return PostResult(
        emission=Emission(time_ms=row.applied.time_ms, offset=at.offset),
        status=status,
        event=row.event,
        media=[_listed(row.media[medium.sha256], medium) for medium in row.event.media_files],
        opened_ms=row.opened_ms,
        completed_ms=row.completed_ms,
        times=row.times,
    )


def _listed(state: MediumState, medium: Medium) -> MediumResult:
    return MediumResult(
        medium=medium,
        outcome=None if state.in_work else state.outcome,
        dispatch=state.dispatch,
        times=state.times,
    )


# --- forgetting -------------------------------------------------------------------------------------------------------


def forgettable(row: PostRow, now_ms: int) -> bool:
    """Whether the post was completed a day ago and expects nothing: no medium is in work or deferred."""
    settled = all(not s.in_work and not isinstance(s.latest, Deferred) for s in row.media.values())
    return settled and row.completed_ms is not None and now_ms - row.completed_ms >= FORGET_AFTER_MS


def _forget(row: PostRow | None, command: Forget, at: Moment) -> PostDecision:
    if row is None or row.completed_ms != command.completed_ms or not forgettable(row, at.time_ms):
        return PostDecision(None)
    return PostDecision(None, forget=True)
