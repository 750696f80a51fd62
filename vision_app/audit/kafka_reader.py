"""What Kafka holds: inputs, grants and how they were closed, dead letters, every version of the ledgers.

One pass over each topic; a record is decoded only if its key names a tenant of the account.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from aiokafka import TopicPartition

from vision_app import topics
from vision_app.events import Unreadable, read_json
from vision_app.messages import REPLAY_HEADER, DeadLetter, decode
from vision_app.operations.kafka_log import KafkaLog, Record, Stretch
from vision_app.settings import Settings
from vision_app.texts import say

from .ledger import Ledgers
from .material import Closing, GrantGiven, Input, LedgerVersion, Post
from .scope import GRANT_MARGIN_MS, MARGIN_MS, Scope

CLOSINGS = ("settle", "lost", "release")


@dataclass
class KafkaMaterial:
    """`judged`: when the policy passed each publication of a post on, an operator replayed a command of it, or it was
    asked about again because its ledger was lost. `ends`: next offsets of partitions. `closings_from_ms`: since then
    every report to the ledgers is in `closings`; earlier ones may be gone from Kafka.
    """

    inputs: dict[str, Input] = field(default_factory=dict)
    judged: dict[Post, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    letters: list[DeadLetter] = field(default_factory=list)
    grants: dict[str, GrantGiven] = field(default_factory=dict)
    closings: list[Closing] = field(default_factory=list)
    ends: Mapping[TopicPartition, int] = field(default_factory=dict)
    closings_from_ms: int = 0
    unreadable: int = 0


def budget_changelog(settings: Settings) -> str:
    """The topic in which Faust keeps every version of the tenants' ledgers."""
    return f"{settings.kafka_app_id}-budget-changelog"


async def read_kafka(
    kafka: KafkaLog, settings: Settings, scope: Scope, inputs: Mapping[str, Input], ledgers: Ledgers
) -> KafkaMaterial:
    """Read every topic once; adds to `inputs`, which come from Redis. Raises KafkaError."""
    reader = _Reader(settings, scope, inputs, ledgers)
    places = kafka.partitions([topic.name for topic in topics.ALL] + [budget_changelog(settings)])
    reader.found.ends = await kafka.ends(places)
    for names, margin_ms in (
        ((topics.UPLOADED.name, topics.POSTS.name), 0),
        ((topics.DLQ.name,), MARGIN_MS),
        ((topics.ANALYSIS.name, topics.BUDGET.name, budget_changelog(settings)), GRANT_MARGIN_MS),
    ):
        since_ms = max(0, scope.since_ms - margin_ms)
        stretches: dict[TopicPartition, Stretch] = await kafka.between(kafka.partitions(names), since_ms or None, None)
        if topics.BUDGET.name in names:
            reader.expect_closings(await kafka.begins(kafka.partitions([topics.BUDGET.name])), stretches, since_ms)
        async for record in kafka.read(stretches):
            reader.take(record)
    reader.found.closings_from_ms = reader.closings_from_ms
    return reader.found


class _Reader:
    """Sorts records into the material."""

    def __init__(self, settings: Settings, scope: Scope, inputs: Mapping[str, Input], ledgers: Ledgers) -> None:
        self._settings, self._scope, self._ledgers = settings, scope, ledgers
        self.found = KafkaMaterial(inputs=dict(inputs))
        self._offsets: dict[int, int] = {}
        self._gaps: dict[int, int] = {}
        self._last: dict[bytes, int] = {}
        self._reports_from: dict[int, int | None] = {}
        self._kinds: dict[str, Callable[[Record], None]] = {
            topics.UPLOADED.name: self._uploaded,
            topics.POSTS.name: self._post,
            topics.DLQ.name: self._letter,
            topics.ANALYSIS.name: self._grant,
            topics.BUDGET.name: self._closing,
            budget_changelog(settings): self._version,
        }

    def take(self, record: Record) -> None:
        try:
            self._kinds[record.topic](record)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.found.unreadable += 1  # an unreadable record is a dead letter, or not ours

    def expect_closings(
        self, begins: Mapping[TopicPartition, int], stretches: Mapping[TopicPartition, Stretch], since_ms: int
    ) -> None:
        """Note from when on each partition's reports are complete: None until its first record says so."""
        for place, begin in begins.items():
            older = place in stretches and stretches[place][0] > begin
            self._reports_from[place.partition] = since_ms if older or not begin else None

    @property
    def closings_from_ms(self) -> int:
        """From when on the reports of every partition are complete."""
        known = (self._scope.until_ms if at_ms is None else at_ms for at_ms in self._reports_from.values())
        return max(known, default=0)

    def _uploaded(self, record: Record) -> None:
        try:
            event = read_json(record.value, default_tenant=self._settings.s3_default_tenant_id)
        except Unreadable:
            if self._scope.tenants is None and self._scope.within(record.at_ms):
                self.found.inputs[record.id] = Input(record.id, "", "", record.at_ms, relayed=True)
            return
        if not self._scope.takes(event.tenant_id):
            return
        entry = (event.model_extra or {}).get("source_entry_id")
        if entry and REPLAY_HEADER not in record.headers:
            name, at_ms = f"{(event.model_extra or {}).get('source_stream')}-{entry}", _entry_ms(str(entry))
        else:
            name, at_ms = record.id, record.at_ms
        if not self._scope.within(at_ms):
            return
        pictures = tuple(medium.sha256 for medium in event.media_files)
        known = self.found.inputs.get(name) or Input(name, event.tenant_id, event.post_id, at_ms, pictures)
        self.found.inputs[name] = replace(known, relayed=True)

    def _post(self, record: Record) -> None:
        kind, replayed = record.headers.get("type", b"opened"), REPLAY_HEADER in record.headers
        if not (kind in (b"opened", b"ask_again") or replayed) or not self._scope.takes_key(record.key):
            return
        body = orjson.loads(record.value)
        if replayed or body.get("type") == "ask_again":  # an earlier announcement may correctly be repeated
            of = body.get("event", body)
            self.found.judged[of["tenant_id"], of["post_id"]][record.id] = record.at_ms
        if body.get("type") == "opened":
            self._opened(record, body)

    def _opened(self, record: Record, body: dict[str, Any]) -> None:
        name, event = _input_named(str(body.get("input_id", ""))), body["event"]
        self.found.judged[event["tenant_id"], event["post_id"]].setdefault(name, record.at_ms)
        known = self.found.inputs.get(name)
        if known is not None and known.judged_ms is None:
            self.found.inputs[name] = replace(known, judged_ms=record.at_ms)

    def _letter(self, record: Record) -> None:
        letter: DeadLetter = decode(DeadLetter, record.value)
        if self._scope.tenants is None or letter.tenant_id in self._scope.tenants:
            self.found.letters.append(letter)

    def _grant(self, record: Record) -> None:
        if not self._scope.takes_key(record.key):
            return
        grant = orjson.loads(record.value)
        task = grant["task"]
        self.found.grants.setdefault(
            grant["id"],
            GrantGiven(
                id=grant["id"],
                tenant_id=task["tenant_id"],
                post_id=task["post_id"],
                sha256=task["medium"]["sha256"],
                provider=grant["provider"],
                purpose=grant.get("purpose", "answer"),
                estimate=int(grant["estimate"]),
                force=bool(task.get("force")),
                attempt=int(task.get("attempt", 1)),
                at_ms=record.at_ms,
            ),
        )

    def _closing(self, record: Record) -> None:
        if self._reports_from.get(record.partition, 0) is None:
            self._reports_from[record.partition] = record.at_ms
        if record.headers.get("type", b"settle").decode() not in CLOSINGS or not self._scope.takes_key(record.key):
            return
        body = orjson.loads(record.value)
        if (kind := body.get("type")) in CLOSINGS:
            tokens = int(body.get("tokens", body.get("estimate", 0)))
            self.found.closings.append(Closing(body["grant_id"], body["tenant_id"], kind, tokens, record.at_ms))

    def _version(self, record: Record) -> None:
        last = self._offsets.get(record.partition)
        if last is None or record.offset != last + 1:
            self._gaps[record.partition] = record.offset  # versions in between were compacted away
        self._offsets[record.partition] = record.offset
        if not self._scope.takes_key(record.key) or not record.value:
            return
        key = record.key or b""
        gap = self._gaps[record.partition] > self._last.get(key, -1)
        self._last[key] = record.offset
        self._ledgers.add(
            ledger_version(record, orjson.loads(record.value), self._settings.vision_max_daily_tokens, gap)
        )


def ledger_version(record: Record, row: Mapping[str, Any], default_limit: int, gap: bool) -> LedgerVersion:
    """A record of the changelog as a version of the ledger. Raises KeyError, TypeError or ValueError if it is none."""
    return LedgerVersion(
        tenant_id=row["tenant_id"],
        place=record.id,
        at_ms=record.at_ms,
        birth=f"{row['born_ms']}/{row.get('ledger', '')}",
        day=row["day"],
        limit=default_limit if row.get("limit") is None else int(row["limit"]),
        spent=int(row["spent"]),
        loaded=bool(row.get("loaded")),
        open={name: int(grant["estimate"]) for name, grant in row.get("open", {}).items()},
        closed={grant["id"]: grant.get("charged") for grant in row.get("closed", ())},
        waiting=int(row.get("next", 0)) - int(row.get("first", 0)) - sum(end - at for at, end in row.get("holes", ())),
        applied=(int(row["applied"]["offset"]), int(row["applied"]["time_ms"])),
        gap=gap,
    )


def _input_named(input_id: str) -> str:
    """Our id of an input that the policy calls `stream/entry` or `topic/partition/offset/time`."""
    head, _, last = input_id.rpartition("/")
    if "-" in last:
        return f"{head}-{last}"
    return "-".join(head.rsplit("/", 2))


def _entry_ms(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def origin_fault(letter: DeadLetter, ends: Mapping[TopicPartition, int], streams: Collection[str]) -> str:
    """Why a letter's stated origin is impossible; empty if it is possible. Entries of streams are checked elsewhere."""
    if letter.origin in streams:
        return "" if letter.offset else say("it names no entry of {origin}", origin=letter.origin)
    if letter.partition is None or not (letter.offset or "").isdigit():
        return say(
            "it names no place in {origin}, so nobody can tell what it was", origin=letter.origin or say("any topic")
        )
    end = ends.get(TopicPartition(letter.origin, letter.partition))
    if end is None or int(letter.offset or 0) >= end:
        return say(
            "there never was a record {offset} in {origin}, partition {partition}",
            offset=letter.offset,
            origin=letter.origin,
            partition=letter.partition,
        )
    return ""
