"""Creates the Kafka topics at start: same partition count everywhere, retention as set, changelogs compacted."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from .settings import Settings
from .topics import ALL, MAX_MESSAGE_BYTES, Topic

log = structlog.get_logger(__name__)

DAY_MS = 24 * 60 * 60 * 1000
CREATE_TIMEOUT_MS = 30_000


class TopicsUnfit(Exception):
    """Topics exist that do not fit the settings. Set KAFKA_TOPIC_PARTITIONS to their count, or recreate them."""


async def create_topics(settings: Settings, changelogs: Mapping[str, Mapping[str, str]]) -> None:
    """Create what is missing; `changelogs` are names and configurations of the tables' topics.

    Raises TopicsUnfit when a topic has another partition count, KafkaError when the broker cannot be reached.
    """
    wanted = {topic.name: _config(topic, settings) for topic in ALL} | {k: dict(v) for k, v in changelogs.items()}
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    try:
        await admin.start()
        existing = set(await admin.list_topics())
        missing = [name for name in wanted if name not in existing]
        if missing:
            await _create(admin, {name: wanted[name] for name in missing}, settings)
            log.info("topics created", topics=missing)
        await _check(admin, [name for name in wanted if name in existing], settings)
    finally:
        await admin.close()


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
    for name, code, *text in response.topic_errors:
        fault = for_code(code)
        if code and fault is not TopicAlreadyExistsError:  # another worker may have been quicker
            raise KafkaError(f"topic {name} cannot be created: {fault.__name__} {' '.join(map(str, text))}")


async def _check(admin: AIOKafkaAdminClient, names: list[str], settings: Settings) -> None:
    for found in await admin.describe_topics(names) if names else ():
        count = len(found["partitions"])
        if count != settings.kafka_topic_partitions:
            raise TopicsUnfit(
                f"topic {found['topic']} has {count} partitions, KAFKA_TOPIC_PARTITIONS says "
                f"{settings.kafka_topic_partitions}; set it to {count}, or recreate the topics"
            )


def _config(topic: Topic, settings: Settings) -> dict[str, str]:
    days = settings.kafka_dlq_retention_days if topic.retention == "dlq" else settings.kafka_retention_days
    return {
        "retention.ms": str(days * DAY_MS),
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
