"""Our way in alone, without the rest of the worker: it relays the input stream into a topic of the benchmark.

Nothing is announced here, so the number of unfinished posts is not limited. The rest is as in the worker: events are
read, entries held and acknowledged, and Faust's producer sends.

`python -m vision_app.lab.bench.relay_alone TOPIC`; the settings come from the environment.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from bridges.redis_in import RedisIn, RedisInLimits
from bridges.unfinished import UnfinishedLimits
from vision_app.app import VisionApp, create_app
from vision_app.settings import Settings, load_settings
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.event_loop import use_event_loop
from vision_app.streams.outbox import Outbox
from vision_app.telemetry.logging import configure_logging
from vision_app.topics import UPLOADED
from vision_app.workers.identity import worker_id

ALL_POSTS = 1_000_000_000


class RelayOutbox(Outbox):
    """Sends what the way in relays to another topic, so that no worker takes it for posts."""

    def __init__(self, app: VisionApp, topic: str) -> None:
        super().__init__(app)
        self._topics[UPLOADED.name] = app.topic(
            topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )


async def relay(settings: Settings, topic: str) -> None:
    """Relay until SIGTERM."""
    app = create_app(settings)
    outbox = RelayOutbox(app, topic)
    limits = RedisInLimits(unfinished=UnfinishedLimits(ALL_POSTS, ALL_POSTS))
    bridge = RedisIn(app, outbox, DeadLetters(outbox), settings, worker_id(settings), lambda: False, limits)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await bridge.start()
    print("ready", flush=True)
    await ended.wait()
    await bridge.stop()
    await app.producer.stop()


def main(topic: str) -> None:
    settings = load_settings()
    configure_logging(settings)
    use_event_loop(settings)
    asyncio.run(relay(settings, topic))


if __name__ == "__main__":
    main(sys.argv[1])
