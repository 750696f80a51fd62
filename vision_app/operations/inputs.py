"""Recorded inputs: selects events of the topic posts.vision.uploaded and sends them again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition

from vision_app.events import Unreadable, read_json
from vision_app.messages import FORCE_HEADER, REPLAY_HEADER, Uploaded, headers_of
from vision_app.stores.posts import Row
from vision_app.telemetry.tracing import root_of
from vision_app.texts import say
from vision_app.topics import UPLOADED

from .connections import OperationError
from .costs import Cost, Prices
from .kafka_log import KafkaLog, KafkaSender, Stretch
from .rows import event_of

_OFFSETS = re.compile(r"(?P<partition>\d+):(?P<first>\d+)-(?P<last>\d+)?")


@dataclass(frozen=True)
class Input:
    """An earlier input event. `origin`: its record, or its post if it was made from the row."""

    origin: str
    event: Uploaded
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


@dataclass
class Selection:
    """The inputs to send again. `repeated` counts copies, `unreadable` those that are dead letters already."""

    inputs: list[Input] = field(default_factory=list)
    repeated: int = 0
    unreadable: int = 0

    @property
    def posts(self) -> int:
        return len({(one.event.tenant_id, one.event.post_id) for one in self.inputs})


def parse_offsets(texts: Iterable[str]) -> dict[TopicPartition, Stretch]:
    """Stretches from `partition:first-last` (both included; without last to the end). Raises OperationError."""
    found: dict[TopicPartition, Stretch] = {}
    for text in texts:
        match = _OFFSETS.fullmatch(text.strip())
        if match is None:
            raise OperationError(
                say("{text!r} is no stretch of offsets; give partition:first-last, for example 3:100-200", text=text)
            )
        end = int(match["last"]) + 1 if match["last"] else 2**63 - 1
        if int(match["first"]) >= end:
            raise OperationError(
                say("{text!r} ends before it begins; give partition:first-last, for example 3:100-200", text=text)
            )
        found[TopicPartition(UPLOADED.name, int(match["partition"]))] = (int(match["first"]), end)
    return found


async def within_topic(kafka: KafkaLog, stretches: Mapping[TopicPartition, Stretch]) -> dict[TopicPartition, Stretch]:
    """The stretches cut to the topic's present offsets. Raises OperationError for a partition that does not exist."""
    held = await kafka.between(kafka.partitions([UPLOADED.name]), None, None)
    if unknown := set(stretches) - set(kafka.partitions([UPLOADED.name])):
        raise OperationError(
            say(
                "{name} has no partition {partition}",
                name=UPLOADED.name,
                partition=min(place.partition for place in unknown),
            )
        )
    cut = {
        place: (max(first, held[place][0]), min(end, held[place][1]))
        for place, (first, end) in stretches.items()
        if place in held
    }
    return {place: (first, end) for place, (first, end) in cut.items() if first < end}


async def recorded(
    kafka: KafkaLog,
    stretches: Mapping[TopicPartition, Stretch],
    *,
    default_tenant: str,
    tenant_id: str | None = None,
    post_id: str | None = None,
) -> Selection:
    """The events in stretches of the topic, each once, of one tenant or post if named. Raises KafkaError."""
    selection = Selection()
    seen: set[tuple[bytes | None, bytes]] = set()
    async for record in kafka.read(stretches):
        try:
            event = read_json(record.value, default_tenant=default_tenant)
        except Unreadable:
            selection.unreadable += 1
            continue
        if tenant_id not in (None, event.tenant_id) or post_id not in (None, event.post_id):
            continue
        if (record.key, record.value) in seen:
            selection.repeated += 1
            continue
        seen.add((record.key, record.value))
        selection.inputs.append(Input(record.id, event, record.key, record.value, record.headers))
    return selection


def from_rows(rows: Sequence[Row]) -> Selection:
    """The events that rows were made from."""
    selection = Selection()
    for row in rows:
        event = event_of(row)
        if event is None:
            selection.unreadable += 1
            continue
        headers = headers_of(event.trace_id, event.event_type, root_of(event))
        origin = f"{event.tenant_id}/{event.post_id}"
        selection.inputs.append(Input(origin, event, event.key, event.encode(), headers))
    return selection


async def cost_of(prices: Prices, selection: Selection, force: bool) -> Cost:
    """An upper bound: media that the policy would skip or that are already answered in the rows are not subtracted."""
    return await prices.of(
        (one.event.tenant_id, medium, force) for one in selection.inputs for medium in one.event.media_files
    )


async def send_again(kafka: KafkaSender, one: Input, force: bool) -> str:
    """Send an input to the topic again. Returns its place. Raises KafkaError."""
    headers: dict[str, Any] = {**one.headers, REPLAY_HEADER: one.origin.encode()}
    headers.pop(FORCE_HEADER, None)  # of an earlier replay
    if force:
        headers[FORCE_HEADER] = b"1"
    return await kafka.send(UPLOADED.name, one.key, one.value, headers)
