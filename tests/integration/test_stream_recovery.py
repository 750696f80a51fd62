"""kill -9 on the real broker: unfinished work comes again, finished rows are exact, no effect is decided twice.

The commit holes these guard against are Faust's: with acknowledgements out of order it commits over a gap of one, and
over any gap where a partition has no committed offset yet.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from vision_app.settings import Settings

SCRIPT = Path(__file__).with_name("stream_worker.py")
ROOT = SCRIPT.parents[2]
COMMANDS = 240
KEYS = (b"a", b"b", b"c")


class Worker:
    """The worker's process, its notes and its topics."""

    def __init__(self, folder: Path, broker: str, name: str = "", busy: float = 0) -> None:
        self.name = name or f"recovery-{uuid4().hex[:8]}"
        self.folder, self.broker, self.busy = folder, broker, busy
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "NAME": self.name,
            "FOLDER": str(self.folder),
            "BUSY": str(self.busy),
            "KAFKA_BOOTSTRAP_SERVERS": self.broker,
            "PYTHONPATH": str(ROOT),
        }
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, str(SCRIPT), "worker", "--without-web", "-l", "warn"]
            self._process = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self, seconds: float = 10) -> None:
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(seconds) == 0
        self._process = None

    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    async def until(self, condition: Any, what: str, seconds: float = 40) -> None:
        """Wait for a condition, synchronous or not, while the worker lives."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = condition()
            if await value if asyncio.iscoroutine(value) else value:
                return
            alive = self._process is None or self._process.poll() is None
            assert alive, f"the worker ended while waiting for {what}: {self.log()}"
            await asyncio.sleep(0.05)
        pytest.fail(f"{what} did not come: {self.notes()[-10:]} {self.log()}")

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]


@pytest.fixture
async def admin(stack_settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=stack_settings.kafka_bootstrap_servers)
    await client.start()
    yield client
    await client.close()


@pytest.fixture
async def worker(stack_settings: Settings, tmp_path: Path, admin: AIOKafkaAdminClient) -> AsyncIterator[Worker]:
    worker = Worker(tmp_path, stack_settings.kafka_bootstrap_servers)
    times = {"message.timestamp.type": "LogAppendTime"}
    names = [f"{worker.name}.{topic}" for topic in ("work", "commands", "effects")]
    topics = [NewTopic(name, 2, 1, topic_configs=times) for name in names]
    changelog = f"{worker.name}-rows-changelog"
    await admin.create_topics([*topics, NewTopic(changelog, 2, 1, topic_configs={"cleanup.policy": "compact"})])
    yield worker
    worker.kill()
    await admin.delete_topics([*names, changelog])


@pytest.fixture
async def producer(stack_settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=stack_settings.kafka_bootstrap_servers) as producer:
        yield producer


async def committed(admin: AIOKafkaAdminClient, worker: Worker, partition: int) -> int | None:
    offsets = await admin.list_consumer_group_offsets(worker.name)
    found = offsets.get(TopicPartition(f"{worker.name}.work", partition))
    return None if found is None or found.offset < 0 else int(found.offset)


async def records(worker: Worker, topic: str) -> list[Any]:
    """Everything on a topic so far."""
    consumer = AIOKafkaConsumer(bootstrap_servers=worker.broker, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(2)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[Any] = []
        while any([await consumer.position(at) < ends[at] for at in partitions]):
            batches = await consumer.getmany(timeout_ms=200)
            found += [record for batch in batches.values() for record in batch]
        return found
    finally:
        await consumer.stop()


async def test_the_unfinished_first_event_comes_again_after_kill_9(
    worker: Worker, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer
) -> None:
    """A new group, the first event still running, the next three done: nothing may be committed."""
    topic = f"{worker.name}.work"
    for value in (b"slow", b"x", b"x", b"x"):
        await producer.send_and_wait(topic, value, partition=0)
    worker.start()
    await worker.until(lambda: {"begin 0 0", "end 0 1", "end 0 2", "end 0 3"} <= set(worker.notes()), "three ends")

    async def another_commit() -> bool:
        return await committed(admin, worker, 1) == 1

    await producer.send_and_wait(topic, b"x", partition=1)  # once this is committed, the others could have been
    await worker.until(another_commit, "the commit of the other partition")
    assert await committed(admin, worker, 0) is None
    worker.kill()
    (worker.folder / "release").touch()
    worker.start()
    await worker.until(lambda: "end 0 0" in worker.notes(), "the first event again")

    async def all_committed() -> bool:
        return await committed(admin, worker, 0) == 4

    await worker.until(all_committed, "the commit of all four")
    assert worker.notes().count("begin 0 0") == 2
    assert worker.notes().count("end 1 0") == 1, "what was committed is not handled again"
    worker.terminate()


async def test_an_unfinished_event_behind_what_is_committed_comes_again_after_kill_9(
    worker: Worker, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer
) -> None:
    """Three committed, the fourth still running, the fifth done: a gap of one, over which Faust would commit."""
    topic = f"{worker.name}.work"

    def commits(partition: int, offset: int) -> Callable[[], Awaitable[bool]]:
        async def reached() -> bool:
            return await committed(admin, worker, partition) == offset

        return reached

    for _ in range(3):
        await producer.send_and_wait(topic, b"x", partition=0)
    worker.start()
    await worker.until(commits(0, 3), "the commit of the first three")
    await producer.send_and_wait(topic, b"slow", partition=0)
    await producer.send_and_wait(topic, b"x", partition=0)
    await worker.until(lambda: {"begin 0 3", "end 0 4"} <= set(worker.notes()), "the fifth event's end")
    await producer.send_and_wait(topic, b"x", partition=1)  # once this is committed, the fifth could have been
    await worker.until(commits(1, 1), "the commit of the other partition")
    assert await committed(admin, worker, 0) == 3
    worker.kill()
    (worker.folder / "release").touch()
    worker.start()
    await worker.until(commits(0, 5), "the commit of all five")
    assert (worker.notes().count("begin 0 3"), worker.notes().count("end 0 3")) == (2, 1)
    assert worker.notes().count("end 0 2") == 1, "what was committed is not handled again"
    worker.terminate()


async def test_sigterm_ends_at_once_although_an_event_is_unfinished(worker: Worker, producer: AIOKafkaProducer) -> None:
    await producer.send_and_wait(f"{worker.name}.work", b"slow", partition=0)
    worker.start()
    await worker.until(lambda: "begin 0 0" in worker.notes(), "the first event")
    worker.terminate(8)
    assert "end 0 0" not in worker.notes()


async def test_every_row_is_exact_after_kills_during_commands(worker: Worker, producer: AIOKafkaProducer) -> None:
    """Each command counts once, effects may repeat but never contradict themselves."""
    commands, effects = f"{worker.name}.commands", f"{worker.name}.effects"
    for number in range(COMMANDS):
        body = orjson.dumps({"type": "add", "id": number})
        await producer.send(commands, body, key=KEYS[number % len(KEYS)], partition=number % len(KEYS) % 2)
    await producer.flush()
    decided: dict[int, set[int]] = defaultdict(set)

    async def decided_so_far() -> int:
        for record in await records(worker, effects):
            effect = orjson.loads(record.value)
            assert "number" in effect, f"a dead letter: {effect['error']} {effect['reason']}"
            decided[effect["id"]].add(effect["number"])
        return len(decided)

    for target in (COMMANDS // 4, COMMANDS // 2, COMMANDS):

        async def enough(target: int = target) -> bool:
            return await decided_so_far() >= target

        worker.start()
        await worker.until(enough, f"{target} effects")
        if target < COMMANDS:
            worker.kill()
    for place in range(len(KEYS)):
        numbers = [decided[number] for number in range(place, COMMANDS, len(KEYS))]
        assert numbers == [{position + 1} for position in range(len(numbers))], "each command is decided once, in order"

    async def rows_written() -> bool:
        found = await records(worker, f"{worker.name}-rows-changelog")
        rows = {record.key: orjson.loads(record.value) for record in found}
        return [rows[key]["number"] for key in KEYS if key in rows] == [COMMANDS // len(KEYS)] * len(KEYS)

    await worker.until(rows_written, "the last rows")
    worker.terminate()


async def test_a_read_begun_before_a_rebalance_takes_nothing_from_the_recovery(
    worker: Worker, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    """It is answered after the changelogs were rewound and before their records are wanted, and is thrown away."""
    commands, effects = f"{worker.name}.commands", f"{worker.name}.effects"

    async def send(numbers: range) -> None:
        for number in numbers:
            body = orjson.dumps({"type": "add", "id": number})
            await producer.send_and_wait(commands, body, key=KEYS[number % 2], partition=number % 2)

    def decided(count: int) -> Callable[[], Awaitable[bool]]:
        async def enough() -> bool:
            return len({orjson.loads(record.value)["id"] for record in await records(worker, effects)}) >= count

        return enough

    worker.busy = 2
    await send(range(10))
    worker.start()
    await worker.until(decided(10), "the first effects")
    folder = tmp_path / "second"
    folder.mkdir()
    second = Worker(folder, worker.broker, worker.name)
    second.start()

    async def both() -> bool:
        [answer] = await admin.describe_consumer_groups([worker.name])
        [(_, _, state, _, _, members)] = answer.groups
        return state == "Stable" and len(members) == 2

    try:
        await worker.until(both, "the second worker's share")
        await send(range(10, 20))
        await worker.until(decided(20), "effects by both workers")
    finally:
        second.kill()
    worker.terminate()
