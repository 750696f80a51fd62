"""The way out: finished posts are announced on the Redis output stream, each state once.

Reads the two public Kafka topics; which state is newer, and whether it is out already, is decided inside Redis.
"""

from __future__ import annotations

from typing import Any

import orjson

from vision_app.settings import Settings
from vision_app.stores.redis_announcer import Announcement, RedisAnnouncer
from vision_app.streams.batches import Batches
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.outbox import Outbox
from vision_app.topics import ANALYZED, SKIPPED, Topic


def redis_out_agents(app: Any, outbox: Outbox, dead_letters: DeadLetters, settings: Settings) -> list[Any]:
    """Build one agent per public topic."""
    return [_agent(app, outbox, dead_letters, settings, topic) for topic in (ANALYZED, SKIPPED)]


def _agent(app: Any, outbox: Outbox, dead_letters: DeadLetters, settings: Settings, topic: Topic) -> Any:
    batches = Batches(app, RedisAnnouncer(settings), _read, dead_letters, stage="redis_out")

    async def announce(stream: Any) -> None:
        await batches.run(stream)

    return app.agent(outbox.channel(topic), name=f"announce-{topic.name.rpartition('.')[2]}")(announce)


def _read(value: bytes | None) -> Announcement:
    body = orjson.loads(value or b"")
    return Announcement(event_type=body["event_type"], body=body)
