"""Reads grants, lets `vision_app/analysis/analyst.py` handle many at once, and acknowledges them in order."""

from __future__ import annotations

import structlog

from vision_app.analysis.analyst import Analyst
from vision_app.analysis.preflights import Preflights
from vision_app.analysis.results import failed_by_dead_letter
from vision_app.messages import DeadLetter, Grant, Message, decode
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import Event, Stream, Worker
from vision_app.streams.in_flight import InFlight
from vision_app.streams.outbox import Outbox
from vision_app.streams.ownership import is_ours
from vision_app.telemetry import spans
from vision_app.telemetry.logging import bind
from vision_app.telemetry.watch import Subject, note_subjects
from vision_app.topics import ANALYSIS

log = structlog.get_logger(__name__)

IN_FLIGHT = 64
"""Tasks at the gate or in a call; a tenant has at most `vision_max_concurrent_requests` of them."""


def analysis_agent(
    app: Worker, outbox: Outbox, dead_letters: DeadLetters, analyst: Analyst, preflights: Preflights
) -> InFlight:
    """Build the agent. Returns its flow, which the worker drains when it stops."""

    async def handle(event: Event) -> None:
        grant: Grant = decode(Grant, event.value)
        task = grant.task
        spans.waited_for_budget(task, event)
        note_subjects(Subject(task.tenant_id, task.post_id, task.medium.sha256))
        with bind(trace_id=task.trace_id, post_id=task.post_id, tenant_id=task.tenant_id):
            messages = await analyst.handle(event, grant, is_new=preflights.is_new(event, grant))
            await outbox.send(messages, keep_trying=lambda: is_ours(app, event))

    def companions(event: Event, letter: DeadLetter) -> list[Message]:
        try:
            grant: Grant = decode(Grant, event.value)
        except ValueError:
            return []
        return [analyst.close_failed(grant), failed_by_dead_letter(grant.task, letter)]

    flow = InFlight(app, "analysis", handle, dead_letters, limit=IN_FLIGHT, companions=companions)

    async def analysis(stream: Stream) -> None:
        log.info("Vision Analysis task started")
        await flow.run(stream)

    app.agent(outbox.channel(ANALYSIS), name="analysis")(analysis)
    return flow
