"""The posts actor's shell: effects, then the row and its changelog record, then the acknowledgement."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from tests.agents.conftest import SHA, World, uploaded
from tests.fakes import until
from tests.samples import analyzed
from vision_app.messages import Failed, Forget, MediaOutcome, Medium, Opened, PolicyVerdict, Skipped
from vision_app.prompts import VISION_VERSION
from vision_app.telemetry import metrics

KEY = b"t1:p1"
LOOK, PASS = PolicyVerdict(analyze=True, reason="policy_passed"), PolicyVerdict(analyze=False, reason="policy")


def opened(*verdicts: PolicyVerdict, **fields: Any) -> Opened:
    verdicts = verdicts or (LOOK,)
    names = [SHA, *(f"{number:064x}" for number in range(1, len(verdicts)))]
    media = [Medium(sha256=name, s3_key=name, mime_type="image/png", size_bytes=9) for name in names]
    return Opened(event=uploaded(media=media), verdicts=list(verdicts), **fields)


def outcome(sha256: str = SHA, dispatch: int = 1, result: Any = None) -> MediaOutcome:
    result = result or analyzed(vision_version=VISION_VERSION)
    return MediaOutcome(
        tenant_id="t1", post_id="p1", trace_id="trace-1", sha256=sha256, dispatch=dispatch, outcome=result
    )


async def test_an_opened_post_sends_its_tasks_and_a_row_in_work(world: World) -> None:
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(), key=KEY)
    (task,) = world.sent("vision.media")
    assert (task["post_id"], task["dispatch"], task["medium"]["sha256"]) == ("p1", 1, SHA)
    (record,) = world.sent("vision.sink.postgres")
    assert record["status"] == "in_work"
    assert world.sent("vision.sink.s3") == [], "only finished posts are documents"
    assert set(world.order()[:2]) == {"send vision.media", "send vision.sink.postgres"}
    assert world.order()[2:] == ["row posts", "ack"]


async def test_outcomes_end_in_a_result_for_every_sink(world: World) -> None:
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(LOOK, LOOK, PASS), outcome(), key=KEY)
        assert len(world.sent("vision.sink.s3")) == 0
        missing = outcome(f"{1:064x}", result=Skipped(reason="s3_missing"))
        await world.tell(agent, missing, key=KEY)
    for sink in ("postgres", "s3", "neo4j"):
        result = world.sent(f"vision.sink.{sink}")[-1]
        assert result["status"] == "partial"
        assert [m["outcome"]["kind"] for m in result["media"]] == ["analyzed", "skipped", "skipped"]
    assert world.order("row", "ack") == ["row posts", "ack"] * 3


async def test_a_skip_by_the_policy_is_counted_once_and_by_its_rule(world: World) -> None:
    counter = metrics.MEDIA.labels(result="skipped", reason="unsupported_mime")
    before = counter._value.get()
    refused = PolicyVerdict(analyze=False, reason="policy", details={"policy_name": "unsupported_mime"})
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(LOOK, refused, input_id="a"), key=KEY)
        await world.tell(agent, opened(LOOK, refused, input_id="b"), outcome(), key=KEY)
    assert counter._value.get() == before + 1


async def test_a_repeated_post_is_silent_and_counted(world: World) -> None:
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(), outcome(), key=KEY)
        before, sent = metrics.IDEMPOTENCY_HITS._value.get(), len(world.order("send"))
        await world.tell(agent, opened(), key=KEY)
    assert len(world.order("send")) == sent
    assert metrics.IDEMPOTENCY_HITS._value.get() == before + 1


async def test_a_redelivered_command_is_recognised_and_changes_nothing(world: World) -> None:
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(), key=KEY, timestamp=1_700_000_000.0)
        before = list(world.happened)
        agent.sent_offset = 0
        await world.tell(agent, opened(), key=KEY, timestamp=1_700_000_000.0)
    assert world.order()[len(before) :] == ["ack"]


async def test_an_outcome_that_no_post_requested_is_dead_lettered(world: World) -> None:
    async with world.agent("posts") as agent:
        await world.tell(agent, outcome(), b'{"type": "of another version"}', opened(), key=KEY)
    first, second = world.sent("vision.dlq")
    assert "replay the post" in first["reason"]
    assert (first["tenant_id"], first["post_id"]) == ("t1", "p1")
    assert second["error"] == "ValidationError"
    assert world.acked == 3


async def test_an_unexpected_error_fails_only_its_own_command(world: World) -> None:
    broken = opened().model_copy(update={"verdicts": []})  # fewer verdicts than media: decide() trips
    async with world.agent("posts") as agent:
        await world.tell(agent, broken, opened(), key=KEY)
    (letter,) = world.sent("vision.dlq")
    assert letter["error"] == "ValueError"
    assert len(world.sent("vision.media")) == 1


async def test_a_result_too_large_to_send_is_dead_lettered_and_leaves_no_row(world: World) -> None:
    def refuse(topic: str, value: Any) -> Exception | None:
        return MessageSizeTooLargeError("3 MB") if topic == "vision.sink.postgres" else None

    world.refuse = refuse
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(), key=KEY)
    assert world.sent("vision.dlq")[0]["error"] == "Oversized"
    assert world.order("row") == []


async def test_while_kafka_takes_no_effect_there_is_no_row_and_no_acknowledgement(world: World) -> None:
    world.refuse = lambda topic, value: KafkaConnectionError("away")
    async with world.agent("posts") as agent:
        await world.put(agent, opened(), key=KEY)
        await asyncio.sleep(0.02)
        assert world.happened == []
        world.refuse = lambda topic, value: None
        await until(lambda: world.acked == 1)
    assert world.order("row", "ack") == ["row posts", "ack"]


async def test_a_partition_lost_during_the_sends_gets_neither_row_nor_acknowledgement(world: World) -> None:
    def refuse(topic: str, value: Any) -> Exception | None:
        world.app.consumer_generation_id += 1
        return None

    world.refuse = refuse
    async with world.agent("posts") as agent:
        await world.put(agent, opened(), key=KEY)
        await until(lambda: len(world.order("send")) == 2)
        await asyncio.sleep(0.01)
    assert world.order("row", "ack") == []


async def test_the_row_is_confirmed_before_the_acknowledgement(world: World) -> None:
    world.unconfirmed = []
    async with world.agent("posts") as agent:
        await world.put(agent, opened(), key=KEY)
        await until(lambda: world.order("row"))
        await asyncio.sleep(0.01)
        assert world.acked == 0
        for record in world.unconfirmed:
            record.set_result(None)
        await until(lambda: world.acked == 1)


async def test_a_post_finished_long_ago_is_forgotten(world: World) -> None:
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(), outcome(), key=KEY, timestamp=1_700_000_000.0)
        forget = Forget(tenant_id="t1", post_id="p1", completed_ms=1_700_000_000_000)
        await world.tell(agent, forget, key=KEY, timestamp=1_700_000_000.0 + 3600)
        assert KEY in world.app.posts
        await world.tell(agent, forget, key=KEY, timestamp=1_700_000_000.0 + 90_000)
    assert KEY not in world.app.posts
    assert world.order("gone", "ack")[-2:] == ["gone posts", "ack"]


async def test_a_failed_medium_makes_an_error_of_a_post_without_answers(world: World) -> None:
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(), outcome(result=Failed(reason="refused")), key=KEY)
    assert world.sent("vision.sink.postgres")[-1]["status"] == "error"
    assert list(OrderedDict.fromkeys(r["status"] for r in world.sent("vision.sink.postgres"))) == ["in_work", "error"]
