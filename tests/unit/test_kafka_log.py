"""Reading ranges of topics without joining a group. With a real broker: tests/integration/test_operations.py."""

from __future__ import annotations

from typing import Any

from aiokafka import TopicPartition

from vision_app.operations.kafka_log import KafkaLog
from vision_app.settings import Settings


class Consumer:
    """Counts assignments; its partition holds offsets 5 to 9."""

    def __init__(self) -> None:
        self.assigned: list[Any] = []

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 5)

    def assign(self, places: list[TopicPartition]) -> None:
        self.assigned.append(places)


async def test_where_nothing_is_to_be_read_the_consumer_is_left_alone() -> None:
    """Given an empty assignment and closed at once, aiokafka's consumer takes minutes to close."""
    consumer = Consumer()
    log = KafkaLog(Settings(), consumer, None, frozenset())
    for stretches in ({}, {TopicPartition("t", 0): (0, 5)}, {TopicPartition("t", 0): (7, 7)}):
        assert [record async for record in log.read(stretches)] == []
    assert consumer.assigned == []
