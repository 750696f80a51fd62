"""Keeps every version of the ledgers during a run, so that the account can check each: compaction waits a day."""

from __future__ import annotations

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from vision_app.audit.kafka_reader import budget_changelog
from vision_app.clients.kafka import kafka_admin
from vision_app.kafka_topics import min_insync
from vision_app.settings import Settings
from vision_app.topics import CHANGELOG

DAY_MS = "86400000"


async def keep_ledger_history(settings: Settings) -> None:
    """Delay the compaction. Call it when the topics exist. Raises KafkaError."""
    configs = {**CHANGELOG, **min_insync(settings), "min.compaction.lag.ms": DAY_MS}
    async with kafka_admin(settings) as admin:
        topic = ConfigResource(ConfigResourceType.TOPIC, budget_changelog(settings), configs=configs)
        await admin.alter_configs([topic])
