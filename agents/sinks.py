"""The sinks. Each store has its own topic and agent, so that a store that is away does not delay the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import orjson
import structlog

from vision_app.events import MAX_TRACE_CHARS, SKIPPED_EVENT, announcement, entry_key, reduced
from vision_app.messages import Charged, PostResult, decode, headers_of
from vision_app.stores.base import Sink
from vision_app.streams.batches import Batches
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import Stream, Worker
from vision_app.streams.outbox import Outbox, Oversized
from vision_app.telemetry import metrics, spans
from vision_app.telemetry.watch import Subject
from vision_app.topics import ANALYZED, SINK_NEO4J, SINK_POSTGRES, SINK_S3, SKIPPED, Topic

log = structlog.get_logger(__name__)


def sink_agents(
    app: Worker,
    outbox: Outbox,
    dead_letters: DeadLetters,
    *,
    postgres: Sink[PostResult | Charged],
    documents: Sink[PostResult],
    graph: Sink[PostResult] | None,
    emit_skipped: bool,
) -> list[Batches]:
    """Build the sinks' agents. Only the Postgres sink announces: it commits the row before it sends the event."""

    async def announce(results: Sequence[PostResult | Charged], keep_trying: Callable[[], bool]) -> None:
        """Announce side by side; of a post there is one result, the one now in force."""
        announced = await asyncio.gather(
            *(
                _announce(outbox, result, emit_skipped, keep_trying)
                for result in results
                if isinstance(result, PostResult) and result.status != "in_work"
            ),
            return_exceptions=True,
        )
        for fault in announced:
            if fault is not None:
                raise fault

    flows = [_sink(app, outbox, dead_letters, postgres, SINK_POSTGRES, written=announce)]
    flows.append(_sink(app, outbox, dead_letters, documents, SINK_S3))
    if graph is not None:
        flows.append(_sink(app, outbox, dead_letters, graph, SINK_NEO4J))
    return flows


def _sink(
    app: Worker, outbox: Outbox, dead_letters: DeadLetters, sink: Sink[Any], topic: Topic, **options: Any
) -> Batches:
    batches = Batches(app, sink, partial(decode, topic.model), dead_letters, subject_of=_subject_of, **options)

    async def write(stream: Stream) -> None:
        await batches.run(stream)

    app.agent(outbox.channel(topic), name=f"sink-{sink.name}")(write)
    return batches


def _subject_of(record: Any) -> Subject | None:
    return Subject(record.event.tenant_id, record.event.post_id) if isinstance(record, PostResult) else None


async def _announce(outbox: Outbox, result: PostResult, emit_skipped: bool, keep_trying: Callable[[], bool]) -> None:
    event_type, body = announcement(result)
    if event_type == SKIPPED_EVENT and not emit_skipped:
        _count(result)
        return
    topic = SKIPPED if event_type == SKIPPED_EVENT else ANALYZED
    trace = result.event.trace_id
    headers = headers_of(trace, event_type, spans.traceparent_about(result.event))
    try:
        await outbox.deliver(topic, entry_key(body), orjson.dumps(body), headers, keep_trying=keep_trying)
    except Oversized:
        metrics.ENDINGS_REDUCED.labels(what="announcement").inc()
        log.warning("announcement_reduced", trace_id=trace[:MAX_TRACE_CHARS])
        less, headers = reduced(body), headers_of(trace[:MAX_TRACE_CHARS], event_type)
        await outbox.deliver(topic, entry_key(body), orjson.dumps(less), headers, keep_trying=keep_trying)
    _count(result)


def _count(result: PostResult) -> None:
    reason = {"skipped": "all_media_skipped", "error": "analysis_failed"}.get(result.status, "none")
    metrics.EVENTS.labels(status=result.status, reason=reason).inc()
    log.info(
        "results_saved",
        trace_id=result.event.trace_id,
        post_id=result.event.post_id,
        tenant_id=result.event.tenant_id,
        status=result.status,
        seconds_since_opened=round(time.time() - result.opened_ms / 1000, 3),
    )
