"""The sink that makes results durable: posts in `post_enrichment`, their media in `media_objects` and `post_media_map`.

One transaction per batch. The SQL statements decide what is written, so that several workers may write at once:
* an emission older than the stored one changes nothing;
* a result without any analysis never replaces one with an analysis; it only ends the row's time in work;
* an opened post (`in_work`) makes a row if there is none, else it only sets since when the post is in work. If Postgres
  refuses the content of a row, the row is written with the refused parts emptied and named in `data.reduced`. So a paid
  answer is always stored and announced. Reading for people is in `posts.py`.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import orjson
import structlog

from vision_app.clients.postgres import (
    CONNECT_SECONDS,
    Way,
    check_postgres_files,
    postgres_fault,
    postgres_pool,
    unverified,
)
from vision_app.messages import Charged, PostResult
from vision_app.settings import Settings
from vision_app.telemetry import metrics
from vision_app.texts import say

from .base import Rejected, Sink, SinkUnavailable
from .migrate import migrate
from .ordering import finished, latest, seen
from .rows import (
    COLUMNS,
    MAX_REASON_CHARS,
    PARTS,
    bare_row,
    charge_rows,
    enrichment_row,
    media_rows,
    reduced_media,
    reduced_row,
)
from .text import storable

__all__ = ["PostgresSink", "close_pool", "create_pool", "migrate"]

log = structlog.get_logger(__name__)

POOL_SIZE = 4
CONNECT_TIMEOUT_SECONDS = CONNECT_SECONDS
COMMAND_TIMEOUT_SECONDS = 30
CLOSE_SECONDS = 2

DATA_FAULTS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""Errors caused by a record. All others are caused by the store: it is away, overloaded or misconfigured."""

STORE_FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

_NAMES = ", ".join(COLUMNS)
_RECORDS = "jsonb_to_recordset($1::jsonb) AS r(" + ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items()) + ")"
_INSERT = f"""
INSERT INTO post_enrichment AS pe ({_NAMES}) SELECT {_NAMES} FROM {_RECORDS} ORDER BY tenant_id, post_id
ON CONFLICT (tenant_id, post_id, kind) DO UPDATE SET """  # noqa: S608 - built from our own column names
_STORED = "(coalesce(pe.emission_time_ms, 0), coalesce(pe.emission_offset, -1))"
_GIVEN = "(EXCLUDED.emission_time_ms, EXCLUDED.emission_offset)"

WRITE_FINISHED = (
    _INSERT
    + ", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS if name not in ("tenant_id", "post_id", "kind"))
    + f""", updated_at = now()
WHERE {_GIVEN} >= {_STORED} AND (EXCLUDED.vision_analyzed_at IS NOT NULL OR pe.vision_analyzed_at IS NULL)
RETURNING tenant_id, post_id"""
)

_OPENING = ("data", "metadata", "album_size", "s3_media_keys", "trace_id", "emission_time_ms", "emission_offset")
WRITE_IN_WORK = (
    _INSERT
    + ", ".join(f"{n} = CASE pe.status WHEN 'in_work' THEN EXCLUDED.{n} ELSE pe.{n} END" for n in _OPENING)
    + f""", in_work_since = coalesce(pe.in_work_since, EXCLUDED.in_work_since), updated_at = now()
WHERE {_GIVEN} > {_STORED}"""
)

END_WORK = f"""
UPDATE post_enrichment AS pe SET in_work_since = NULL FROM {_RECORDS}
WHERE (pe.tenant_id, pe.post_id, pe.kind) = (r.tenant_id, r.post_id, r.kind)
  AND pe.vision_analyzed_at IS NOT NULL
  AND pe.in_work_since <= to_timestamp(r.emission_time_ms / 1000.0)"""  # noqa: S608 - built from our own column names

_MEDIA = """jsonb_to_recordset($1::jsonb) AS r(tenant_id text, post_id text, file_sha256 text, mime text,
    size_bytes bigint, s3_key text, s3_bucket text, seen_at timestamptz, uploaded_at timestamptz, position integer,
    role text)"""

# rows are locked in the order of their keys, so that two batches with the same pictures do not wait for each other
WRITE_MEDIA = f"""
INSERT INTO media_objects AS m
    (tenant_id, file_sha256, mime, size_bytes, s3_key, s3_bucket, first_seen_at, last_seen_at)
SELECT DISTINCT ON (tenant_id, file_sha256)
    tenant_id, file_sha256, mime, size_bytes, s3_key, s3_bucket, seen_at, seen_at
FROM {_MEDIA} ORDER BY tenant_id, file_sha256, seen_at DESC
ON CONFLICT (tenant_id, file_sha256) DO UPDATE SET
    first_seen_at = least(m.first_seen_at, EXCLUDED.first_seen_at),
    last_seen_at = greatest(m.last_seen_at, EXCLUDED.last_seen_at),
    mime = EXCLUDED.mime, size_bytes = EXCLUDED.size_bytes, s3_key = EXCLUDED.s3_key, s3_bucket = EXCLUDED.s3_bucket
WHERE EXCLUDED.last_seen_at >= m.last_seen_at"""  # noqa: S608 - built from our own column names

WRITE_MEDIA_MAP = f"""
WITH added AS (
    INSERT INTO post_media_map (tenant_id, post_id, file_sha256, position, role, uploaded_at)
    SELECT DISTINCT ON (tenant_id, post_id, file_sha256) tenant_id, post_id, file_sha256, position, role, uploaded_at
    FROM {_MEDIA} ORDER BY tenant_id, post_id, file_sha256, position
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, file_sha256
), counted AS (SELECT tenant_id, file_sha256, count(*) AS posts FROM added GROUP BY 1, 2)
UPDATE media_objects AS m SET refs_count = m.refs_count + counted.posts FROM counted
WHERE (m.tenant_id, m.file_sha256) = (counted.tenant_id, counted.file_sha256)"""  # noqa: S608 - as above


WRITE_CHARGES = """
INSERT INTO token_charges AS t
    (tenant_id, ledger, grant_id, charged_at, tokens, cut_off, post_id, file_sha256, prompt)
SELECT tenant_id, ledger, grant_id, to_timestamp(at_ms / 1000.0), tokens, cut_off, post_id, file_sha256, prompt
FROM jsonb_to_recordset($1::jsonb) AS r(tenant_id text, ledger text, grant_id text, at_ms bigint, tokens bigint,
    cut_off boolean, post_id text, file_sha256 text, prompt text) ORDER BY tenant_id, ledger, grant_id
ON CONFLICT (tenant_id, ledger, grant_id) DO UPDATE SET
    tokens = greatest(t.tokens, EXCLUDED.tokens), cut_off = t.cut_off OR EXCLUDED.cut_off,
    post_id = coalesce(t.post_id, EXCLUDED.post_id), file_sha256 = coalesce(t.file_sha256, EXCLUDED.file_sha256),
    prompt = coalesce(t.prompt, EXCLUDED.prompt)"""


async def create_pool(settings: Settings, *, size: int = POOL_SIZE, application: str = "vision") -> Any:
    """A pool of connections with strict timeouts. Raises SinkUnavailable if the database does not answer."""
    try:
        return await postgres_pool(
            settings, size=size, application=application, command_timeout=COMMAND_TIMEOUT_SECONDS
        )
    except STORE_FAULTS as fault:
        raise unavailable(fault) from fault


async def close_pool(pool: Any) -> None:
    """Close a pool. After CLOSE_SECONDS cut its connections, because a hanging database must not delay the stop."""
    try:
        await asyncio.wait_for(pool.close(), CLOSE_SECONDS)  # it terminates the connections when cancelled
    except TimeoutError:
        log.warning("postgres_close_timeout", waited_seconds=CLOSE_SECONDS)


def unavailable(fault: Exception, way: Way = Way.WORKER) -> SinkUnavailable:
    """The error as SinkUnavailable, with what to do."""
    told_otherwise = asyncpg.InsufficientPrivilegeError | asyncpg.DuplicatePreparedStatementError
    if isinstance(fault, asyncpg.SyntaxOrAccessError) and not isinstance(fault, told_otherwise):
        remedy = say(
            "the schema is not as we made it; `vision migrate status` shows how, `vision migrate repair` mends it"
        )
        return SinkUnavailable(
            say("Postgres: {kind}: {fault}; {remedy}", kind=type(fault).__name__, fault=fault, remedy=remedy)
        )
    return SinkUnavailable(postgres_fault(fault, way))


class PostgresSink(Sink[PostResult | Charged]):
    """Writes results of posts and charges; `write` returns the finished results that the database now shows."""

    name = "postgres"

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError when a file of certificates in DATABASE_URL cannot be used."""
        check_postgres_files(settings)
        self._settings = settings
        self._pool: Any = None

    async def open(self) -> None:
        """Connect and migrate. Raises SinkUnavailable; its subclass MigrationError needs an operator."""
        if doubt := unverified(self._settings):
            log.warning("postgres_not_verified", reason=doubt)
        if self._pool is None:
            self._pool = await create_pool(self._settings, application="vision-sink")
        try:
            await migrate(self._pool)
        except STORE_FAULTS as fault:
            raise unavailable(fault) from fault

    async def close(self) -> None:
        if self._pool is not None:
            await close_pool(self._pool)
            self._pool = None

    async def write(self, batch: Sequence[PostResult | Charged]) -> Sequence[PostResult]:
        """Write a batch in one transaction; several results of one post are ordered by their emissions.

        Returns the finished results now in the database, written just now or at an earlier delivery. Not returned, and
        so not announced, are results in work, older results, and results without an analysis if there already is one.
        """
        if self._pool is None:
            raise SinkUnavailable(say("the Postgres sink is not open"))
        bucket = self._settings.s3_bucket
        records = [_Record(place, one, bucket) for place, one in enumerate(batch) if isinstance(one, PostResult)]
        try:
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection:
                await _write_charges(
                    connection, {place: one for place, one in enumerate(batch) if isinstance(one, Charged)}
                )
                if not records:
                    return []
                try:
                    async with connection.transaction():
                        written = await _write(connection, records)
                except DATA_FAULTS as fault:
                    records = await _reduced(connection, records, fault)
                    async with connection.transaction():
                        written = await _write(connection, records)
        except STORE_FAULTS as fault:
            raise unavailable(fault) from fault
        return [record.result for record in records if record.index in written]


async def _write_charges(connection: Any, charges: Mapping[int, Charged]) -> None:
    """Write charges, given by their places in the batch. Raises Rejected for one that Postgres refuses by itself."""
    if not charges:
        return
    try:
        await connection.execute(WRITE_CHARGES, orjson.dumps(charge_rows(charges.values())).decode())
    except DATA_FAULTS as fault:
        if len(charges) == 1:
            raise Rejected(
                next(iter(charges)),
                say("Postgres refuses it: {kind}: {fault}", kind=type(fault).__name__, fault=fault),
            ) from fault
        for place, charge in charges.items():
            await _write_charges(connection, {place: charge})


class _Record:
    """One result of the batch with its rows as JSON, or with a bare row if the usual rows cannot be encoded."""

    def __init__(self, index: int, result: PostResult, bucket: str) -> None:
        self.index, self.result = index, result
        self.key = (str(storable(result.event.tenant_id)), str(storable(result.event.post_id)))
        self.emptied: tuple[str, ...] = ()
        try:
            self.content, self.media_content = enrichment_row(result), media_rows(result, bucket)
            self.encode()
        except (TypeError, ValueError, OverflowError, OSError, RecursionError) as fault:
            reason = say("cannot be written as JSON: {kind}: {fault}", kind=type(fault).__name__, fault=fault)
            self.content, self.media_content = bare_row(result, reason), []
            self.encode()
            self.emptied = PARTS
            _log_reduced(self, reason)

    def without(self, emptied: Sequence[str], reason: str) -> _Record:
        """The same record with these parts emptied."""
        less = copy.copy(self)
        less.content = reduced_row(self.result, self.content, emptied, reason)
        less.media_content = reduced_media(self.media_content, emptied)
        less.emptied = tuple(emptied)
        less.encode()
        return less

    def encode(self) -> None:
        """Encode the rows as the JSON that is written."""
        self.row, self.media = _json(self.content), [_json(row) for row in self.media_content]


async def _write(connection: Any, records: Sequence[_Record]) -> set[int]:
    """Write all records; returns the indices of those in force. Must run in a transaction."""
    batch = {record.index: record for record in records}
    results = [record.result for record in records]
    places = range(len(records))
    analyzed = _pick(records, latest(results, [i for i in places if finished(results[i]) and seen(results[i])]))
    others = _pick(records, latest(results, [i for i in places if finished(results[i]) and not seen(results[i])]))
    in_work = _pick(records, latest(results, [i for i in places if not finished(results[i])]))
    media = [row for record in batch.values() for row in record.media]
    if media:
        await connection.execute(WRITE_MEDIA, _array(media))
        await connection.execute(WRITE_MEDIA_MAP, _array(media))
    written = await _write_finished(connection, analyzed)
    if in_work:
        await connection.execute(WRITE_IN_WORK, _array(record.row for record in in_work))
    if others:
        await connection.execute(END_WORK, _array(record.row for record in others))
    return written | await _write_finished(connection, others)


async def _write_finished(connection: Any, records: Sequence[_Record]) -> set[int]:
    if not records:
        return set()
    rows = await connection.fetch(WRITE_FINISHED, _array(record.row for record in records))
    stored = {(row["tenant_id"], row["post_id"]) for row in rows}
    return {record.index for record in records if record.key in stored}


async def _reduced(connection: Any, records: Sequence[_Record], fault: Exception) -> list[_Record]:
    """The records; where Postgres refuses one, with as few parts emptied as necessary. Writes nothing.

    Raises Rejected if it refuses a record with all parts emptied, SinkUnavailable if it refuses no single record.
    """
    found = list(records)
    for place, record in enumerate(records):
        own = await _refusal(connection, record)
        if own is None:
            continue
        reason = say("Postgres refuses it: {kind}: {own}", kind=type(own).__name__, own=own)
        found[place] = await _insert_reduced(connection, record, reason)
        _log_reduced(found[place], reason)
    if found == list(records):
        text = say(
            "Postgres refuses the batch but none of its records alone: {kind}: {fault}",
            kind=type(fault).__name__,
            fault=fault,
        )
        raise SinkUnavailable(text)
    return found


async def _insert_reduced(connection: Any, record: _Record, reason: str) -> _Record:
    """The record without its refused parts: all parts are emptied, then restored one by one. Raises Rejected."""
    less = record.without(PARTS, reason)
    if await _refusal(connection, less) is not None:
        raise Rejected(record.index, reason)
    for part in PARTS:
        more = record.without([name for name in less.emptied if name != part], reason)
        if await _refusal(connection, more) is None:
            less = more
    return less


async def _refusal(connection: Any, record: _Record) -> Exception | None:
    """Why Postgres refuses this record alone; None if it accepts it. The attempt is rolled back."""
    attempt = connection.transaction()
    await attempt.start()
    try:
        await _write(connection, [record])
    except DATA_FAULTS as own:
        refusal: Exception = own
        return refusal
    finally:
        await attempt.rollback()
    return None


def _log_reduced(record: _Record, reason: str) -> None:
    metrics.ENDINGS_REDUCED.labels(what="row").inc()
    log.error(
        "row_reduced",
        tenant_id=record.key[0],
        post_id=record.key[1],
        emptied=list(record.emptied),
        reason=reason[:MAX_REASON_CHARS],
    )


def _pick(records: Sequence[_Record], places: Sequence[int]) -> list[_Record]:
    return [records[place] for place in places]


def _array(rows: Any) -> str:
    return "[" + ",".join(rows) + "]"


def _json(row: dict[str, Any]) -> str:
    try:
        encoded = orjson.dumps(row)
    except orjson.JSONEncodeError:  # lone surrogates, huge integers
        encoded = orjson.dumps(storable(row))
    return (orjson.dumps(storable(row)) if b"\\u0000" in encoded else encoded).decode()
