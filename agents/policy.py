"""Decides which media are analyzed: reads an uploaded post tolerantly, applies the policy, opens the post."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from vision_app.domain.policy import Context, Policy, decide, decision_labels
from vision_app.events import Unreadable, read_json
from vision_app.messages import FORCE_HEADER, REPLAY_HEADER, Opened, Uploaded
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import Event, Stream, Worker
from vision_app.streams.in_flight import InFlight
from vision_app.streams.outbox import Outbox
from vision_app.streams.ownership import is_ours
from vision_app.telemetry import metrics
from vision_app.telemetry.logging import bind
from vision_app.telemetry.spans import with_trace_of
from vision_app.telemetry.watch import Subject, note_subjects
from vision_app.topics import UPLOADED

log = structlog.get_logger(__name__)

IN_FLIGHT = 64
MAX_TIME_DIGITS = 18
"""Digits of an entry id's time. Producers may choose ids, and a larger number fits into no column."""
MAX_EVENT_BYTES = 256 * 1024
"""A post's row holds its event and up to 250 kB of analyses, far below Kafka's limit. Most events have 2 kB."""


def policy_agent(
    app: Worker,
    outbox: Outbox,
    dead_letters: DeadLetters,
    *,
    policy: Callable[[], Policy],
    default_tenant: str,
    spent_today: Callable[[str], Awaitable[int | None]],
    is_answered: Callable[[Uploaded], bool],
) -> Any:
    """Build the agent. `policy` returns the policy in force; `spent_today` returns a tenant's tokens, if known.

    `is_answered` tells whether a post has all answers to an event already. Such an event ends here, unless it is
    forced: of a publication that is repeated, nothing needs to be done.
    """

    async def context_of(rules: Policy, uploaded: Uploaded) -> Context:
        if not rules.spending_matters(len(uploaded.media_files)):
            return Context()
        return Context(spent_today=await spent_today(uploaded.tenant_id))

    async def handle(event: Event) -> None:
        def keep_trying() -> bool:
            return is_ours(app, event)

        try:
            uploaded = with_trace_of(_read(event.value, default_tenant), event.headers)
        except Unreadable as fault:
            await dead_letters.put_event(event, fault, keep_trying=keep_trying)
            return
        note_subjects(Subject(uploaded.tenant_id, uploaded.post_id))
        with bind(trace_id=uploaded.trace_id, post_id=uploaded.post_id, tenant_id=uploaded.tenant_id):
            if not _is_forced(event) and is_answered(uploaded):
                metrics.IDEMPOTENCY_HITS.inc()
                log.info("media_already_processed", reason="idempotency")
                return
            rules = policy()
            verdicts = decide(rules, uploaded, context=await context_of(rules, uploaded))
            for verdict in verdicts:
                decision, reason = decision_labels(verdict)
                metrics.POLICY_DECISIONS.labels(decision=decision, reason=reason).inc()
            opened = Opened(
                event=uploaded,
                verdicts=verdicts,
                input_id=input_id(uploaded, event),
                force=_is_forced(event),
                replay=REPLAY_HEADER in (event.headers or {}),
                times={
                    "published": published_ms(uploaded),
                    "relayed": round(event.message.timestamp * 1000),
                    "judged": round(time.time() * 1000),
                },
            )
            await outbox.send([opened], keep_trying=keep_trying)

    flow = InFlight(app, "policy", handle, dead_letters, limit=IN_FLIGHT)

    async def policy_(stream: Stream) -> None:
        await flow.run(stream)

    return app.agent(outbox.channel(UPLOADED), name="policy")(policy_)


def _is_forced(event: Event) -> bool:
    return (event.headers or {}).get(FORCE_HEADER) == b"1"


def _read(value: bytes | None, default_tenant: str) -> Uploaded:
    """Read one event. Refuses, unread, an event too large for its post's row to fit into the changelog."""
    if value is not None and len(value) > MAX_EVENT_BYTES:
        raise Unreadable(f"{len(value)} bytes; an event has at most {MAX_EVENT_BYTES}: publish less beside the media")
    return read_json(value, default_tenant=default_tenant)


def input_id(uploaded: Uploaded, event: Event) -> str:
    """The id of the publication: the Redis entry's id, also when it is relayed again, or else this record's place.

    A replay is a new publication: skipped and failed media are looked at again.
    """
    entry = (uploaded.model_extra or {}).get("source_entry_id")
    if entry and REPLAY_HEADER not in (event.headers or {}):
        return f"{(uploaded.model_extra or {}).get('source_stream')}/{entry}"
    at = event.message
    return f"{at.topic}/{at.partition}/{at.offset}/{round(at.timestamp * 1000)}"


def published_ms(uploaded: Uploaded) -> int:
    """When the event was put on its Redis stream, or its own time if it came another way."""
    entry_time = str((uploaded.model_extra or {}).get("source_entry_id", "")).partition("-")[0]
    if entry_time.isdecimal() and len(entry_time) <= MAX_TIME_DIGITS:
        return int(entry_time)
    return round(uploaded.occurred_at.timestamp() * 1000)
