"""The budget's keys in Redis on a real server: what they show, what their deletion means, and a Redis that lost all."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bridges.budget_mirror import BudgetMirrorService
from tests.integration.test_slots import server as server
from tests.redis_server import RedisServer
from vision_app.messages import Reset
from vision_app.settings import Settings, load_settings
from vision_app.stores.budget_mirror import SENTINELS, BudgetMirror, sentinel_key, spent_key
from vision_app.streams.ownership import LeftUnacked
from vision_app.topics import BUDGET


def today() -> str:
    return datetime.now(UTC).date().isoformat()


class Mirror(BudgetMirror):
    """Redis takes no sentinel while `watch_fault` is set."""

    watch_fault: RedisError | None = None

    async def watch(self, tenants: Collection[str]) -> None:
        if self.watch_fault is not None:
            raise self.watch_fault
        await super().watch(tenants)


class World:
    """A worker's table, its outbox and Postgres, as the service sees them; Redis is real."""

    def __init__(self, settings: Settings) -> None:
        self.rows: dict[bytes, dict[str, Any]] = {}
        self.sent: list[Any] = []
        self.recorded: list[tuple[str, str]] = []
        self.fault: Exception | None = None
        self.kafka_away = False
        self.mine = True
        self.app: Any = SimpleNamespace(
            budgets=SimpleNamespace(rows=lambda: [SimpleNamespace(**row) for row in self.rows.values()]),
            serving=lambda: True,
            rebalancing=False,
            conf=SimpleNamespace(topic_partitions=1),
            consumer=SimpleNamespace(assignment=lambda: {TP(BUDGET.name, 0)} if self.mine else set()),
        )
        self.mirror = Mirror(settings, cache_seconds=0)
        self.service = self.worker()

    def worker(self) -> BudgetMirrorService:
        """A worker as after a start: it remembers nothing."""
        return BudgetMirrorService(self.app, self, self.mirror, self.record)  # type: ignore[arg-type]  # this world is the outbox

    async def record(self, tenant_id: str, operator: str) -> None:
        if self.fault:
            raise self.fault
        self.recorded.append((tenant_id, operator))

    async def send(self, messages: Any, *, keep_trying: Any) -> None:
        if self.kafka_away:
            raise LeftUnacked
        self.sent += messages

    def spend(self, tenant: str, tokens: int, day: str | None = None, *, loaded: bool = True) -> None:
        self.rows[tenant.encode()] = {
            "tenant_id": tenant,
            "day": day or today(),
            "spent": tokens,
            "loaded": loaded,
        }


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(server.url, decode_responses=True)
    yield client
    await client.aclose()


@pytest.fixture
async def world(server: RedisServer, redis: Redis) -> AsyncIterator[World]:
    world = World(load_settings(redis_url=server.url))
    yield world
    await world.mirror.close()


async def test_each_tenants_spending_of_the_day_is_shown_and_expires(world: World, redis: Redis) -> None:
    world.spend("a", 1200)
    world.spend("b:c", 7)
    await world.service.look()
    assert (await redis.get(f"budget:tenant:a:{today()}"), await redis.get(f"budget:tenant:b:c:{today()}")) == (
        "1200",
        "7",
    )
    assert 25 * 3600 <= await redis.ttl(spent_key("a", today())) <= 48 * 3600
    world.spend("a", 1300)
    await world.service.look()
    assert await redis.get(spent_key("a", today())) == "1300"
    assert await redis.ttl(sentinel_key("a")) == -1


async def test_what_a_lost_ledger_showed_last_stays_until_the_new_one_is_loaded_with_it(
    world: World, redis: Redis
) -> None:
    world.spend("a", 900)
    await world.service.look()
    world.spend("a", 0, loaded=False)
    await world.worker().look()
    assert await world.mirror.last_shown("a", today()) == 900
    assert await world.mirror.last_shown("nobody", today()) == 0


async def test_a_ledger_is_opened_though_redis_is_away() -> None:
    mirror = BudgetMirror(load_settings(redis_url="redis://127.0.0.1:1"))
    assert await mirror.last_shown("a", today()) == 0
    await mirror.close()


async def test_only_what_changed_is_written_again(world: World, redis: Redis) -> None:
    world.spend("a", 5)
    await world.service.look()
    await redis.set(spent_key("a", today()), "touched")
    await world.service.look()
    assert await redis.get(spent_key("a", today())) == "touched"


async def test_a_deleted_key_of_a_day_is_written_again_at_the_next_round(world: World, redis: Redis) -> None:
    """Though nothing was spent meanwhile; it is no sentinel, so its deletion resets nothing."""
    world.spend("a", 5)
    world.spend("b", 0)
    await world.service.look()
    await redis.delete(spent_key("a", today()), spent_key("b", today()))
    await world.service.look()
    assert await redis.get(spent_key("a", today())) == "5"
    assert await redis.get(spent_key("b", today())) == "0"
    assert await redis.ttl(spent_key("a", today())) > 0
    assert world.sent == []


async def test_a_row_of_yesterday_has_spent_nothing_today(world: World, redis: Redis) -> None:
    world.spend("a", 5000, (datetime.now(UTC) - timedelta(days=1)).date().isoformat())
    await world.service.look()
    assert await redis.get(spent_key("a", today())) == "0"


async def test_the_guides_command_resets_the_tenant_and_no_other_and_may_be_repeated(
    world: World, redis: Redis
) -> None:
    world.spend("a", 5000)
    world.spend("b", 5000)
    await world.service.look()
    for times in (1, 2):
        assert await redis.delete("budget:tenant:a:*") == 1
        await world.service.look()
        await world.service.look()
        assert world.sent == [Reset(tenant_id="a")] * times
        assert await redis.exists("budget:tenant:a:*")
    assert world.recorded == [("a", "redis DEL")] * 2


async def test_a_deletion_while_no_worker_ran_counts(world: World, redis: Redis) -> None:
    world.spend("a", 5000)
    await world.service.look()
    await redis.delete(sentinel_key("a"))
    await world.worker().look()
    assert world.sent == [Reset(tenant_id="a")]


async def test_a_redis_without_data_resets_no_budget_and_is_filled_again(world: World, redis: Redis) -> None:
    world.spend("a", 5000)
    await world.service.look()
    await redis.flushall()
    await world.service.look()
    assert (world.sent, world.recorded) == ([], [])
    assert await redis.get(spent_key("a", today())) == "5000"
    assert await redis.type(SENTINELS) == "set"
    await redis.delete(sentinel_key("a"))
    await world.service.look()
    assert world.sent == [Reset(tenant_id="a")], "after the loss the command works as before"


async def test_while_postgres_or_kafka_is_away_the_reset_waits(world: World, redis: Redis) -> None:
    world.spend("a", 5000)
    await world.service.look()
    await redis.delete(sentinel_key("a"))
    world.fault = OSError("away")
    await world.service.look()
    world.fault, world.kafka_away = None, True
    await world.service.look()
    assert (world.sent, await redis.exists(sentinel_key("a"))) == ([], 0)
    world.kafka_away = False
    await world.service.look()
    assert (world.sent, await redis.exists(sentinel_key("a"))) == ([Reset(tenant_id="a")], 1)


async def test_a_reset_is_sent_once_though_the_sentinel_cannot_be_restored_at_once(world: World, redis: Redis) -> None:
    world.spend("a", 5000)
    await world.service.look()
    await redis.delete(sentinel_key("a"))
    world.mirror.watch_fault = RedisError("away")
    with pytest.raises(RedisError, match="away"):
        await world.service.look()
    world.mirror.watch_fault = None
    await world.service.look()
    assert world.sent == [Reset(tenant_id="a")]


async def test_tenants_of_other_workers_are_not_touched(world: World, redis: Redis) -> None:
    world.spend("a", 5000)
    world.mine = False
    await world.service.look()
    assert await redis.keys("*") == []


async def test_what_a_tenant_has_spent_is_read_for_the_sampling(world: World, redis: Redis) -> None:
    assert await world.mirror.spent_today("a") is None
    world.spend("a", 700)
    await world.service.look()
    assert await world.mirror.spent_today("a") == 700
    await redis.set(spent_key("b", today()), "much")
    assert await world.mirror.spent_today("b") is None


async def test_while_redis_is_away_spending_is_unknown_and_no_caller_waits(server: RedisServer, world: World) -> None:
    server.stop()
    started = time.monotonic()
    assert [await world.mirror.spent_today(tenant) for tenant in ("a", "b", "c")] == [None] * 3
    assert time.monotonic() - started < 2.5
    world.spend("a", 1)
    with pytest.raises((RedisError, OSError)):
        await world.service.look()
