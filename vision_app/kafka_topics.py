"""Creates the Kafka topics at start: same partition count everywhere, retention as set, changelogs compacted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import stamina
import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from vision_app.texts import say

from .clients.kafka import client_arguments, kafka_admin
from .clients.kafka_faults import REFUSALS, KafkaUnusable, lacking
from .clients.kafka_rights import Right, missing_rights
from .settings import Settings
from .topics import ALL, DLQ, MAX_MESSAGE_BYTES, Topic, changelogs

log = structlog.get_logger(__name__)

DAY_MS = 24 * 60 * 60 * 1000
CREATE_TIMEOUT_MS = 30_000
TAKEOVER_SECONDS = 30.0
KNOWN_SECONDS, KNOWN_POLL_SECONDS = 30.0, 0.1
MIN_INSYNC = "min.insync.replicas"


class TopicsUnfit(Exception):
    """Topics exist that do not fit the settings. Set KAFKA_TOPIC_PARTITIONS to their count, or recreate them."""


@dataclass(frozen=True)
class Found:
    """Which of our topics the broker has."""

    topics: int  # of anybody's
    missing: list[str]
    other_count: dict[str, int]  # partitions of those that have not as many as the settings say
    is_new: bool  # none of ours is there
    weaker: list[str]  # a sentence for each kind of copies that are fewer than the settings ask for


def wanted_topics(
    settings: Settings, tables: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, dict[str, str]]:
    """All topics of ours, changelogs included, each with its configuration."""
    ours = {topic.name: _config(topic, settings) for topic in ALL}
    logs = changelogs(settings.kafka_app_id) if tables is None else tables
    wanted = ours | {name: dict(config) for name, config in logs.items()}
    return {name: config | min_insync(settings) for name, config in wanted.items()}


def min_insync(settings: Settings) -> dict[str, str]:
    """The part of a topic's configuration that says how many copies a write waits for; empty without the setting."""
    count = settings.kafka_min_insync_replicas
    return {MIN_INSYNC: str(count)} if count is not None else {}


async def look_at_topics(settings: Settings, request_seconds: float = 40.0) -> Found:
    """See which topics are there; creates nothing. Raises KafkaUnusable when rights are missing, KafkaError."""
    wanted = wanted_topics(settings)
    async with kafka_admin(settings, request_seconds) as admin:
        await _check_rights(wanted, settings)
        existing = set(await admin.list_topics())
        shapes = await _shapes(admin, [name for name in wanted if name in existing], settings)
    missing = [name for name in wanted if name not in existing]
    other = {name: shape.partitions for name, shape in shapes.items() if _other_count(shape, settings)}
    return Found(len(existing), missing, other, len(missing) == len(wanted), weaker(shapes, settings))


async def create_topics(settings: Settings, tables: Mapping[str, Mapping[str, str]] | None = None) -> list[str]:
    """Create what is missing, and return its names; `tables`: other changelogs than those of the worker.

    Raises TopicsUnfit when a topic has another partition count, KafkaUnusable when no broker can be reached or rights
    are missing, KafkaError. When one of several brokers has just failed, it tries again until the others have taken
    over.
    """
    wanted = wanted_topics(settings, tables)
    async for attempt in stamina.retry_context(on=_passes, timeout=TAKEOVER_SECONDS, attempts=None, wait_initial=0.5):
        with attempt:
            return await _create_topics(wanted, settings)
    raise AssertionError("the retries end with a return or an error")


def _passes(fault: Exception) -> bool:
    return isinstance(fault, KafkaError) and not isinstance(fault, KafkaUnusable) and bool(fault.retriable)


async def _create_topics(wanted: Mapping[str, dict[str, str]], settings: Settings) -> list[str]:
    async with kafka_admin(settings) as admin:
        await _check_rights(wanted, settings)
        existing = set(await admin.list_topics())
        missing = [name for name in wanted if name not in existing]
        if missing:
            await _create(admin, {name: wanted[name] for name in missing}, settings)
            log.info("kafka_topics_created", topics=missing)
        shapes = await _shapes(admin, list(wanted), settings)
    for name, shape in shapes.items():
        if _other_count(shape, settings):
            raise TopicsUnfit(unfit(name, shape.partitions, settings))
    for sentence in weaker(shapes, settings):
        log.warning("kafka_topics_with_fewer_copies", what=sentence)
    return missing


async def _check_rights(wanted: Iterable[str], settings: Settings) -> None:
    """Whether the worker may read and write what it has to. Dead letters are read by commands only."""
    rights = {name: (Right.WRITE,) if name == DLQ.name else (Right.READ, Right.WRITE) for name in wanted}
    arguments = client_arguments(settings)
    if missing := await missing_rights(arguments, rights, settings.kafka_app_id):
        raise KafkaUnusable(lacking(arguments, ", ".join(missing)))


def unfit(name: str, count: int, settings: Settings) -> str:
    return say(
        "topic {name} has {count} partitions, KAFKA_TOPIC_PARTITIONS says {kafka_topic_partitions}; set it "
        "to {count}, or recreate the topics",
        name=name,
        count=count,
        kafka_topic_partitions=settings.kafka_topic_partitions,
    )


async def _create(admin: AIOKafkaAdminClient, wanted: Mapping[str, dict[str, str]], settings: Settings) -> None:
    topics = [
        NewTopic(
            name,
            num_partitions=settings.kafka_topic_partitions,
            replication_factor=settings.kafka_topic_replication_factor,
            topic_configs=config,
        )
        for name, config in wanted.items()
    ]
    response = await admin.create_topics(topics, timeout_ms=CREATE_TIMEOUT_MS)
    if refused := sorted(name for name, code, *_ in response.topic_errors if for_code(code) in REFUSALS):
        raise KafkaUnusable(
            lacking(client_arguments(settings), say("CREATE on the missing topics {names}", names=", ".join(refused)))
        )
    for name, code, *text in response.topic_errors:
        fault = for_code(code)
        if code and fault is not TopicAlreadyExistsError:  # another worker may have been quicker
            raise KafkaError(
                say(
                    "topic {name} cannot be created: {kind} {text}",
                    name=name,
                    kind=fault.__name__,
                    text=" ".join(map(str, text)),
                )
            )


@dataclass(frozen=True)
class Shape:
    """How a topic is stored. `copies` and `in_sync`: of its partition that has the fewest.

    `min_in_sync`: copies that a write waits for; None if it was not asked for or may not be read.
    """

    partitions: int
    copies: int
    in_sync: int
    min_in_sync: int | None = None


def weaker(shapes: Mapping[str, Shape], settings: Settings) -> list[str]:
    """What is stored less often than the settings ask for, in sentences with remedies."""
    wanted, waited = settings.kafka_topic_replication_factor, settings.kafka_min_insync_replicas or 1
    fewer = [name for name, shape in shapes.items() if shape.copies < wanted]
    lower = [name for name, shape in shapes.items() if (shape.min_in_sync or waited) < waited]
    behind = [name for name, shape in shapes.items() if shape.in_sync < shape.copies]
    found = []
    if fewer:
        copies = min(shapes[name].copies for name in fewer)
        found.append(
            say(
                "{listed} with {copies} of {wanted} copies (KAFKA_TOPIC_REPLICATION_FACTOR); add some with "
                "Kafka's kafka-reassign-partitions, or set it to what there is",
                listed=_listed(fewer),
                copies=copies,
                wanted=wanted,
            )
        )
    if lower:
        count = min(shapes[name].min_in_sync or 0 for name in lower)
        found.append(
            say(
                "{listed} with min.insync.replicas={count} instead of {waited} (KAFKA_MIN_INSYNC_REPLICAS): "
                "`vision kafka configs --alter --entity-type topics --entity-name NAME --add-config "
                "{min_insync}={waited}`",
                listed=_listed(lower),
                count=count,
                waited=waited,
                min_insync=MIN_INSYNC,
            )
        )
    if behind:
        found.append(
            say(
                "{listed} with copies that are not in sync: a broker is away or slow; `vision status`, or the "
                "brokers' own tools, show which",
                listed=_listed(behind),
            )
        )
    return found


def _listed(names: Sequence[str]) -> str:
    return (
        say("topic {first}", first=names[0])
        if len(names) == 1
        else say("{names_count} topics ({first}, …)", names_count=len(names), first=names[0])
    )


def _other_count(shape: Shape, settings: Settings) -> bool:
    return shape.partitions != settings.kafka_topic_partitions


async def _shapes(
    admin: AIOKafkaAdminClient, names: list[str], settings: Settings, seconds: float = KNOWN_SECONDS
) -> dict[str, Shape]:
    """How each of these topics is stored.

    In a cluster a new topic has no partitions on a broker that has not heard of them yet: that is waited for. Raises
    KafkaError when it takes too long.
    """
    deadline = time.monotonic() + seconds
    described = await admin.describe_topics(names) if names else ()
    while unknown := [found["topic"] for found in described if not found["partitions"]]:
        if time.monotonic() > deadline:
            raise KafkaError(
                say(
                    "after {seconds:.0f} s a broker does not know the partitions of {listed}",
                    seconds=seconds,
                    listed=_listed(unknown),
                )
            )
        await asyncio.sleep(KNOWN_POLL_SECONDS)
        described = await admin.describe_topics(names)
    configured = await _min_in_sync(admin, names) if names and settings.kafka_min_insync_replicas else {}
    return {
        found["topic"]: Shape(
            len(found["partitions"]),
            min((len(partition["replicas"]) for partition in found["partitions"]), default=0),
            min((len(partition["isr"]) for partition in found["partitions"]), default=0),
            configured.get(found["topic"]),
        )
        for found in described
    }


async def _min_in_sync(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """`min.insync.replicas` of each topic whose configuration this user may read."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name, configs={MIN_INSYNC: ""}) for name in names]
    found = {}
    for answer in await admin.describe_configs(asked):
        for code, _, _, name, entries in answer.resources:
            for entry in entries if not code else ():
                if entry[0] == MIN_INSYNC:
                    found[name] = int(entry[1])
    return found


def _config(topic: Topic, settings: Settings) -> dict[str, str]:
    days = settings.kafka_dlq_retention_days if topic.retention == "dlq" else settings.kafka_retention_days
    return {
        "retention.ms": str(days * DAY_MS),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
