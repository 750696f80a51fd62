"""The policy agent: an uploaded event opens a post with a verdict per medium; an unreadable event is dead-lettered."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from agents.policy import MAX_EVENT_BYTES
from tests.agents.conftest import SHA, World, uploaded
from tests.fakes import until
from tests.samples import analyzed
from vision_app.messages import MediaOutcome, Medium, Opened, PolicyVerdict
from vision_app.prompts import VISION_VERSION
from vision_app.telemetry import metrics


async def test_a_post_is_opened_with_a_verdict_per_medium(world: World) -> None:
    media = [
        Medium(sha256="aa", s3_key="a", mime_type="image/jpeg", size_bytes=500_000),
        Medium(sha256="bb", s3_key="b", mime_type="video/mp4", size_bytes=500_000),
    ]
    async with world.agent("policy") as agent:
        await world.tell(agent, uploaded(media=media), timestamp=1_700_000_000.0)
    (opened,) = world.sent("vision.posts")
    assert opened["type"] == "opened"
    assert [verdict["analyze"] for verdict in opened["verdicts"]] == [True, False]
    assert opened["verdicts"][1]["reason"] == "policy"
    assert opened["event"]["post_id"] == "p1"
    assert opened["force"] is False
    assert opened["times"]["relayed"] == 1_700_000_000_000
    assert opened["times"]["published"] <= opened["times"]["judged"]
    assert world.order() == ["send vision.posts", "ack"]
    assert world.happened[0].key == b"t1:p1"


async def test_the_time_of_publishing_is_that_of_the_redis_entry(world: World) -> None:
    async with world.agent("policy") as agent:
        await world.tell(agent, uploaded(source_entry_id="1699999999123-0"))
    assert world.sent("vision.posts")[0]["times"]["published"] == 1_699_999_999_123


@pytest.mark.parametrize(("spent", "analyzed"), [(99_999, 12), (100_000, 10), (None, 10)])
async def test_what_was_spent_today_decides_whether_a_large_post_is_sampled(
    world: World, spent: int | None, analyzed: int
) -> None:
    world.mirror.spent = spent
    media = [Medium(sha256=f"{n}", s3_key="a", mime_type="image/png", size_bytes=500_000) for n in range(12)]
    async with world.agent("policy") as agent:
        await world.tell(agent, uploaded(media=media), uploaded("small", media=media[:10]))
    large, small = world.sent("vision.posts")
    assert sum(verdict["analyze"] for verdict in large["verdicts"]) == analyzed
    assert sum(verdict["analyze"] for verdict in small["verdicts"]) == 10
    assert world.mirror.asked == ["t1"], "a small post is never sampled: nobody has to ask"


async def test_a_header_forces_the_analysis(world: World) -> None:
    async with world.agent("policy") as agent:
        await world.tell(agent, uploaded(), headers={"vision-force": b"1"})
    assert world.sent("vision.posts")[0]["force"] is True


@pytest.mark.parametrize("value", [b"not json", b"[]", b'{"post_id": "p1"}', b"\xff\xfe"])
async def test_an_unreadable_event_is_dead_lettered_and_the_next_is_handled(world: World, value: bytes) -> None:
    async with world.agent("policy") as agent:
        await world.tell(agent, value, uploaded())
    (letter,) = world.sent("vision.dlq")
    assert (letter["error"], letter["origin"]) == ("Unreadable", "posts.vision.uploaded")
    assert len(world.sent("vision.posts")) == 1
    assert world.acked == 2


async def test_an_event_too_large_for_its_posts_row_is_dead_lettered(world: World) -> None:
    """Unknown fields are kept, so an event may be large. A row too large for the changelog would end the worker."""
    large = uploaded("large").model_copy(update={"extra": "x" * MAX_EVENT_BYTES})
    async with world.agent("policy") as agent:
        await world.tell(agent, large, uploaded("small"))
    (letter,) = world.sent("vision.dlq")
    assert "publish less" in letter["reason"]
    assert [opened["event"]["post_id"] for opened in world.sent("vision.posts")] == ["small"]


async def test_nothing_is_acknowledged_while_kafka_takes_nothing(world: World) -> None:
    world.refuse = lambda topic, value: KafkaConnectionError("away")
    async with world.agent("policy") as agent:
        await world.put(agent, uploaded())
        await asyncio.sleep(0.02)
        assert world.acked == 0
        world.refuse = lambda topic, value: None
        await until(lambda: world.acked == 1)
    assert len(world.sent("vision.posts")) == 1


KNOWN = [Medium(sha256=SHA, s3_key="a", mime_type="image/png", size_bytes=500_000)]


async def answer_a_post(world: World) -> None:
    """Post p1 with the picture KNOWN, which is analyzed."""
    opened = Opened(event=uploaded(media=KNOWN), verdicts=[PolicyVerdict(analyze=True, reason="policy_passed")])
    outcome = analyzed(vision_version=VISION_VERSION)
    answer = MediaOutcome(tenant_id="t1", post_id="p1", trace_id="trace-1", sha256=SHA, dispatch=1, outcome=outcome)
    async with world.agent("posts") as agent:
        await world.tell(agent, opened, answer, key=b"t1:p1")


async def test_of_a_repeated_publication_only_what_may_change_something_is_passed_on(world: World) -> None:
    more = [*KNOWN, Medium(sha256="bb", s3_key="b", mime_type="image/png", size_bytes=500_000)]
    world.app.serving = lambda: True
    await answer_a_post(world)
    before = metrics.IDEMPOTENCY_HITS._value.get()
    async with world.agent("policy") as agent:
        await world.tell(agent, uploaded(media=KNOWN), uploaded(media=more), uploaded("p2", media=KNOWN))
        await world.tell(agent, uploaded(media=KNOWN), headers={"vision-force": b"1"})
    passed = world.sent("vision.posts")
    assert [(one["event"]["post_id"], len(one["event"]["media_files"]), one["force"]) for one in passed] == [
        ("p1", 2, False),
        ("p2", 1, False),
        ("p1", 1, True),
    ]
    assert metrics.IDEMPOTENCY_HITS._value.get() == before + 1


async def test_while_the_tables_are_recovered_every_publication_is_passed_on(world: World) -> None:
    await answer_a_post(world)
    world.app.serving = lambda: False
    async with world.agent("policy") as agent:
        await world.tell(agent, uploaded(media=KNOWN))
    assert len(world.sent("vision.posts")) == 1
