"""Takes the account: calls every reader and passes the material to the arithmetic. Decides nothing itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from vision_app.messages import DeadLetter
from vision_app.operations.backlog import await_idle
from vision_app.operations.connections import postgres_of, redis_of, s3_of
from vision_app.operations.kafka_log import kafka_log
from vision_app.settings import Settings
from vision_app.texts import say
from vision_app.topics import UPLOADED

from .bill_reader import as_bill, check_bill, read_bill, read_records
from .charges import Recorded, judge_charges, known_charges
from .delivery import Delivered, judge_delivery
from .figures import Account
from .kafka_reader import KafkaMaterial, origin_fault, read_kafka
from .ledger import Ledgers
from .material import Input, Letter, Progress
from .money import Spent, grants_of, judge_money, to_look_up
from .redis_reader import first_event_ms, holds_entry, read_dlq_stream, read_events, read_inputs
from .scope import Scope
from .stores_reader import read_charges, read_graph, read_objects, read_rows
from .tally import Tally

DAY_MS = 24 * 60 * 60 * 1000


async def take_account(settings: Settings, *, since_ms: int = 0, tenants: Collection[str] | None = None) -> Account:
    """Account for everything published since a time (epoch milliseconds), of these tenants or of all.

    Reads only, and leaves out inputs that are published meanwhile. Unfinished work is counted as under way, so the
    account is exact only when the system is idle. Raises the errors of the services that cannot be read
    (`operations.connections.run` turns them into advice).
    """
    started, scope = time.monotonic(), Scope.of(since_ms, round(time.time() * 1000), tenants)
    ledgers, tally = Ledgers(since_ms), Tally()
    await check_bill(settings)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_of(settings))
        s3 = await stack.enter_async_context(s3_of(settings))
        pool = await stack.enter_async_context(postgres_of(settings))
        backlog = await await_idle(redis, settings, time.monotonic())
        inputs = await read_inputs(redis, settings, scope)
        events = await read_events(redis, settings, scope)
        async with kafka_log(settings) as log:
            kafka = await read_kafka(log, settings, scope, inputs, ledgers)
        rows = await read_rows(
            pool, scope, {one.post for one in kafka.inputs.values()} | {event.post for event in events}
        )
        charges = await read_charges(pool, scope, known_charges(ledgers))
        objects, graph, bill = await asyncio.gather(
            read_objects(s3, scope), read_graph(settings, scope), read_bill(settings, scope)
        )
        progress = Progress(
            {**backlog.redis_unread, **backlog.redis_pending, **backlog.kafka}, ledgers.waiting, ledgers.born
        )
        delivered = Delivered(
            inputs=[*kafka.inputs.values(), *_buried_inputs(settings, scope, kafka)],
            judged={post: sorted(times.values()) for post, times in kafka.judged.items()},
            rows=rows,
            events=[event for event in events if event.at_ms < scope.until_ms],
            letters=await _letters(redis, settings, scope, kafka),
            answers=objects.answers,
            documents=objects.documents,
            graph=graph,
            progress=progress,
            emits_skipped=settings.feature_vision_emit_skipped_events,
            since_ms=since_ms,
            until_ms=scope.until_ms,
            events_from_ms=await first_event_ms(redis, settings),
            objects_from_ms=scope.until_ms - settings.s3_vision_ttl_days * DAY_MS,
        )
        spent = Spent(
            calls=bill or (),
            grants=kafka.grants,
            closings=kafka.closings,
            ledgers=ledgers,
            call_keys=objects.calls,
            restricted=scope.tenants is not None,
            tenants=scope.tenants or frozenset(one.tenant_id for one in kafka.inputs.values()),
            progress=progress,
            since_ms=since_ms,
            objects_from_ms=delivered.objects_from_ms,
        )
        wanted = to_look_up(spent) if bill is not None else [(one.tenant_id, one.id) for one in grants_of(spent)]
        spent = replace(spent, records=await read_records(s3, wanted))
    if bill is None:
        spent = replace(spent, calls=as_bill(spent.records.values()))
    judge_delivery(delivered, tally)
    judge_money(spent, tally)
    judge_charges(
        Recorded(
            rows=charges.rows,
            ledgers=ledgers,
            closings=kafka.closings,
            progress=progress,
            since_ms=since_ms,
            until_ms=scope.until_ms,
            table_from_ms=charges.from_ms,
            table_missing=charges.missing,
            reported_from_ms=kafka.closings_from_ms,
        ),
        tally,
    )
    tally.notes += _notes(bill is not None, backlog, kafka)
    account = tally.account(
        since_ms=since_ms,
        taken_ms=scope.until_ms,
        seconds=round(time.monotonic() - started, 3),
        bill_available=bill is not None,
    )
    if delivered.events_from_ms > since_ms:
        account.notes.append(trimmed_note(settings.vision_output_stream, delivered.events_from_ms, account))
    return account


def trimmed_note(stream: str, events_from_ms: int, account: Account) -> str:
    """What cannot be judged because the output stream no longer has its first entries."""
    begins = datetime.fromtimestamp(events_from_ms / 1000, UTC)
    return say(
        "{stream} begins at {begins:%Y-%m-%d %H:%M:%S} UTC, as older entries were trimmed (MAXLEN, XTRIM): "
        "whether the {rows_not_judged} finished rows older than that were announced, and how often, cannot "
        "be judged",
        stream=stream,
        begins=begins,
        rows_not_judged=account.rows_not_judged,
    )


def _buried_inputs(settings: Settings, scope: Scope, kafka: KafkaMaterial) -> list[Input]:
    """Inputs known only from dead letters. An unreadable entry names no tenant; its dead letter may."""
    return [
        Input(letter.id, letter.tenant_id or "", "", letter.first_seen_ms)
        for letter in {letter.id: letter for letter in kafka.letters}.values()
        if letter.origin in (*settings.input_streams, UPLOADED.name)
        and letter.id not in kafka.inputs
        and scope.within(letter.first_seen_ms)
    ]


async def _letters(redis: Redis, settings: Settings, scope: Scope, kafka: KafkaMaterial) -> Sequence[Letter]:
    """The dead letters, each with its fault. A letter on Redis must also be on Kafka, and vice versa."""
    on_redis = await read_dlq_stream(redis, settings, scope)
    letters = {letter.id: letter for letter in kafka.letters}
    found = [await _letter(redis, settings, letter, kafka, on_redis) for letter in letters.values()]
    if scope.tenants is None:
        alone = say("it is among the dead letters of Redis, but not on the topic vision.dlq")
        found += [Letter(name, name.rsplit("-", 2)[0], None, None, alone) for name in sorted(on_redis - set(letters))]
    return found


async def _letter(
    redis: Redis, settings: Settings, letter: DeadLetter, kafka: KafkaMaterial, on_redis: Collection[str]
) -> Letter:
    fault = origin_fault(letter, kafka.ends, settings.input_streams)
    if not fault and letter.origin in settings.input_streams:
        if letter.id not in on_redis:
            fault = say(
                "it is not on {vision_dlq_stream}, where others look for it",
                vision_dlq_stream=settings.vision_dlq_stream,
            )
        elif not await holds_entry(redis, letter.origin, letter.offset or ""):
            fault = say("{origin} holds no entry {offset}", origin=letter.origin, offset=letter.offset)
    return Letter(letter.id, letter.origin, letter.tenant_id, letter.post_id, fault)


def _notes(billed: bool, backlog: Any, kafka: KafkaMaterial) -> list[str]:
    notes = []
    if not billed:
        notes.append(
            say("no bill: GigaChat is real and shows none; the worker's own records of paid calls stand in for it")
        )
    if backlog:
        notes.append(say("the system is at work ({backlog}): what has not ended counts as under way", backlog=backlog))
    if kafka.unreadable:
        notes.append(
            say("{unreadable} records on Kafka could not be read and were passed over", unreadable=kafka.unreadable)
        )
    return notes
