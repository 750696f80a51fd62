"""Dead letters: listed, shown, replayed and discarded, as `vision dlq` does it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Literal

import orjson
import structlog
from aiohttp import web
from aiokafka.errors import KafkaError

from vision_app.clients.faults import cause_of
from vision_app.messages import DeadLetter
from vision_app.operations.connections import FAULTS, redis_of
from vision_app.operations.costs import Prices
from vision_app.operations.letter_index import IndexedLetter
from vision_app.operations.letter_replay import LetterReplayPlan, LetterReplayPlanner, Senders, carry_out, cost_of
from vision_app.operations.letters import Actions, Filter, History, content
from vision_app.stores.posts import PostsReader
from vision_app.telemetry import metrics

from .auth import operator_for, tenant_asked
from .dead_letter_models import (
    MAX_CHOSEN,
    Chosen,
    DiscardAnswer,
    DiscardBody,
    LetterAnswer,
    LetterGroup,
    LetterPath,
    LettersAnswer,
    LettersQuery,
    LetterState,
    ListedDeadLetter,
    PlannedReplay,
    ReplayAnswer,
    ReplayBody,
    ReplayCost,
)
from .errors import ApiError, json_response
from .models import OperatorHeaders
from .operation import operation
from .page import Page
from .worker import ServedWorker

log = structlog.get_logger(__name__)

PAYLOAD_CHARS = 64_000
HEADERS, HEADER_CHARS = 50, 1000
"""Headers of a letter that are shown, and characters of each."""
LAST_MS = 253_402_300_799_000
"""The last second of the year 9999, in milliseconds since 1970."""
KAFKA_SECONDS = 9.0
"""A frozen broker is reported within 10 s."""
ACTION_SECONDS = 120.0


class LettersView(Page):
    """GET /api/v1/dlq: what could not be processed. A tenant's token sees the letters that name its tenant."""

    @operation("Dead letters, newest first", query=LettersQuery, answers={200: LettersAnswer}, errors=(503,))
    async def get(self, request: web.Request, query: LettersQuery) -> web.Response:
        return json_response(request, await letters(self.app, request, query))


class LetterView(Page):
    """GET /api/v1/dlq/{id}: one dead letter with its payload."""

    @operation("A dead letter whole", path=LetterPath, answers={200: LetterAnswer}, errors=(404, 503))
    async def get(self, request: web.Request, path: LetterPath) -> web.Response:
        return json_response(request, await letter(self.app, request, path.id))


class ReplayView(Page):
    """POST /api/v1/dlq/actions/replay: send letters again, or say what that would do and cost at most."""

    @operation(
        "Send dead letters again",
        headers=OperatorHeaders,
        body=ReplayBody,
        answers={200: ReplayAnswer},
        errors=(403, 404, 503),
        seconds=ACTION_SECONDS,
    )
    async def post(self, request: web.Request, headers: OperatorHeaders, body: ReplayBody) -> web.Response:
        return json_response(request, await replay(self.app, request, body, headers.x_operator))


class DiscardView(Page):
    """POST /api/v1/dlq/actions/discard: mark letters as done. They stay on the topic until its retention ends."""

    @operation(
        "Mark dead letters as done",
        headers=OperatorHeaders,
        body=DiscardBody,
        answers={200: DiscardAnswer},
        errors=(403, 404, 503),
        seconds=ACTION_SECONDS,
    )
    async def post(self, request: web.Request, headers: OperatorHeaders, body: DiscardBody) -> web.Response:
        return json_response(request, await discard(self.app, request, body, headers.x_operator))


async def letters(app: ServedWorker, request: web.Request, query: LettersQuery) -> LettersAnswer:
    """A page of the letters that the caller may see. Raises ApiError 404 for another tenant, 503 without a service."""
    wanted = Filter(
        origin=query.origin,
        error=query.error,
        tenant_id=tenant_asked(request, query.tenant_id),
        since_ms=round(query.since.timestamp() * 1000) if query.since else None,
        post_id=query.post_id,
    )
    found = [one for one in await _index(app) if wanted.fits(one, one.ids)]
    histories, states_known = await _histories_or_none(app, found)
    found = [one for one in found if query.state in ("all", _state(histories[one.id]))]
    groups = Counter((one.origin, one.error) for one in found)
    start = next((place + 1 for place, one in enumerate(found) if one.id == query.cursor), 0) if query.cursor else 0
    shown = found[start : start + query.limit]
    more = len(found) > start + query.limit
    return LettersAnswer(
        letters=[_listed(one, histories[one.id]) for one in shown],
        total=len(found),
        groups=[LetterGroup(origin=o, error=e, count=count) for (o, e), count in groups.most_common()],
        next_cursor=shown[-1].id if more else None,
        states_known=states_known,
        complete=app.letter_index.complete,
    )


async def count_waiting_letters(app: ServedWorker) -> int:
    """The letters that nobody has dealt with. Raises KafkaError, SinkUnavailable, asyncpg's errors."""
    found = await app.letter_index.letters()
    histories = await Actions((await app.readers.posts()).pool).histories([one.key for one in found])
    return sum(one.done is None for one in histories.values())


async def letter(app: ServedWorker, request: web.Request, letter_id: str) -> LetterAnswer:
    """One letter with its payload. Raises ApiError 404 if there is none that the caller may see."""
    tenant = tenant_asked(request, None)
    known = {one.id: one for one in await _index(app)}.get(letter_id)
    if known is None or tenant not in (None, known.tenant_id):
        raise _no_letter(letter_id)
    async with _kafka():
        whole = await app.letter_index.load([letter_id])
    if not whole:
        raise _no_letter(letter_id)
    histories, _ = await _histories_or_none(app, [known])
    payload, kind = readable(content(whole[0]))
    return LetterAnswer(
        letter=_listed(known, histories[known.id]),
        key=whole[0].key and whole[0].key[:HEADER_CHARS],
        partition=whole[0].partition,
        offset=whole[0].offset,
        headers={name[:HEADER_CHARS]: value[:HEADER_CHARS] for name, value in list(whole[0].headers.items())[:HEADERS]},
        code_version=whole[0].code_version,
        payload=payload[:PAYLOAD_CHARS],
        payload_kind=kind,
        payload_cut=len(payload) > PAYLOAD_CHARS,
    )


async def replay(
    app: ServedWorker, request: web.Request, body: ReplayBody, operator: str, reason: str | None = None
) -> ReplayAnswer:
    """Plan replays and, unless it is a dry run, carry them out. Raises ApiError 403, 404, 503."""
    operator_for(request, body.tenant_id)
    chosen, left = await _chosen(app, body)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(app.readers.pool_for_page())
        await stack.enter_async_context(_services())
        actions = Actions(pool)
        listed = await actions.with_history(chosen)
        plans = await LetterReplayPlanner(app.settings, PostsReader(pool)).plans(listed, again=body.again)
        cost = await cost_of(Prices(app.settings, app.s3), plans)
        places: dict[str, str] = {}
        if not body.dry_run:
            redis = await stack.enter_async_context(redis_of(app.settings))
            sender = await stack.enter_async_context(app.kafka_sender(app.settings))
            for plan in plans:
                if plan.way is not None:
                    places[plan.letter.id] = await carry_out(plan, Senders(redis, sender, actions), operator, reason)
            log.info("dead_letters_replayed", operator=operator, letters=len(places))
            app.letter_index.expire()
    price = ReplayCost(asked=cost.asked, tokens_at_most=cost.tokens_at_most, cached=cost.cached, gone=cost.gone)
    return ReplayAnswer(dry_run=body.dry_run, letters=[_planned(plan, places) for plan in plans], cost=price, left=left)


async def discard(
    app: ServedWorker, request: web.Request, body: DiscardBody, operator: str, reason: str | None = None
) -> DiscardAnswer:
    """Mark letters as done, unless it is a dry run. Raises ApiError 403, 404, 503."""
    operator_for(request, body.tenant_id)
    chosen, left = await _chosen(app, body)
    if not body.dry_run:
        async with app.readers.pool_for_page() as pool:
            actions = Actions(pool)
            await asyncio.gather(*(actions.record(one, "discarded", operator, reason=reason) for one in chosen))
        log.info("dead_letters_discarded", operator=operator, letters=len(chosen))
    return DiscardAnswer(dry_run=body.dry_run, ids=[one.id for one in chosen], left=left)


def readable(payload: bytes) -> tuple[str, Literal["json", "text", "bytes"]]:
    """The payload as a person reads it: JSON indented, text, or a hexadecimal dump of its first part. Pure."""
    try:
        return orjson.dumps(orjson.loads(payload), option=orjson.OPT_INDENT_2).decode(), "json"
    except orjson.JSONDecodeError:
        pass
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        text = "\x00"
    if all(character.isprintable() or character in "\r\n\t" for character in text):
        return text, "text"
    return payload[: PAYLOAD_CHARS // 3 + 1].hex(" "), "bytes"


async def _index(app: ServedWorker) -> Sequence[IndexedLetter]:
    async with _kafka():
        return await app.letter_index.letters()


async def _histories(app: ServedWorker, found: Sequence[IndexedLetter]) -> dict[str, History]:
    async with app.readers.pool_for_page() as pool:
        return await Actions(pool).histories([one.key for one in found])


async def _histories_or_none(app: ServedWorker, found: Sequence[IndexedLetter]) -> tuple[dict[str, History], bool]:
    """The histories and true; empty ones and false while Postgres is away, as letters must be readable then, too."""
    try:
        return await _histories(app, found), True
    except ApiError:
        return {one.id: History() for one in found}, False


async def _chosen(app: ServedWorker, body: Chosen) -> tuple[list[DeadLetter], int]:
    """The whole letters to act on, and how many more would fit. Raises ApiError 404 for an id that is none."""
    known = await _index(app)
    if body.ids:
        named = set(body.ids)
        fitting = [one for one in known if one.id in named]
        if missing := sorted(named - {one.id for one in fitting}):
            raise _no_letter(missing[0])
    else:
        wanted = Filter(origin=body.origin, error=body.error, tenant_id=body.tenant_id)
        fitting = [one for one in known if wanted.fits(one, one.ids)]
        histories = await _histories(app, fitting)
        fitting = [one for one in fitting if histories[one.id].done is None]
    taken = fitting[:MAX_CHOSEN]
    async with _kafka():
        return await app.letter_index.load([one.id for one in taken]), len(fitting) - len(taken)


@asynccontextmanager
async def _kafka() -> AsyncIterator[None]:
    """While Kafka does not answer, the page answers 503."""
    try:
        async with asyncio.timeout(KAFKA_SECONDS):
            yield
    except (KafkaError, TimeoutError, OSError) as fault:
        metrics.RETRIES.labels(stage="dlq").inc()
        log.warning("dead_letters_not_read", error=cause_of(fault))
        text = "Kafka does not answer, so the dead letters cannot be read; see `vision doctor`"
        raise ApiError(503, "kafka_unavailable", text) from fault


@asynccontextmanager
async def _services() -> AsyncIterator[None]:
    """While Redis, Kafka or S3 does not answer, a replay answers 503; what was sent before is recorded."""
    try:
        yield
    except FAULTS as fault:
        metrics.RETRIES.labels(stage="dlq").inc()
        log.warning("dead_letters_not_replayed", error=cause_of(fault))
        text = f"a service does not answer ({cause_of(fault)}); see `vision doctor`, then repeat the request"
        raise ApiError(503, "service_unavailable", text) from fault


def _state(history: History) -> LetterState:
    return "waiting" if history.done is None else "replayed" if history.done == "replayed" else "discarded"


def _listed(one: IndexedLetter, history: History) -> ListedDeadLetter:
    return ListedDeadLetter(
        id=one.id,
        state=_state(history),
        origin=one.origin,
        error=one.error,
        reason=one.reason,
        tenant_id=one.tenant_id,
        post_id=one.post_id,
        post_trace_id=one.trace_id,
        attempts=one.attempts,
        replays=history.replays,
        first_seen=_at(one.first_seen_ms),
        last_seen=_at(one.last_seen_ms),
        size_bytes=one.size_bytes,
    )


def _planned(plan: LetterReplayPlan, places: dict[str, str]) -> PlannedReplay:
    return PlannedReplay(
        id=plan.letter.id,
        destination=plan.way.destination if plan.way else None,
        whole_post=bool(plan.way and plan.way.whole_post),
        sent=places.get(plan.letter.id),
        refused=plan.refused or None,
        warning=plan.warning or None,
    )


def _at(milliseconds: int) -> datetime:
    """The time; the last one that there is for later ones. A producer may give a Redis entry any id, so any time."""
    return datetime.fromtimestamp(min(max(milliseconds, 0), LAST_MS) / 1000, UTC)


def _no_letter(letter_id: str) -> ApiError:
    return ApiError(404, "not_found", "there is no such dead letter; the topic keeps them 30 days", id=letter_id)
