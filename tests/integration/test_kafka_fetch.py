"""The faster fetches with a real broker: they are used, and read what was sent, also where records were deleted."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from vision_app.clients.kafka import client_arguments, kafka_admin, kafka_producer
from vision_app.clients.kafka_fetch import QuickFetch, quicken_fetches
from vision_app.settings import Settings

PARTITIONS, RECORDS = 40, 200
TOPIC = "quick-fetches"


def quick_requests(consumer: Any) -> list[QuickFetch]:
    """Our requests that the broker has not answered yet. They are in the form that writes itself."""
    waiting = [request for connection in consumer._client._conns.values() for _, request, _ in connection._requests]
    return [one.RESPONSE_TYPE for one in waiting if isinstance(getattr(one, "RESPONSE_TYPE", None), QuickFetch)]


async def test_records_of_a_real_broker_are_read_once_and_in_order(stack_settings: Settings) -> None:
    places = [TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)]
    async with kafka_admin(stack_settings) as admin:
        await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
        async with kafka_producer(stack_settings) as producer:
            for number in range(RECORDS):
                await producer.send_and_wait(TOPIC, b"%d" % number, partition=number % 3)
        await admin.delete_records({places[0]: RecordsToDelete(before_offset=5)})
    consumer = AIOKafkaConsumer(**client_arguments(stack_settings), auto_offset_reset="earliest")
    quicken_fetches(consumer)
    await consumer.start()
    try:
        consumer.assign(places)
        consumer.seek(places[0], 0)  # out of range: an error that aiokafka's own code handles
        read: dict[int, list[int]] = {0: [], 1: [], 2: []}
        async with asyncio.timeout(60):
            while sum(map(len, read.values())) < RECORDS - 5:
                for place, records in (await consumer.getmany(timeout_ms=1000, max_records=7)).items():
                    read[place.partition] += [int(record.value) for record in records]
            while not quick_requests(consumer):
                await asyncio.sleep(0.01)
        assert read == {one: list(range(one, RECORDS, 3))[5 if one == 0 else 0 :] for one in read}
        assert [consumer.highwater(place) for place in places[:4]] == [67, 67, 66, 0]
    finally:
        await consumer.stop()
