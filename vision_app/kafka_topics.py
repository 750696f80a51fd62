"""Creates the Kafka topics at start: same partition count everywhere, retention as set, changelogs compacted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from .clients.kafka import client_arguments, kafka_admin
from .clients.kafka_faults import REFUSALS, KafkaUnusable, lacking
from .clients.kafka_rights import Right, missing_rights
from .settings import Settings
from .topics import ALL, DLQ, MAX_MESSAGE_BYTES, Topic, changelogs

log = structlog.get_logger(__name__)

DAY_MS = 24 * 60 * 60 * 1000
CREATE_TIMEOUT_MS = 30_000


class TopicsUnfit(Exception):
    """Topics exist that do not fit the settings. Set KAFKA_TOPIC_PARTITIONS to their count, or recreate them."""


@dataclass(frozen=True)
class Found:
    """Which of our topics the broker has."""

    topics: int  # of anybody's
    missing: list[str]
    other_count: dict[str, int]  # partitions of those that have not as many as the settings say
    is_new: bool  # none of ours is there


def wanted_topics(
    settings: Settings, tables: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, dict[str, str]]:
    """All topics of ours, changelogs included, each with its configuration."""
    ours = {topic.name: _config(topic, settings) for topic in ALL}
    logs = changelogs(settings.kafka_app_id) if tables is None else tables
    return ours | {name: dict(config) for name, config in logs.items()}


async def look_at_topics(settings: Settings, request_seconds: float = 40.0) -> Found:
    """See which topics are there; creates nothing. Raises KafkaUnusable when rights are missing, KafkaError."""
    wanted = wanted_topics(settings)
    async with kafka_admin(settings, request_seconds) as admin:
        await _check_rights(wanted, settings)
        existing = set(await admin.list_topics())
        counts = await _counts(admin, [name for name in wanted if name in existing])
    missing = [name for name in wanted if name not in existing]
    other = {name: count for name, count in counts.items() if count != settings.kafka_topic_partitions}
    return Found(len(existing), missing, other, is_new=len(missing) == len(wanted))


async def create_topics(settings: Settings, tables: Mapping[str, Mapping[str, str]] | None = None) -> list[str]:
    """Create what is missing, and return its names; `tables`: other changelogs than those of the worker.

    Raises TopicsUnfit when a topic has another partition count, KafkaUnusable when the broker cannot be reached or
    rights are missing, KafkaError.
    """
    wanted = wanted_topics(settings, tables)
    async with kafka_admin(settings) as admin:
        await _check_rights(wanted, settings)
        existing = set(await admin.list_topics())
        missing = [name for name in wanted if name not in existing]
        if missing:
            await _create(admin, {name: wanted[name] for name in missing}, settings)
            log.info("topics created", topics=missing)
        counts = await _counts(admin, [name for name in wanted if name in existing])
    for name, count in counts.items():
        if count != settings.kafka_topic_partitions:
            raise TopicsUnfit(unfit(name, count, settings))
    return missing


async def _check_rights(wanted: Iterable[str], settings: Settings) -> None:
    """Whether the worker may read and write what it has to. Dead letters are read by commands only."""
    rights = {name: (Right.WRITE,) if name == DLQ.name else (Right.READ, Right.WRITE) for name in wanted}
    arguments = client_arguments(settings)
    if missing := await missing_rights(arguments, rights, settings.kafka_app_id):
        raise KafkaUnusable(lacking(arguments, ", ".join(missing)))


def unfit(name: str, count: int, settings: Settings) -> str:
    return (
        f"topic {name} has {count} partitions, KAFKA_TOPIC_PARTITIONS says "
        f"{settings.kafka_topic_partitions}; set it to {count}, or recreate the topics"
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
        raise KafkaUnusable(lacking(client_arguments(settings), f"CREATE on the missing topics {', '.join(refused)}"))
    for name, code, *text in response.topic_errors:
        fault = for_code(code)
        if code and fault is not TopicAlreadyExistsError:  # another worker may have been quicker
            raise KafkaError(f"topic {name} cannot be created: {fault.__name__} {' '.join(map(str, text))}")


async def _counts(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, int]:
    """The partition count of each of these topics."""
    described = await admin.describe_topics(names) if names else ()
    return {found["topic"]: len(found["partitions"]) for found in described}


def _config(topic: Topic, settings: Settings) -> dict[str, str]:
    days = settings.kafka_dlq_retention_days if topic.retention == "dlq" else settings.kafka_retention_days
    return {
        "retention.ms": str(days * DAY_MS),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
