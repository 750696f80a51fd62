"""Sinks and the way out: a result is written first, then announced, and acknowledged last."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from aiokafka.errors import KafkaConnectionError

from tests.agents.conftest import Happened, World
from tests.fakes import until
from tests.samples import analyzed, missing, post
from vision_app.messages import PostResult
from vision_app.stores.base import Rejected, SinkUnavailable
from vision_app.stores.redis_announcer import Announcement


def finished(post_id: str = "p1", *, skipped: bool = False) -> PostResult:
    return post([missing() if skipped else analyzed()], tenant="t1", post_id=post_id, trace_id="trace-1")


async def test_a_written_post_is_announced_and_then_acknowledged(world: World) -> None:
    async with world.agent("sink-postgres") as agent:
        await world.tell(agent, finished())
    assert world.order() == ["written postgres", "send posts.vision.analyzed", "ack"]
    announced = world.happened[1]
    assert announced.key == b"t1:p1"
    assert announced.body["event_type"] == "posts.vision.analyzed"
    assert announced.headers["trace_id"] == b"trace-1"
    assert announced.headers["type"] == b"posts.vision.analyzed"


async def test_a_skipped_post_goes_to_its_own_topic(world: World) -> None:
    async with world.agent("sink-postgres") as agent:
        await world.tell(agent, finished(skipped=True))
    assert world.order("send") == ["send posts.vision.skipped"]
    assert world.sent("posts.vision.skipped")[0]["reasons"][0]["reason"] == "s3_missing"


async def test_a_result_older_than_the_row_is_not_announced(world: World) -> None:
    world.sinks["postgres"].older = {"p1"}
    async with world.agent("sink-postgres") as agent:
        await world.tell(agent, finished("p1"), finished("p2"))
    assert [event["post_id"] for event in world.sent("posts.vision.analyzed")] == ["p2"]


async def test_nothing_is_announced_before_the_row_is_committed(world: World) -> None:
    world.sinks["postgres"].gate.clear()
    async with world.agent("sink-postgres") as agent:
        await world.put(agent, finished())
        await asyncio.sleep(0.02)
        assert world.happened == []
        world.sinks["postgres"].gate.set()
        await until(lambda: world.acked == 1)


async def test_nothing_is_acknowledged_before_the_announcement_is_out(world: World) -> None:
    world.refuse = lambda topic, value: KafkaConnectionError("away")
    async with world.agent("sink-postgres") as agent:
        await world.put(agent, finished())
        await until(lambda: world.happened)
        await asyncio.sleep(0.02)
        assert world.order() == ["written postgres"]
        world.refuse = lambda topic, value: None
        await until(lambda: world.acked == 1)


async def test_a_post_in_work_is_written_and_not_announced(world: World) -> None:
    async with world.agent("sink-postgres") as agent:
        await world.tell(agent, post([None], tenant="t1", post_id="p1"))
    assert world.order() == ["written postgres", "ack"]


@pytest.mark.parametrize("name", ["s3", "neo4j"])
async def test_the_other_sinks_write_and_do_not_announce(world: World, name: str) -> None:
    async with world.agent(f"sink-{name}") as agent:
        await world.tell(agent, finished())
    assert world.order() == [f"written {name}", "ack"]


async def test_a_store_that_is_away_holds_its_own_topic_back(world: World) -> None:
    world.sinks["postgres"].faults = [SinkUnavailable("away")] * 3
    async with world.agent("sink-postgres") as agent:
        await world.tell(agent, finished())
    assert world.order() == ["written postgres", "send posts.vision.analyzed", "ack"]


async def test_a_record_that_the_store_refuses_is_dead_lettered(world: World) -> None:
    world.sinks["postgres"].faults = [Rejected(0, "a NUL character")]
    async with world.agent("sink-postgres") as agent:
        await world.tell(agent, finished(), b"{}")
    first, second = world.sent("vision.dlq")
    assert (first["error"], first["reason"], first["post_id"]) == ("Rejected", "a NUL character", "p1")
    assert second["error"] == "ValidationError"
    assert world.sent("posts.vision.analyzed") == []


class TestWithoutSkippedEvents:
    @pytest.fixture
    def changes(self) -> dict[str, bool]:
        return {"feature_vision_emit_skipped_events": False, "feature_neo4j_enabled": False}

    async def test_skipped_posts_have_a_row_only(self, world: World) -> None:
        async with world.agent("sink-postgres") as agent:
            await world.tell(agent, finished(skipped=True), finished("p2"))
        assert world.order("send") == ["send posts.vision.analyzed"]
        assert sum(entry.what == "written" for entry in world.happened) == 2

    async def test_there_is_no_graph(self, world: World) -> None:
        assert "sink-neo4j" not in world.app.agents


# --- the way out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["analyzed", "skipped"])
async def test_public_events_go_out_as_they_are(world: World, event: str) -> None:
    async with world.agent("sink-postgres") as agent:
        await world.tell(agent, finished(skipped=event == "skipped"))
    sent = next(entry for entry in world.happened if entry.what == "send")
    world.happened.clear()
    async with world.agent(f"announce-{event}") as agent:
        await agent.put(_encoded(sent), key=sent.key, wait=False)
        await until(lambda: world.acked == 1)
    written, _ = world.happened
    assert written.where == "redis"
    assert written.body == Announcement(event_type=f"posts.vision.{event}", body=sent.body)


async def test_while_redis_is_away_nothing_is_acknowledged_and_nothing_is_lost(world: World) -> None:
    world.sinks["redis"].faults = [SinkUnavailable("away")] * 5
    async with world.agent("announce-analyzed") as agent:
        await world.tell(agent, b'{"event_type": "posts.vision.analyzed"}')
    assert world.order() == ["written redis", "ack"]


@pytest.mark.parametrize("value", [b"not json", b"[]", b"{}"])
async def test_a_message_that_is_not_an_event_is_dead_lettered(world: World, value: bytes) -> None:
    async with world.agent("announce-analyzed") as agent:
        await world.tell(agent, value)
    assert len(world.sent("vision.dlq")) == 1


def _encoded(sent: Happened) -> bytes:
    return orjson.dumps(sent.body)
