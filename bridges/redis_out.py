"""The way out: finished posts are announced on the Redis output stream, each state once.

Reads the two public Kafka topics. A script in Redis decides which state is newer and whether it was announced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from vision_app.stores.base import Sink
from vision_app.stores.redis_announcer import Announcement
from vision_app.streams.batches import Batches
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import Stream, Worker
from vision_app.streams.outbox import Outbox
from vision_app.topics import ANALYZED, SKIPPED, Topic


def redis_out_agents(
    app: Worker, outbox: Outbox, dead_letters: DeadLetters, announcer: Callable[[], Sink[Announcement]]
) -> list[Any]:
    """Build one agent per public topic, each with an announcer of its own."""
    return [_agent(app, outbox, dead_letters, announcer(), topic) for topic in (ANALYZED, SKIPPED)]


def _agent(app: Worker, outbox: Outbox, dead_letters: DeadLetters, announcer: Sink[Announcement], topic: Topic) -> Any:
    batches = Batches(app, announcer, _read, dead_letters, stage="redis_out")

    async def announce(stream: Stream) -> None:
        await batches.run(stream)

    return app.agent(outbox.channel(topic), name=f"announce-{topic.name.rpartition('.')[2]}")(announce)


def _read(value: bytes | None) -> Announcement:
    body = orjson.loads(value or b"")
    return Announcement(event_type=body["event_type"], body=body)
