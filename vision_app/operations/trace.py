"""Everything about one post in order of time: its row's times, its records in Kafka, its entries in Redis."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from vision_app import topics
from vision_app.messages import DeadLetter
from vision_app.operations.api import Api
from vision_app.settings import Settings
from vision_app.stores.posts import PostsReader, Row
from vision_app.streams.letter_ids import ids_of
from vision_app.telemetry.tracing import root_of, trace_of
from vision_app.texts import heard, say

from .connections import OperationError, api_of, postgres_of, redis_of
from .health import describe_stall, health
from .hops import LAST_ENTRY_MS, Hop, Subject, kafka_hops, redis_hops, summary, windows
from .kafka_log import KafkaLog, kafka_log
from .letters import Filter, letters_about, read_letters, waiting_letters
from .rows import RowFinder, event_of
from .unrecorded import Named, search
from .waiting import FORGOTTEN, deferral, forgotten, waiting_for

_ENTRYS_LETTER = re.compile(r"stream:.+-(\d+-\d+)")
"""The id of a dead letter that was an entry of a stream."""


@dataclass(frozen=True)
class Sources:
    """Where a post is looked for."""

    settings: Settings
    posts: PostsReader
    redis: Redis
    kafka: KafkaLog
    api: Api


@dataclass(frozen=True)
class Trace:
    """A post's way. `stopped`: where it is and what it waits for, None if it is finished."""

    tenant_id: str
    post_id: str
    trace_id: str | None
    status: str
    hops: Sequence[Hop]
    media: Sequence[Mapping[str, Any]] = ()
    stopped: str | None = None
    whole: bool = True  # False: there are more records or entries than one trace reads
    letters: Sequence[str] = ()  # ids of its dead letters that wait for a decision
    w3c_trace_id: str | None = None  # of its spans at the collector, if its row is known


async def trace(settings: Settings, text: str, *, tenant_id: str | None, since_ms: int) -> list[Trace]:
    """The ways of the posts that an id names: the id of a post, a trace, an entry, a record or a dead letter.

    `since_ms`: how far back Redis and Kafka are searched for posts without a row. Raises OperationError when nothing
    has this id, and the errors of the stores.
    """
    asked = text
    if letter := _ENTRYS_LETTER.fullmatch(text):
        text = letter[1]
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(postgres_of(settings))
        redis = await stack.enter_async_context(redis_of(settings))
        kafka = await stack.enter_async_context(kafka_log(settings))
        api = await stack.enter_async_context(api_of(settings))
        rows = RowFinder(pool)
        found = await rows.find(text, tenant_id)
        without_row: list[Named] = []
        if not found:
            for named in await search(settings, text, redis, kafka, since_ms):
                if tenant_id in (None, named.tenant_id):
                    row = await rows.find(named.post_id, named.tenant_id)
                    found += row
                    without_row += [] if row else [named]
        letters = [] if found or without_row else await letters_about(kafka, asked, tenant_id)
        for named in _named_in(letters):
            row = await rows.find(named.post_id, named.tenant_id)
            found += row
            without_row += [] if row else [named]
        sources = Sources(settings, PostsReader(pool), redis, kafka, api)
        traces = [await _of_row(sources, row) for row in found]
        traces += [await _of_event(sources, named, since_ms) for named in without_row]
        traces = traces or [_of_letter(one) for one in letters]
        waiting = {letter.id for letter in await waiting_letters(pool, await _letters_of(kafka, traces))}
        traces = [_with_letters(one, waiting) for one in traces]
    if not traces:
        raise OperationError(
            say(
                "nothing is known of {text!r}: no row, and nothing on the streams and topics in the time "
                "searched; look further back with --since 7d, and see `vision dlq ls` for what could not be "
                "read",
                text=text,
            )
        )
    return traces


async def _of_row(sources: Sources, row: Row) -> Trace:
    data = row["data"] or {}
    media = list(data.get("media", ()))
    since = row["in_work_since"]
    unfinished = row["status"] == "in_work" or since is not None
    moments = [*data.get("times", {}).values(), *(at for medium in media for at in medium.get("times", {}).values())]
    if since is not None:
        moments.append(round(since.timestamp() * 1000))
    moments.append(row["emission_time_ms"])
    around = windows([at for at in moments if at], _now_ms() if unfinished else None)
    pictures = frozenset(medium["sha256"] for medium in media)
    subject = Subject(row["tenant_id"], row["post_id"], pictures, around)
    made = await _made(sources, subject, row["trace_id"], row["status"], _row_hops(row), media)
    root = root_of(event_of(row))
    return replace(made, w3c_trace_id=trace_of(root) if root else None)


def _named_in(letters: Sequence[DeadLetter]) -> list[Named]:
    """The posts that these letters name, each once."""
    known = [ids for letter in letters if (ids := ids_of(letter)).keys() >= {"tenant_id", "post_id"}]
    named = {(ids["tenant_id"], ids["post_id"]): ids.get("trace_id") for ids in known}
    return [Named(tenant, post, trace_id, frozenset()) for (tenant, post), trace_id in named.items()]


async def _letters_of(kafka: KafkaLog, traces: Sequence[Trace]) -> list[DeadLetter]:
    """The dead letters among the hops of these posts."""
    ids = {hop.letter for one in traces for hop in one.hops if hop.letter}
    return await read_letters(kafka, Filter(ids=ids)) if ids else []


def _with_letters(found: Trace, waiting: Collection[str]) -> Trace:
    own = list(dict.fromkeys(hop.letter for hop in found.hops if hop.letter in waiting and hop.letter))
    return replace(found, letters=own)


def _of_letter(letter: DeadLetter) -> Trace:
    """The way of a message of which only its dead letter is known."""
    known = ids_of(letter)
    hops = [
        Hop(letter.first_seen_ms, letter.origin, letter.offset or "", "arrived"),
        Hop(letter.last_seen_ms, topics.DLQ.name, letter.id, summary(letter.model_dump()), letter=letter.id),
    ]
    return Trace(known.get("tenant_id", ""), known.get("post_id", ""), known.get("trace_id"), "dead letter", hops)


async def _of_event(sources: Sources, named: Named, since_ms: int) -> Trace:
    subject = Subject(named.tenant_id, named.post_id, named.pictures, [(since_ms, LAST_ENTRY_MS)])
    return await _made(sources, subject, named.trace_id, "no row", [], [])


async def _made(
    sources: Sources,
    subject: Subject,
    trace_id: str | None,
    status: str,
    hops: list[Hop],
    media: Sequence[Mapping[str, Any]],
) -> Trace:
    settings, posts, api = sources.settings, sources.posts, sources.api
    records, all_records = await kafka_hops(sources.kafka, subject, await sources.kafka.committed())
    entries, all_entries = await redis_hops(sources.redis, settings, subject)
    everything = sorted([*hops, *records, *entries], key=lambda hop: hop.at_ms)
    stopped = await _stopped(subject, status, everything, api) or await _deferred(subject, media, posts, api)
    if stopped or any(hop.waits for hop in everything):
        stalls = [stall for worker in await health(settings) for stall in worker.stalls]
        stopped = ". ".join([*([stopped] if stopped else []), *_stalled(everything, stalls)]) or None
    return Trace(
        tenant_id=subject.tenant_id,
        post_id=subject.post_id,
        trace_id=trace_id,
        status=status,
        hops=everything,
        media=media,
        stopped=stopped,
        whole=all_records and all_entries,
    )


def _row_hops(row: Row) -> list[Hop]:
    """The times in the row: of the post, and of each of its media."""
    data = row["data"] or {}
    hops = [Hop(at, "post", "", name) for name, at in data.get("times", {}).items() if at]
    shared = set(data.get("times", {}).items())
    seen: set[str] = set()
    for medium in data.get("media", ()):
        if medium["sha256"] in seen:
            continue  # a twin has the same way as the first one
        seen.add(medium["sha256"])
        own = {name: at for name, at in medium.get("times", {}).items() if (name, at) not in shared}
        hops += [Hop(at, "medium", medium["sha256"][:12], name) for name, at in own.items() if at]
    return hops


async def _stopped(subject: Subject, status: str, hops: Sequence[Hop], api: Api) -> str | None:
    """Where an unfinished post is: its last unfinished record or entry, else what the worker says it waits for."""
    waiting = [hop for hop in hops if hop.waits and hop.where != topics.SINK_NEO4J.name]
    if waiting:
        last = waiting[-1]
        where = say("in {where} at {place}: {waits}", where=last.where, place=last.place, waits=last.waits)
        more = await waiting_for(api, subject.tenant_id, subject.post_id) if status == "in_work" else ""
        return say("{where}; it waits for {more}", where=where, more=more) if more else where
    if status == "in_work":
        more = await waiting_for(api, subject.tenant_id, subject.post_id)
        return (
            say("it waits for {more}", more=more)
            if more
            else say("nothing is under way; `vision replay --post` sends its input again")
        )
    if status == "no row" and not any(hop.letter for hop in hops):
        return say("relayed and worked off, but there is no row; see the dead letters with `vision dlq ls`")
    return None


async def _deferred(subject: Subject, media: Sequence[Mapping[str, Any]], posts: PostsReader, api: Api) -> str | None:
    """What a deferred post waits for: its budget, or nothing if its tenant's ledger was lost. None: it is none."""
    waits = await deferral(api, subject.tenant_id, media)
    if not waits:
        return None
    lost = await forgotten(posts, api, datetime.now(UTC), subject.tenant_id)
    return (
        say("it waits for {forgotten}", forgotten=say(FORGOTTEN))
        if any(row["post_id"] == subject.post_id for row in lost)
        else waits
    )


def _stalled(hops: Sequence[Hop], stalls: Sequence[Mapping[str, Any]]) -> list[str]:
    """The stalls that hold up a post: at one of its own records, or at an earlier one of its partition."""
    waiting = [hop for hop in hops if hop.waits]
    found = []
    for stall in stalls:
        if stall["partition"] is None:
            in_the_way = stall["topic"] == "event_loop" or any(
                hop.where == stall["topic"] and hop.place == stall["offset"] for hop in waiting
            )
        else:
            partition = f"{stall['topic']}-{stall['partition']}-"
            offsets = [int(hop.place[len(partition) :]) for hop in waiting if hop.place.startswith(partition)]
            in_the_way = any(offset >= int(stall["offset"] or 0) for offset in offsets)
        if in_the_way:
            found.append(say("{stall}. Next: {remedy}", stall=describe_stall(stall), remedy=heard(stall["remedy"])))
    return found


def _now_ms() -> int:
    return round(time.time() * 1000)
