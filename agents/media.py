"""Preflight of one picture: is an answer stored, does the object exist, how many tokens may the call cost?

It reserves no money and does not read the object. Type, pixels and hash are checked once, where the object is read.
"""

from __future__ import annotations

import time
from typing import Any

import structlog

from vision_app.analysis.preflights import Preflights
from vision_app.analysis.results import analyzed_outcome, failed_by_dead_letter
from vision_app.messages import MediaTask, Message, Reserve, Skipped, decode
from vision_app.providers.pictures import estimate_tokens
from vision_app.settings import Settings
from vision_app.stores.answers import AnswerStore
from vision_app.stores.s3 import ObjectForbidden, ObjectMissing, S3Store
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import Event, Stream, Worker
from vision_app.streams.in_flight import InFlight
from vision_app.streams.outages import through_outages
from vision_app.streams.outbox import Outbox
from vision_app.streams.ownership import is_ours
from vision_app.telemetry import metrics, spans
from vision_app.telemetry.logging import bind
from vision_app.telemetry.metrics import tenant_label
from vision_app.telemetry.watch import Subject, note_subjects
from vision_app.topics import MEDIA

log = structlog.get_logger(__name__)

IN_FLIGHT = 16


def media_agent(
    app: Worker,
    outbox: Outbox,
    dead_letters: DeadLetters,
    s3: S3Store,
    answers: AnswerStore,
    preflights: Preflights,
    settings: Settings,
) -> Any:
    """Build the agent."""

    async def handle(event: Event) -> None:
        task: MediaTask = decode(MediaTask, event.value)
        note_subjects(Subject(task.tenant_id, task.post_id, task.medium.sha256))
        with bind(trace_id=task.trace_id, post_id=task.post_id, tenant_id=task.tenant_id):
            message = await through_outages(app, event, lambda: check(event, task), "s3")
            await outbox.send([message], keep_trying=lambda: is_ours(app, event))

    async def check(event: Event, task: MediaTask) -> Message:
        medium, now_ms = task.medium, round(time.time() * 1000)
        stored = await answers.find(task.tenant_id, medium.sha256, "gigachat", only_good=task.force)
        if stored is not None and stored.answer.analysis is not None:
            metrics.CACHE_HITS.labels(cache_type="s3").inc()
            spans.note(cached=True)
            key = answers.key(task.tenant_id, medium.sha256, "gigachat")
            return task.outcome(analyzed_outcome(stored.answer, key, cached=True), checked=now_ms)
        try:
            if not medium.s3_key:
                raise ObjectMissing("the event names no object")
            head = await s3.head(medium.s3_key)
        except ObjectMissing:
            return _skipped(task, "s3_missing", now_ms)
        except ObjectForbidden:
            return _skipped(task, "s3_forbidden", now_ms)
        estimate = estimate_tokens(head.size_bytes, medium.mime_type, settings)
        metrics.TOKENS_ESTIMATED.labels(provider="gigachat", tenant_id=tenant_label(task.tenant_id)).inc(estimate)
        checked = task.at(checked=now_ms)
        if stored is None:
            preflights.note_unanswered(event, checked)
        return Reserve(tenant_id=task.tenant_id, task=checked, estimate=estimate)

    flow = InFlight(app, "media", handle, dead_letters, limit=IN_FLIGHT, companions=_companions)

    async def media(stream: Stream) -> None:
        await flow.run(stream)

    return app.agent(outbox.channel(MEDIA), name="media")(media)


def _skipped(task: MediaTask, reason: str, now_ms: int) -> Message:
    log.info("media_skipped", reason=reason, s3_key=task.medium.s3_key, media_sha256=task.medium.sha256)
    return task.outcome(Skipped(reason=reason, details={"s3_key": task.medium.s3_key}), checked=now_ms)


def _companions(event: Event, letter: Any) -> list[Message]:
    try:
        return [failed_by_dead_letter(decode(MediaTask, event.value), letter)]
    except ValueError:
        return []  # not a task, so no post waits for it
