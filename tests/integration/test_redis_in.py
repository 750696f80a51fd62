"""The way in over two real servers, Redis 6.2 and the embedded Valkey.

Relayed, then acknowledged; claimed, counted, buried; nothing while Kafka is away.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from bridges import reply_size
from bridges.entry_content import Fields
from bridges.redis_in import DLQ_DATA_BYTES, DLQ_TEXT_CHARS, RedisIn, RedisInLimits
from bridges.unfinished import UnfinishedLimits
from tests.fakes import FakeApp
from tests.redis_server import REDIS_6, VALKEY, RedisServer
from vision_app.events import LIMITS
from vision_app.settings import Settings, load_settings
from vision_app.stores.redis_announcer import emitted_key
from vision_app.streams import last_resort
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.outbox import Outbox
from vision_app.telemetry import metrics

FIRST, SECOND = "stream:posts:vision:uploaded", "stream:posts:vision"
DLQ, GROUP = "stream:posts:vision:dlq", "vision_workers"
IDLE_MS = 300
PLENTY = 1_000_000


@pytest.fixture(scope="module", params=[REDIS_6, VALKEY])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"), request.param)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(server.url, decode_responses=True, encoding_errors="backslashreplace")
    await client.flushall()
    yield client
    await client.aclose()


class Way:
    """The bridge under test, a Kafka that records, and what is to be seen in Redis."""

    def __init__(self, settings: Settings, client: Redis) -> None:
        self.settings, self.client, self.app = settings, client, FakeApp()
        self.service_is_away = False
        self.limits = RedisInLimits(block_ms=20, reconnect_seconds=(0.02, 0.05))
        self.kind = RedisIn
        self.bridge: RedisIn | None = None
        self.allow(PLENTY)  # nothing is announced here

    def allow(self, posts: int) -> None:
        """So many unfinished posts of each tenant."""
        self.count(UnfinishedLimits(max_unfinished=posts, min_per_tenant=posts))

    def count(self, limits: UnfinishedLimits) -> None:
        """Set these limits, also of a bridge that is running."""
        self.limits = dataclasses.replace(self.limits, unfinished=limits)
        if self.bridge is not None:
            self.bridge.unfinished.limits = limits

    @asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[RedisIn]:
        self.app.should_stop = False
        settings = self.settings.model_copy(update=changes)
        outbox = Outbox(self.app)
        self.bridge = bridge = self.kind(
            self.app, outbox, DeadLetters(outbox), settings, "w1", lambda: self.service_is_away, self.limits
        )
        await bridge.start()
        try:
            yield bridge
        finally:
            self.app.should_stop = True
            await bridge.stop()

    @property
    def relayed(self) -> list[str]:
        return [body["post_id"] for body in self.app.values("posts.vision.uploaded")]

    async def publish(self, post_id: str = "p1", stream: str = FIRST, **fields: Any) -> str:
        body = {"tenant_id": "t1", "post_id": post_id, "trace_id": f"trace-{post_id}", "media_files": [], **fields}
        return str(await self.client.xadd(stream, {"event": "posts.vision.uploaded", "data": json.dumps(body)}))

    async def group(self, stream: str = FIRST) -> None:
        await self.client.xgroup_create(stream, GROUP, id="0", mkstream=True)

    async def taken_by(self, consumer: str, count: int = 10, stream: str = FIRST) -> None:
        """Somebody reads entries and does not acknowledge them."""
        await self.client.xreadgroup(GROUP, consumer, {stream: ">"}, count=count)

    async def pending(self, count: int = 100) -> list[dict[str, Any]]:
        """Entries delivered and not acknowledged; none while there is no group yet."""
        try:
            return list(await self.client.xpending_range(FIRST, GROUP, min="-", max="+", count=count))
        except ResponseError:
            return []

    async def renewed(self) -> bool:
        """Whether what is held was renewed since it was read: it is younger than it could be otherwise."""
        before = await self.pending()
        await asyncio.sleep(IDLE_MS / 1000)
        after = {item["message_id"]: item["time_since_delivered"] for item in await self.pending()}
        return all(after[item["message_id"]] < item["time_since_delivered"] + IDLE_MS for item in before)

    async def all_read(self) -> bool:
        """Whether everything published was delivered, acknowledged or not."""
        return await self._read(FIRST) and await self._read(SECOND)

    async def _read(self, stream: str) -> bool:
        try:
            (group,) = await self.client.xinfo_groups(stream)
        except (ResponseError, ValueError):
            return False
        return bool(group["last-delivered-id"] == (await self.client.xinfo_stream(stream))["last-generated-id"])

    async def none_pending(self) -> bool:
        """Whether everything published was delivered and acknowledged."""
        return await self._done(FIRST) and await self._done(SECOND)

    async def _done(self, stream: str) -> bool:
        try:
            (group,) = await self.client.xinfo_groups(stream)
        except (ResponseError, ValueError):
            return False
        last = (await self.client.xinfo_stream(stream))["last-generated-id"]
        return bool(group["pending"] == 0 and group["last-delivered-id"] == last)


@pytest.fixture
def way(server: RedisServer, client: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Way:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(redis_url=server.url, vision_pel_min_idle_ms=IDLE_MS, vision_pel_batch_size=3)
    return Way(settings.model_copy(update={"vision_pending_check_interval": 0.05}), client)


async def until(condition: Callable[[], Any], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while True:
            value = condition()
            if await value if asyncio.iscoroutine(value) else value:
                return
            await asyncio.sleep(0.01)


def sample(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


# --- the straight way -------------------------------------------------------------------------------------------------


async def test_entries_of_both_streams_are_relayed_and_acknowledged(way: Way) -> None:
    entry = await way.publish("p1")
    await way.publish("p2", SECOND)
    async with way.running() as bridge:
        await until(lambda: len(way.relayed) == 2)
        await until(way.none_pending)
        assert bridge.connected
        await way.publish("p3")
        await until(lambda: "p3" in way.relayed)
        await until(way.none_pending)
    sent = next(s for s in way.app.sent if s.body["post_id"] == "p1")
    assert (sent.topic, sent.key) == ("posts.vision.uploaded", b"t1:p1")
    assert (sent.body["source_stream"], sent.body["source_entry_id"]) == (FIRST, entry)
    assert sent.headers["trace_id"] == b"trace-p1"


async def test_a_batch_is_acknowledged_only_when_kafka_has_all_of_it(way: Way) -> None:
    for number in range(5):
        await way.publish(f"p{number}")
    refused = [True]
    way.app.refuse = lambda topic, value: (
        KafkaConnectionError("x") if refused[0] and b'"p3"' in (value or b"") else None
    )
    async with way.running():
        await until(lambda: len(way.relayed) == 4)
        assert len(await way.pending()) == 5
        refused[0] = False
        await until(way.none_pending)
    assert sorted(way.relayed) == [f"p{number}" for number in range(5)]


# --- what others, or we ourselves, left behind ------------------------------------------------------------------------


async def test_what_this_consumer_left_behind_is_relayed_at_once(way: Way) -> None:
    await way.publish("p1")
    await way.group()
    await way.taken_by("vision-worker-w1")
    async with way.running(vision_pel_min_idle_ms=3_600_000):
        await until(way.none_pending)
    assert way.relayed == ["p1"]


async def test_what_others_left_behind_is_claimed_when_it_is_old_enough(way: Way) -> None:
    for number in range(8):  # more than one batch of claims
        await way.publish(f"p{number}")
    await way.group()
    await way.taken_by("tester")
    async with way.running():
        await until(way.none_pending)
    assert sorted(way.relayed) == [f"p{number}" for number in range(8)]


async def test_what_others_are_working_on_is_left_to_them_and_measured(way: Way) -> None:
    await way.publish("p1")
    await way.group()
    await way.taken_by("tester")
    async with way.running(vision_pel_min_idle_ms=3_600_000):
        await way.publish("p2")
        await until(lambda: way.relayed == ["p2"])
        await until(lambda: sample("vision_pel_size", consumer_group=GROUP) == 1)
        await until(lambda: sample("vision_pending_older_than_seconds", consumer_group=GROUP, percentile="max") > 0.05)
        (pending,) = await way.pending()
    assert (pending["consumer"], pending["times_delivered"]) == ("tester", 1)


async def test_an_entry_delivered_too_often_goes_to_both_dead_letters_unprocessed(way: Way) -> None:
    """Scenario 6: one delivery to somebody else is all that VISION_MAX_DELIVERIES=1 allows."""
    entry = await way.publish("p1")
    await way.group()
    await way.taken_by("tester")
    before = sample("vision_events_total", status="failed", reason="max_deliveries_exceeded")
    async with way.running(vision_max_deliveries=1):
        await until(way.none_pending)
    assert way.relayed == []
    ((_, fields),) = await way.client.xrange(DLQ)
    data = json.loads(fields.pop("data"))
    assert (data["post_id"], data["tenant_id"]) == ("p1", "t1")
    assert fields == {
        "original_stream": FIRST,
        "original_message_id": entry,
        "error": "max deliveries exceeded",
        "delivery_count": "1",
        "max_deliveries": "1",
        "trace_id": "trace-p1",
    }
    (letter,) = way.app.values("vision.dlq")
    assert (letter["origin"], letter["offset"], letter["error"]) == (FIRST, entry, "max_deliveries_exceeded")
    assert (letter["tenant_id"], letter["post_id"], letter["attempts"]) == ("t1", "p1", 1)
    assert json.loads(json.loads(letter["value"])["data"]) == data, "the whole entry, to be replayed"
    after = sample("vision_events_total", status="failed", reason="max_deliveries_exceeded")
    assert after == before + 1


async def test_an_entry_below_the_limit_is_processed_and_counted_as_one_more_delivery(way: Way) -> None:
    await way.publish("p1")
    await way.group()
    await way.taken_by("tester")
    way.app.refuse = lambda topic, value: KafkaConnectionError("away")
    async with way.running(vision_max_deliveries=2):

        async def claimed() -> bool:
            (pending,) = await way.pending()
            return bool(pending["consumer"] == "vision-worker-w1" and pending["times_delivered"] == 2)

        await until(claimed)
        way.app.refuse = lambda topic, value: None
        await until(way.none_pending)
    assert way.relayed == ["p1"]


async def test_entries_trimmed_while_they_were_pending_are_acknowledged_and_counted(way: Way) -> None:
    await way.publish("p1")
    await way.publish("p2")
    await way.group()
    await way.taken_by("tester", count=1)
    await way.taken_by("vision-worker-w1", count=1)
    await way.client.xtrim(FIRST, maxlen=0, approximate=False)
    before = sample("vision_redis_trimmed_entries_total")
    async with way.running():
        await until(way.none_pending)
        await way.publish("p3")
        await until(lambda: way.relayed == ["p3"])
    assert sample("vision_redis_trimmed_entries_total") == before + 2
    assert way.app.values("vision.dlq") == []


async def test_an_entry_that_is_gone_when_it_is_claimed_is_counted_and_the_others_go_on(way: Way) -> None:
    """From Redis 7.0 on XCLAIM answers only with what still exists, and forgets the rest; Redis 6.2 gives it back."""
    await way.publish("p1")
    await way.publish("p2")
    await way.group()
    await way.taken_by("tester")
    await way.client.xtrim(FIRST, maxlen=1, approximate=False)
    before = sample("vision_redis_trimmed_entries_total")
    async with way.running():
        await until(lambda: way.relayed == ["p2"])
        await until(way.none_pending)
    assert sample("vision_redis_trimmed_entries_total") == before + 1


# --- what the worker cannot take yet ----------------------------------------------------------------------------------


async def test_a_tenant_that_floods_is_passed_by_the_others(way: Way) -> None:
    way.allow(0)
    for number in range(150):
        await way.publish(f"flood-{number}")
    async with way.running():
        await until(way.all_read)
        await way.publish("other", tenant_id="t2")
        await way.publish("third", SECOND, tenant_id="t3")
        await until(way.all_read)
        assert way.relayed == []
        way.allow(PLENTY)
        await until(way.none_pending)
    assert sorted(way.relayed[:3]) == ["flood-0", "other", "third"]
    assert way.relayed[3:] == [f"flood-{number}" for number in range(1, 150)]


async def test_a_tenant_is_limited_by_its_unfinished_posts_and_others_do_not_wait_for_it(
    way: Way,
) -> None:
    limits = UnfinishedLimits(max_unfinished=3, min_per_tenant=2)
    way.count(limits)
    for number in range(6):
        await way.publish(f"p{number}")
    async with way.running():
        await until(lambda: way.relayed == ["p0", "p1", "p2"])
        await way.publish("other", tenant_id="t2")
        await until(lambda: way.relayed[3:] == ["other"])
        await way.client.set(emitted_key("t1", "p0"), "1-1")
        await way.publish("another", tenant_id="t2")
        await until(lambda: way.relayed[4:] == ["another"])

        async def held_back() -> bool:
            return len(await way.pending()) == 3

        await until(held_back)  # two are under way, and somebody else posts, too
        assert len(way.relayed) == 5
        await way.client.set(emitted_key("t1", "p2"), "1-1")
        await until(lambda: way.relayed[5:] == ["p3"])
        way.count(dataclasses.replace(limits, patience_seconds=0))
        await until(way.none_pending)
    assert way.relayed[6:] == ["p4", "p5"]


async def test_tenants_share_the_limit_of_unfinished_posts(way: Way) -> None:
    way.count(UnfinishedLimits(max_unfinished=8, min_per_tenant=2))
    for number in range(20):
        await way.publish(f"p{number}")
        await way.publish(f"q{number}", tenant_id="t2")
    async with way.running():
        await until(lambda: len(way.relayed) == 8)
        assert Counter(post[0] for post in way.relayed) == {"p": 4, "q": 4}
        for number in range(4):
            for post in ("a", "b", "c"):
                await way.publish(f"{post}{number}", tenant_id=f"u{number}")
        await until(lambda: len(way.relayed) == 16)
        await until(way.all_read)
    assert Counter(way.relayed[8:]) == Counter(f"{post}{number}" for number in range(4) for post in ("a", "b"))


async def test_while_a_service_is_away_a_tenant_is_not_limited_by_its_unfinished_posts(way: Way) -> None:
    way.allow(2)
    for number in range(6):
        await way.publish(f"p{number}")
    async with way.running():
        await until(lambda: way.relayed == ["p0", "p1"])
        way.service_is_away = True
        await until(way.none_pending)
    assert len(way.relayed) == 6


async def test_holding_counts_as_no_delivery_however_often_the_worker_starts(way: Way) -> None:
    way.allow(0)
    await way.publish("p1")
    for _ in range(4):
        async with way.running(vision_max_deliveries=2):
            await until(way.all_read)
            await until(way.renewed)
    (held,) = await way.pending()
    assert held["times_delivered"] == 1
    way.allow(PLENTY)
    async with way.running(vision_max_deliveries=2):
        await until(way.none_pending)
    assert way.relayed == ["p1"]


async def test_what_others_left_behind_is_found_behind_all_that_is_held(way: Way) -> None:
    way.allow(0)
    for number in range(100):  # more than XAUTOCLAIM looks at in one go
        await way.publish(f"held-{number:03}")
    async with way.running():
        await until(way.all_read)
        await way.publish("left", tenant_id="t2")
        await way.taken_by("tester")

        async def claimed() -> bool:
            return {item["consumer"] for item in await way.pending(1000)} == {"vision-worker-w1"}

        await until(claimed)
        way.allow(PLENTY)
        await until(way.none_pending)
    assert "left" in way.relayed[:4]


# --- how much is held -------------------------------------------------------------------------------------------------


async def test_held_entries_are_bounded_in_bytes_and_the_rest_is_read_again_when_due(
    way: Way,
) -> None:
    """2,500 events of 200 kB once took 828 MB, because the read-ahead counted entries and not bytes."""
    way.limits = dataclasses.replace(way.limits, read_ahead_bytes=1_000_000)
    way.allow(0)
    for number in range(30):
        await way.publish(f"p{number}", caption="x" * 200_000)
    async with way.running() as bridge:
        await until(way.all_read)
        await way.publish("other", tenant_id="t2")
        await until(way.all_read)
        await until(lambda: len(bridge._waiting) == 31)
        assert bridge._waiting.held_bytes <= 1_000_000
        await until(lambda: 0 < sample("vision_read_ahead_bytes") <= 1_000_000)
        held = [entry for queue in bridge._waiting._queues.values() for entry in queue]
        large = [entry for entry in held if entry.tenant_id == "t1"]
        assert sum(entry.content is not None for entry in large) == 2, "fields and the record's value: 400 kB each"
        way.allow(PLENTY)
        await until(way.none_pending)
        await until(lambda: sample("vision_read_ahead_bytes") == 0)
    assert "other" in way.relayed[:2], "nobody waits for somebody else's large entries"
    assert [post for post in way.relayed if post != "other"] == [f"p{number}" for number in range(30)]
    assert len(way.app.values("posts.vision.uploaded")[5]["caption"]) == 200_000


async def test_an_entry_not_held_that_is_trimmed_is_acknowledged_and_counted(
    way: Way,
) -> None:
    way.limits = dataclasses.replace(way.limits, read_ahead_bytes=0)
    way.allow(0)
    for number in range(3):
        await way.publish(f"p{number}")
    before = sample("vision_redis_trimmed_entries_total")
    unexpected = sample("vision_unexpected_errors_total", where="redis_in")
    async with way.running():
        await until(way.all_read)
        await way.client.xtrim(FIRST, maxlen=1, approximate=False)
        way.allow(PLENTY)
        await until(way.none_pending)
    assert way.relayed == ["p2"]
    assert sample("vision_redis_trimmed_entries_total") == before + 2
    assert sample("vision_unexpected_errors_total", where="redis_in") == unexpected


async def test_an_answer_of_redis_is_bounded_as_soon_as_entries_are_large(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.limits = dataclasses.replace(way.limits, read_bytes=1_000_000)
    asked: list[int] = []
    xreadgroup = Redis.xreadgroup

    async def seen(client: Redis, *arguments: Any, **named: Any) -> Any:
        answer = await xreadgroup(client, *arguments, **named)
        if answer:
            asked.append(sum(len(entries) for _, entries in answer))
        return answer

    monkeypatch.setattr(Redis, "xreadgroup", seen)  # patched: the client's; its answers are counted
    for number in range(40):
        await way.publish(f"p{number}", caption="x" * 300_000)
    async with way.running():
        await until(way.none_pending)
    assert len(way.relayed) == 40
    assert asked[0] <= reply_size.FIRST
    assert max(asked[1:]) <= 3, "three of them make a megabyte"


async def test_what_was_left_behind_is_read_in_answers_of_a_bounded_size(
    way: Way,
) -> None:
    sizes: list[int] = []

    class Counting(RedisIn):
        async def _read_fields(self, stream: str, ids: Sequence[bytes]) -> dict[bytes, Fields]:
            found = await super()._read_fields(stream, ids)
            sizes.append(len(found))
            return found

    way.limits, way.kind = dataclasses.replace(way.limits, read_bytes=1_000_000), Counting
    for number in range(40):
        await way.publish(f"p{number}", caption="x" * 300_000)
    await way.group()
    await way.taken_by("vision-worker-w1", count=40)
    async with way.running(vision_pel_min_idle_ms=3_600_000):
        await until(way.none_pending)
    assert sorted(way.relayed) == sorted(f"p{number}" for number in range(40))
    assert max(sizes[1:]) <= 3


# --- what cannot be relayed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"data": "not json", "event": "posts.vision.uploaded"},
        {"data": json.dumps({"post_id": "p1", "trace_id": "tr", "media_files": "many"})},
        {"nothing": "known"},
        {b"data": b"\xff\xfe"},
    ],
)
async def test_an_unreadable_entry_is_dead_lettered_and_the_rest_is_relayed(way: Way, fields: dict[Any, Any]) -> None:
    entry = await way.client.xadd(FIRST, fields)
    await way.publish("p2")
    async with way.running():
        await until(lambda: way.relayed == ["p2"])
        await until(way.none_pending)
    ((_, dead),) = await way.client.xrange(DLQ)
    assert (dead["original_message_id"], dead["delivery_count"], dead["max_deliveries"]) == (entry, "1", "5")
    assert dead["error"]
    (letter,) = way.app.values("vision.dlq")
    assert (letter["error"], letter["first_seen_ms"]) == ("unreadable", int(entry.partition("-")[0]))
    assert letter["reason"] == dead["error"]


async def test_an_entry_too_large_for_kafka_is_dead_lettered_cut_and_others_are_relayed(way: Way) -> None:
    way.app.refuse = lambda topic, value: MessageSizeTooLargeError("big") if len(value or b"") > 300_000 else None
    await way.publish("p1", caption="x" * 400_000)
    await way.publish("p2")
    async with way.running():
        await until(lambda: way.relayed == ["p2"])
        await until(way.none_pending)
    ((_, dead),) = await way.client.xrange(DLQ)
    assert len(dead["data"]) > 400_000
    (letter,) = way.app.values("vision.dlq")
    assert int(letter["headers"]["vision-cut"]) > 400_000


@pytest.mark.parametrize("name", ["trace_id", "tenant_id", "post_id"])
async def test_an_id_of_two_megabytes_is_dead_lettered_once_in_both_and_others_are_relayed(way: Way, name: str) -> None:
    """Once nothing new was read any more, and each round added to the Redis dead letters."""
    way.app.refuse = lambda topic, value: MessageSizeTooLargeError("big") if len(value or b"") > 2**21 else None
    await way.publish("before")
    entry = await way.publish(**{"post_id": "p1", name: "x" * 2_200_000})
    await way.publish("after")
    await way.publish("other stream", SECOND)
    async with way.running():
        await until(lambda: sorted(way.relayed) == ["after", "before", "other stream"])
        await until(way.none_pending)
    ((_, dead),) = await way.client.xrange(DLQ)
    assert dead["error"] == f"{name}: 2200000 characters; at most {LIMITS[name]} are taken: shorten it"
    assert int(dead["data_bytes"]) > 2_200_000
    assert sum(len(text) for text in dead.values()) < DLQ_DATA_BYTES + 10_000
    (letter,) = way.app.values("vision.dlq")
    assert (letter["id"], letter["error"]) == (f"{FIRST}-{entry}", "unreadable")
    assert letter["reason"].startswith(dead["error"])
    assert dead["data_sha256"] != letter["headers"]["vision-sha256"], "ours is that of the whole entry, theirs of data"
    (sent,) = [sent for sent in way.app.sent if sent.topic == "vision.dlq"]
    assert len(sent.key or b"") + len(sent.value or b"") + sum(map(len, sent.headers.values())) < 1_000_000


async def test_an_entry_delivered_too_often_with_hostile_ids_is_given_up_once(way: Way) -> None:
    way.app.refuse = lambda topic, value: MessageSizeTooLargeError("big") if len(value or b"") > 2**21 else None
    await way.publish("p1", trace_id="x" * 2_200_000)
    await way.publish("p2")
    await way.group()
    await way.taken_by("vision-worker-w1", count=1)
    async with way.running(vision_max_deliveries=1):
        await until(lambda: way.relayed == ["p2"])
        await until(way.none_pending)
    ((_, dead),) = await way.client.xrange(DLQ)
    assert (dead["error"], len(dead["trace_id"])) == ("max deliveries exceeded", DLQ_TEXT_CHARS)
    (letter,) = way.app.values("vision.dlq")
    assert (letter["error"], letter["reason"].partition(";")[0]) == (
        "max_deliveries_exceeded",
        "max deliveries exceeded",
    )


async def test_an_entry_that_cannot_be_relayed_is_dead_lettered_and_others_are_relayed(way: Way) -> None:
    way.app.refuse = lambda topic, value: (
        ZeroDivisionError() if topic == "posts.vision.uploaded" and b'"p1"' in (value or b"") else None
    )
    for post_id in ("p0", "p1", "p2"):
        await way.publish(post_id)
    before = sample("vision_unexpected_errors_total", where="redis_in")
    async with way.running():
        await until(way.none_pending)
    assert sorted(way.relayed) == ["p0", "p2"]
    (letter,) = way.app.values("vision.dlq")
    assert (letter["post_id"], letter["error"]) == ("p1", "unexpected")
    assert len(await way.client.xrange(DLQ)) == 1
    assert sample("vision_unexpected_errors_total", where="redis_in") == before + 1


async def test_a_dead_letter_that_fails_for_another_reason_than_its_entry_ends_the_process(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ProcessEnded(BaseException):
        pass

    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise ProcessEnded

    monkeypatch.setattr("vision_app.streams.last_resort.os._exit", end)  # patched: the end of the process
    way.app.refuse = lambda topic, value: ZeroDivisionError() if topic == "vision.dlq" else None
    await way.client.xadd(FIRST, {"data": "not json"})
    async with way.running():
        await until(lambda: codes == [last_resort.EXIT_UNENDED])
    assert len(await way.pending()) == 1, "it comes again"


async def test_rounds_that_fail_one_after_the_other_end_the_process(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr("vision_app.streams.last_resort.os._exit", codes.append)  # patched: the end of the process

    class Broken(RedisIn):
        async def _own_pending(self, stream: str) -> list[bytes]:
            raise ZeroDivisionError

    way.kind = Broken
    async with way.running() as bridge:
        await until(lambda: bridge.round_state == "failed" or codes)
        await until(lambda: codes)
    assert codes[0] == last_resort.EXIT_UNENDED


async def test_the_dead_letter_is_written_before_the_entry_is_acknowledged(way: Way) -> None:
    await way.client.xadd(FIRST, {"data": "not json"})
    way.app.refuse = lambda topic, value: KafkaConnectionError("away")
    async with way.running():
        await until(lambda: way.client.xlen(DLQ))
        assert len(await way.pending()) == 1
        way.app.refuse = lambda topic, value: None
        await until(way.none_pending)
    assert len(way.app.values("vision.dlq")) == 1


# --- outages ----------------------------------------------------------------------------------------------------------


async def test_while_kafka_refuses_nothing_is_read_or_counted_and_what_is_held_stays_held(way: Way) -> None:
    way.app.refuse = lambda topic, value: KafkaConnectionError("away")
    await way.publish("p1")
    async with way.running():
        await until(way.pending)
        await way.publish("p2")
        await until(lambda: sample("stream_consumer_lag", stream=FIRST, group=GROUP) == 1)

        async def renewed() -> bool:
            """Long enough for others to claim it, had it not been renewed."""
            (held,) = await way.pending()
            seen.append(held["time_since_delivered"])
            return sum(later < earlier for earlier, later in pairwise(seen)) >= 4

        seen: list[int] = []
        await until(renewed)
        (held,) = await way.pending()
        assert (held["consumer"], held["times_delivered"]) == ("vision-worker-w1", 1)
        assert max(seen) < IDLE_MS
        way.app.refuse = lambda topic, value: None
        await until(way.none_pending)
        await until(lambda: sample("stream_consumer_lag", stream=FIRST, group=GROUP) == 0)
    assert way.relayed == ["p1", "p2"]


async def test_a_stop_while_kafka_refuses_is_quick_and_the_entry_comes_again(way: Way) -> None:
    way.app.refuse = lambda topic, value: KafkaConnectionError("away")
    await way.publish("p1")
    before = sample("vision_unexpected_errors_total", where="redis_in")
    async with way.running():
        await until(way.pending)
    assert len(await way.pending()) == 1
    assert sample("vision_unexpected_errors_total", where="redis_in") == before
    way.app.refuse = lambda topic, value: None
    async with way.running():
        await until(way.none_pending)
    assert way.relayed == ["p1"]


async def test_after_a_restart_of_redis_it_connects_again(way: Way, server: RedisServer) -> None:
    await way.publish("p1")
    async with way.running() as bridge:
        await until(way.none_pending)
        server.stop()
        await until(lambda: not bridge.connected)
        server.start()
        await until(lambda: bridge.connected)
        await way.publish("p2")
        await until(lambda: way.relayed == ["p1", "p2"])
        await until(way.none_pending)


async def test_after_redis_lost_everything_the_group_is_made_again(way: Way) -> None:
    await way.publish("p1")
    async with way.running():
        await until(way.none_pending)
        await way.client.flushall()
        await way.publish("p2")
        await until(lambda: way.relayed == ["p1", "p2"])
        await until(way.none_pending)
