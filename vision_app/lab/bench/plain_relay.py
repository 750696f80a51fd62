"""A plain relay: Redis stream to Kafka topic with the usual libraries, in batches and without our guarantees.

It does not read the events, counts no deliveries, takes over nothing from a dead consumer, and knows no tenants. One
promise it keeps: an entry is acknowledged in Redis only when Kafka has its record.

`python -m vision_app.lab.bench.plain_relay TOPIC`; the settings come from the environment.
"""

from __future__ import annotations

import asyncio
import sys

from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from vision_app.settings import Settings, load_settings

GROUP, CONSUMER = "plain_relay", "plain-1"
BLOCK_MS = 1000


async def relay(settings: Settings, topic: str) -> None:
    """Relay for ever."""
    stream, count = settings.input_streams[0], settings.vision_read_batch_size
    async with (
        Redis.from_url(settings.redis_url.get_secret_value()) as redis,
        AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, acks="all") as producer,
    ):
        print("ready", flush=True)
        while True:
            found = await redis.xreadgroup(GROUP, CONSUMER, {stream: ">"}, count=count, block=BLOCK_MS)
            for _, entries in found or []:
                await asyncio.gather(
                    *(producer.send_and_wait(topic, fields[b"data"], key=entry) for entry, fields in entries)
                )
                await redis.xack(stream, GROUP, *(entry for entry, _ in entries))


if __name__ == "__main__":
    asyncio.run(relay(load_settings(), sys.argv[1]))
