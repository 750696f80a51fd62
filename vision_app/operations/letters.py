"""Dead letters as an operator sees them: read from vision.dlq, filtered, with the actions on each."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import structlog
from asyncpg import UndefinedTableError

from vision_app.messages import DeadLetter, decode
from vision_app.stores.migrate import migrate
from vision_app.streams.letter_ids import ids_of
from vision_app.topics import DLQ

from .kafka_log import KafkaLog

log = structlog.get_logger(__name__)

_HANDLED = """
SELECT DISTINCT ON (letter_id) letter_id, last_seen_ms, action, at FROM dead_letter_actions
WHERE letter_id = ANY($1) ORDER BY letter_id, id DESC"""
_REPLAYS = """
SELECT subject, count(*)::int AS replays FROM dead_letter_actions
WHERE action = 'replayed' AND subject = ANY($1) GROUP BY subject"""
_RECORD = """
INSERT INTO dead_letter_actions (letter_id, last_seen_ms, subject, action, destination, operator, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7)"""


class Filterable(Protocol):
    """What a filter reads of a letter."""

    @property
    def id(self) -> str: ...
    @property
    def origin(self) -> str: ...
    @property
    def error(self) -> str: ...
    @property
    def last_seen_ms(self) -> int: ...


@dataclass(frozen=True)
class Filter:
    """Selects letters. An empty field selects all; `since_ms` is compared with the time when the letter was written.

    `tenant_id` and `post_id` are also looked for in the bytes of a letter that cannot be read.
    """

    ids: Collection[str] = ()
    origin: str | None = None
    error: str | None = None
    tenant_id: str | None = None
    since_ms: int | None = None
    post_id: str | None = None

    def __bool__(self) -> bool:
        return bool(self.ids or self.origin or self.error or self.tenant_id or self.since_ms or self.post_id)

    def takes(self, letter: DeadLetter) -> bool:
        asked_for_ids = self.tenant_id is not None or self.post_id is not None
        return self.fits(letter, ids_of(letter) if asked_for_ids else {})

    def fits(self, letter: Filterable, ids: Mapping[str, str | None]) -> bool:
        """The same for a letter whose tenant and post (`ids`) have been read already."""
        return (
            (not self.ids or letter.id in self.ids)
            and self.origin in (None, letter.origin)
            and self.error in (None, letter.error)
            and (self.tenant_id is None or self.tenant_id == ids.get("tenant_id"))
            and (self.post_id is None or self.post_id == ids.get("post_id"))
            and (self.since_ms is None or letter.last_seen_ms >= self.since_ms)
        )


async def letters_about(kafka: KafkaLog, text: str, tenant_id: str | None = None) -> list[DeadLetter]:
    """The letters that an id names: of a letter, a post, a trace, an entry or a record. Raises KafkaError."""
    return [
        letter
        for letter in await read_letters(kafka, Filter(tenant_id=tenant_id))
        if text in (letter.id, None if letter.partition is not None else letter.offset)
        or text in {ids_of(letter).get(name) for name in ("post_id", "trace_id")}
    ]


@dataclass(frozen=True)
class ListedLetter:
    """A letter and its history: the action on this letter, and how often letters of its subject were replayed."""

    letter: DeadLetter
    done: str | None = None  # replayed or discarded
    replays: int = 0


async def read_letters(kafka: KafkaLog, wanted: Filter) -> list[DeadLetter]:
    """The letters that a filter selects, oldest first; a letter written twice counts once. Raises KafkaError."""
    found: dict[str, DeadLetter] = {}
    stretches = await kafka.between(kafka.partitions([DLQ.name]), wanted.since_ms, None)
    async for record in kafka.read(stretches):
        try:
            letter: DeadLetter = decode(DeadLetter, record.value)
        except ValueError:
            log.error("dead_letter_unreadable", place=record.id, remedy="read the record with `vision kafka consume`")
            continue
        if wanted.takes(letter):
            found[letter.id] = letter
    return sorted(found.values(), key=lambda letter: letter.last_seen_ms)


def content(letter: DeadLetter) -> bytes:
    """The original value."""
    if letter.value_base64 is not None:
        return base64.b64decode(letter.value_base64)
    return (letter.value or "").encode()


def subject(letter: DeadLetter) -> str:
    """The subject of a letter. It stays the same when the letter comes back after a replay with another id.

    It is the picture of the post if the letter names one, else the post, else the bytes.
    """
    body = _json(content(letter))
    sha256 = _inner(_inner(body, "task") or body, "medium").get("sha256") or body.get("sha256")
    if letter.tenant_id and letter.post_id:
        named = [letter.tenant_id, letter.post_id, str(sha256 or "")]
        return hashlib.sha256(orjson.dumps(named)).hexdigest()
    return hashlib.sha256(content(letter)).hexdigest()


def _inner(body: dict[str, Any], name: str) -> dict[str, Any]:
    inner = body.get(name)
    return inner if isinstance(inner, dict) else {}


def _json(value: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


@dataclass(frozen=True)
class LetterKey:
    """What the operators' actions on a letter are found by."""

    id: str
    subject: str
    last_seen_ms: int

    @classmethod
    def of(cls, letter: DeadLetter) -> LetterKey:
        return cls(letter.id, subject(letter), letter.last_seen_ms)


@dataclass(frozen=True)
class History:
    """The action on a letter, if any, and how often letters of its subject were replayed."""

    done: str | None = None  # replayed or discarded
    replays: int = 0


class Actions:
    """What operators did with letters, in Postgres. Raises what asyncpg raises."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def open(self) -> None:
        """Make sure that the table exists, also before a worker of this version has run."""
        await migrate(self._pool)

    async def with_history(self, letters: Iterable[DeadLetter]) -> list[ListedLetter]:
        """The letters with the actions on each. An action on an earlier letter with the same id does not count."""
        found = [(letter, LetterKey.of(letter)) for letter in letters]
        histories = await self.histories([key for _, key in found])
        return [ListedLetter(letter, histories[key.id].done, histories[key.id].replays) for letter, key in found]

    async def histories(self, keys: Collection[LetterKey]) -> dict[str, History]:
        """The history of each letter, by its id."""
        rows = await self._pool.fetch(_HANDLED, [key.id for key in keys])
        done = {row["letter_id"]: row for row in rows}
        rows = await self._pool.fetch(_REPLAYS, list({key.subject for key in keys}))
        replays = {row["subject"]: row["replays"] for row in rows}
        return {key.id: History(_current(key, done.get(key.id)), replays.get(key.subject, 0)) for key in keys}

    async def record(
        self,
        letter: DeadLetter,
        action: str,
        operator: str,
        destination: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Record that a letter was replayed or discarded, and why if the operator said so."""
        about = (letter.id, letter.last_seen_ms, subject(letter))
        await self._pool.execute(_RECORD, *about, action, destination, operator, reason)


async def waiting_letters(pool: Any, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """The letters that nobody has dealt with yet. Makes no table. Raises what asyncpg raises."""
    letters = list(letters)
    try:
        return [one.letter for one in await Actions(pool).with_history(letters) if one.done is None]
    except UndefinedTableError:  # nobody has ever dealt with a letter
        return letters


def _current(key: LetterKey, row: Any) -> str | None:
    """The action if it was on this letter and not on an earlier one of the same id."""
    return row["action"] if row is not None and row["last_seen_ms"] >= key.last_seen_ms else None
