"""The posts actor: opens posts, dispatches their pictures, collects outcomes, hands finished posts to the sinks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson
import structlog

from vision_app.domain import posts as core
from vision_app.domain.moment import Moment
from vision_app.messages import (
    Analyzed,
    DeadLetter,
    Failed,
    Forget,
    MediaOutcome,
    Message,
    Opened,
    Outcome,
    PostCommand,
    Skipped,
    Uploaded,
)
from vision_app.streams.actor import Actor, Change
from vision_app.streams.confirmed_table import ConfirmedTable
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import Stream, Worker
from vision_app.streams.outbox import Outbox
from vision_app.streams.timers import every
from vision_app.telemetry import metrics
from vision_app.topics import POSTS

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 600.0
SWEPT_AT_ONCE = 500
ROWS_AT_ONCE = 200
"""Rows that the sweeper reads without a pause: some milliseconds."""


def answered_posts(app: Worker, table: ConfirmedTable, *, vision_version: str) -> Callable[[Uploaded], bool]:
    """A function that tells whether a post has all answers to an event of its partition already."""
    rules = core.PostRules(vision_version=vision_version)

    def is_answered(event: Uploaded) -> bool:
        row = table.row(event.key) if app.serving() else None
        return row is not None and core.is_answered(row, event, round(time.time() * 1000), rules)

    return is_answered


def posts_agent(
    app: Worker, outbox: Outbox, dead_letters: DeadLetters, table: ConfirmedTable, *, vision_version: str
) -> Any:
    """Build the actor's agent and its sweeper."""
    rules = core.PostRules(vision_version=vision_version)

    def decide(row: core.PostRow | None, command: Any, at: Moment) -> Change:
        decision = core.decide(row, command, at, rules)
        for what, details in decision.observed:
            _observe(what, details, decision.row)
        if isinstance(command, MediaOutcome) and decision.row is not None and row is not None:
            _count(row.media.get(command.sha256), decision.row.media[command.sha256])
        if isinstance(command, Opened) and decision.row is not None:
            _count_skips(row, decision.row)
        return Change(send=decision.send, row=decision.row, forget=decision.forget, reject=decision.reject)

    actor = Actor(app, "posts", PostCommand, table, outbox, dead_letters, decide, companions=_companions)

    async def posts(stream: Stream) -> None:
        await actor.run(stream)

    async def sweep() -> None:
        """Send a `Forget` for posts that were completed a day ago. The core checks each again."""
        now_ms = round(time.time() * 1000)
        old = now_ms - core.FORGET_AFTER_MS
        forgets: list[Message] = []
        for number, key in enumerate(list(table)):
            if number % ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)  # others get their turn
            if len(forgets) == SWEPT_AT_ONCE:
                break
            if (value := table.get(key)) is None:
                continue  # forgotten meanwhile
            if (orjson.loads(value).get("completed_ms") or now_ms) > old:
                continue
            row = core.PostRow.model_validate_json(value)
            if core.forgettable(row, now_ms):
                event = row.event
                forgets.append(
                    Forget(tenant_id=event.tenant_id, post_id=event.post_id, completed_ms=row.completed_ms or 0)
                )
        await outbox.send(forgets, keep_trying=lambda: not app.should_stop)

    every(app, SWEEP_SECONDS, sweep)
    return app.agent(outbox.channel(POSTS), name="posts")(posts)


def _companions(command: Any, letter: DeadLetter) -> list[Message]:
    """If an outcome is dead-lettered, for example as too large, end its medium as failed, so that the post goes on.

    Not if no post asked for the outcome, and not if the outcome is itself such a failure.
    """
    if not isinstance(command, MediaOutcome) or letter.error == "rejected":
        return []
    if isinstance(command.outcome, Failed) and command.outcome.dead_letter_id:
        return []
    failed = Failed(reason="exception", details={"error": letter.error}, dead_letter_id=letter.id)
    return [command.model_copy(update={"outcome": failed})]


def _count(before: core.MediumState | None, now: core.MediumState) -> None:
    """Count a medium when it has ended, by result and reason."""
    if before == now or now.outcome is None:
        return
    metrics.MEDIA.labels(result=_result(now.outcome), reason=_reason(now.outcome)).inc()
    metrics.MEDIA_DURATION.observe((now.times.get("collected", now.dispatched_ms) - now.dispatched_ms) / 1000)


def _count_skips(before: core.PostRow | None, now: core.PostRow) -> None:
    """Count what the policy has just skipped: it has ended without a dispatch, so it has no duration."""
    for sha256, medium in now.media.items():
        known = before.media.get(sha256) if before else None
        if isinstance(medium.outcome, Skipped) and (known is None or known.outcome != medium.outcome):
            metrics.MEDIA.labels(result=_result(medium.outcome), reason=_reason(medium.outcome)).inc()


def _result(outcome: Outcome) -> str:
    return "ok" if isinstance(outcome, Analyzed) else outcome.kind


def _reason(outcome: Outcome) -> str:
    if not isinstance(outcome, Analyzed):
        return str(outcome.details.get("policy_name") or outcome.reason)  # of a policy's skip: the rule
    if outcome.cached:
        return "cached"
    return "ocr_fallback" if outcome.answer.provider == "ocr_fallback" else "success"


def _observe(what: str, details: dict[str, Any], row: core.PostRow | None) -> None:
    match what:
        case "duplicate":
            metrics.ACTOR_DUPLICATES.labels(actor="posts").inc()
        case "nothing_new":
            metrics.IDEMPOTENCY_HITS.inc()
            log.info("media_already_processed", reason="idempotency")
        case "asked_again":
            metrics.BUDGET_ASKED_AGAIN.inc(details["media"])
            log.warning("media_requested_again", **details)
        case "completed" if row is not None and row.completed_ms is not None:
            seconds = (row.completed_ms - row.opened_ms) / 1000
            metrics.EVENT_DURATION.observe(seconds)
            log.info("post_completed", duration_ms=round(seconds * 1000), media_count=len(row.media), **details)
        case _:
            log.info("outcome_without_effect", what=what, **details)
