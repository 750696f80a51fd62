"""A worker of its own for `test_stream_recovery.py`: one in-flight agent and one actor, on topics named by NAME.

Not a test. What handlers do is written line by line into FOLDER, where it outlives a kill; an event whose value is
`slow` waits until the file `release` is there.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Literal, cast

import faust

from vision_app.domain.moment import Applied, Moment
from vision_app.messages import Message
from vision_app.streams.actor import MAX_ROW_BYTES, Actor, Change
from vision_app.streams.confirmed_table import ConfirmedTable, changelog_table
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.faust_seams import ConsumerThread, RewindingConsumer, use_consumer
from vision_app.streams.in_flight import InFlight
from vision_app.streams.outbox import Outbox
from vision_app.streams.steady_start import hold_until_positioned
from vision_app.streams.times import WorkerTimes
from vision_app.topics import Topic

NAME, FOLDER = os.environ["NAME"], Path(os.environ["FOLDER"])
BUSY = float(os.environ.get("BUSY", "0"))
EFFECTS = Topic(f"{NAME}.effects", "entity", None)
PARTITIONS = 2


class Add(Message):
    type: Literal["add"] = "add"
    id: int


class Row(Message):
    applied: Applied
    number: int


class Effect(Message):
    id: int
    number: int


app: Any = faust.App(
    NAME,
    broker=f"kafka://{os.environ['KAFKA_BOOTSTRAP_SERVERS']}",
    Table=ConfirmedTable,
    key_serializer="raw",
    value_serializer="raw",
    store="memory://",
    datadir=str(FOLDER / "data"),
    topic_partitions=PARTITIONS,
    topic_allow_declare=False,
    topic_disable_leader=True,
    table_standby_replicas=0,
    consumer_auto_offset_reset="earliest",
    stream_wait_empty=False,
    stream_buffer_maxsize=64,
    broker_max_poll_interval=86400.0,
    broker_session_timeout=6.0,
    broker_heartbeat_interval=1.0,
    broker_commit_interval=0.1,
    producer_linger=0.0,
    web_enabled=False,
)

app.times, app.max_row_bytes = WorkerTimes(), MAX_ROW_BYTES
hold_until_positioned(app)


class BusyThread(ConsumerThread):
    """Its brokers answer nothing between a rebalance and the moment when the changelogs have been rewound."""

    def _create_consumer(self, loop: Any) -> Any:
        made, ours = super()._create_consumer(loop), cast(BusyConsumer, self.consumer)
        start = made.start

        async def start_late() -> None:
            await start()
            fetch = made._fetcher._proc_fetch_request

            async def fetch_late(*arguments: Any) -> Any:
                while not ours.is_rewound:
                    await asyncio.sleep(0.01)
                return await fetch(*arguments)

            made._fetcher._proc_fetch_request = fetch_late

        made.start = start_late
        return made


class BusyConsumer(RewindingConsumer):
    """Of an app whose event loop is busy for so many seconds when its changelogs have been rewound."""

    is_rewound = True

    def _new_consumer_thread(self) -> BusyThread:
        return BusyThread(self, loop=self.loop, beacon=self.beacon)

    async def on_partitions_revoked(self, revoked: Any) -> None:
        self.is_rewound = False
        await super().on_partitions_revoked(revoked)

    async def seek_wait(self, partitions: Any) -> None:
        await super().seek_wait(partitions)
        self.is_rewound = True
        await asyncio.sleep(BUSY)

    def getmany(self, timeout: float) -> Any:
        """A read that was begun before a rebalance is still waiting then."""
        return super().getmany(timeout + 2 * BUSY)


if BUSY:
    use_consumer(app, BusyConsumer)


class Effects(Outbox):
    """Sends an actor's effects to the topic of this test, under the actor's key."""

    def __init__(self) -> None:
        super().__init__(app)
        self._topics[EFFECTS.name] = app.topic(EFFECTS.name, key_type=bytes, value_type=bytes)

    async def send(self, messages: Any, *, keep_trying: Any) -> None:
        for message in messages:
            await self.deliver(EFFECTS, None, message.encode(), {}, keep_trying=keep_trying)


outbox = Effects()
letters = DeadLetters(outbox)


def note(text: str) -> None:
    with (FOLDER / "notes").open("a") as notes:
        notes.write(text + "\n")


async def handle(event: Any) -> None:
    at = event.message
    note(f"begin {at.partition} {at.offset}")
    if event.value == b"slow":
        while not (FOLDER / "release").exists():
            await asyncio.sleep(0.05)
    note(f"end {at.partition} {at.offset}")


def decide(row: Row | None, command: Add, at: Moment) -> Change:
    if row is not None and row.applied.covers(at):
        return Change()
    number = (row.number if row else 0) + 1
    applied = (row.applied if row else Applied()).then(at)
    return Change(send=[Effect(id=command.id, number=number)], row=Row(applied=applied, number=number))


flow = InFlight(app, "media", handle, letters, limit=8)
rows = changelog_table(app, "rows", Row, PARTITIONS, "rows of the test")
actor = Actor(app, "posts", Add, rows, outbox, letters, decide)


async def work(stream: Any) -> None:
    await flow.run(stream)


async def count(stream: Any) -> None:
    await actor.run(stream)


app.agent(app.topic(f"{NAME}.work", key_type=bytes, value_type=bytes), name="work")(work)
app.agent(app.topic(f"{NAME}.commands", key_type=bytes, value_type=bytes), name="count")(count)

if __name__ == "__main__":
    app.main()
