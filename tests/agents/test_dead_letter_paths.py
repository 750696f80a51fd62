"""Every agent's paths to the dead letters and back: once the fault is gone, a replay has the intended result.

The letters of the way in (`bridges/redis_in.py`) are in tests/integration/test_redis_in.py. docs/dead-letters.md lists
all paths with their tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from tests.agents.conftest import SHA, World, uploaded
from tests.agents.test_posts import opened, outcome
from tests.agents.test_sinks import finished
from vision_app.events import announcement
from vision_app.messages import DeadLetter, MediaOutcome, Message, Reserve, Settle, Uploaded
from vision_app.operations.reentry import CannotReplay, Reentry, reentry
from vision_app.stores.base import Rejected

AGENTS = {
    "posts.vision.uploaded": "policy",
    "vision.posts": "posts",
    "vision.media": "media",
    "vision.budget": "budget",
    "vision.analysis": "analysis",
    "vision.sink.postgres": "sink-postgres",
    "vision.sink.s3": "sink-s3",
    "vision.sink.neo4j": "sink-neo4j",
    "posts.vision.analyzed": "announce-analyzed",
    "posts.vision.skipped": "announce-skipped",
}
"""The agent of each topic. No agent reads vision.dlq."""

Fault = Callable[[World, ExitStack], None]
Given = Callable[[World], Message | Uploaded | bytes]


def row_unreadable(table: str) -> Fault:
    """The row of the key cannot be read, as if another version had written it."""

    def begin(world: World, stack: ExitStack) -> None:
        rows = world.app.tables[table].data.data
        rows[b"key"] = b'{"no": "such row"}'
        stack.callback(rows.clear)

    return begin


def kafka_breaks(topic: str) -> Fault:
    """A send to this topic raises an unexpected error."""
    return refused(topic, ZeroDivisionError)


def too_large(topic: str, containing: bytes = b"") -> Fault:
    """Kafka refuses those records of a topic as too large."""
    return refused(topic, lambda: MessageSizeTooLargeError("3 MB"), containing)


def refused(topic: str, fault: Callable[[], Exception], containing: bytes = b"") -> Fault:
    def refuse(where: str, value: Any) -> Exception | None:
        return fault() if where == topic and containing in value else None

    def begin(world: World, stack: ExitStack) -> None:
        world.refuse = refuse
        stack.callback(lambda: setattr(world, "refuse", lambda where, value: None))

    return begin


def store_refuses(name: str, fault: Exception | None = None) -> Fault:
    """Make a store refuse this record, with an expected or an unexpected error."""

    def refuse(world: World, stack: ExitStack) -> None:
        world.sinks[name].faults = [fault or Rejected(0, "never")]

    return refuse


def s3_breaks(method: str) -> Fault:
    return lambda world, stack: world.s3.fail(method, "media/t1", ZeroDivisionError())


def public(world: World) -> bytes:
    _, body = announcement(finished())
    return orjson.dumps(body)


@dataclass(frozen=True)
class Path:
    """How a message becomes a dead letter, where a replay sends it, and what follows there."""

    origin: str
    fault: Fault
    given: Given
    error: str
    replayed_to: str
    leads_to: str  # a topic, or a sink


UNPLANNED, UNREADABLE_ROW = "ZeroDivisionError", "ValidationError"
PATHS = {
    "policy, unexpected": Path(
        "posts.vision.uploaded", kafka_breaks("vision.posts"), lambda world: uploaded(), UNPLANNED,
        "posts.vision.uploaded", "vision.posts",
    ),
    "policy, too large": Path(
        "posts.vision.uploaded", too_large("vision.posts"), lambda world: uploaded(), "Oversized",
        "posts.vision.uploaded", "vision.posts",
    ),
    "posts, unexpected": Path(
        "vision.posts", row_unreadable("posts"), lambda world: opened(), UNREADABLE_ROW,
        "vision.posts", "vision.media",
    ),
    "posts, too large": Path(
        "vision.posts", too_large("vision.sink.postgres"), lambda world: opened(), "Oversized",
        "vision.posts", "vision.media",
    ),
    "media, unexpected": Path(
        "vision.media", s3_breaks("head"), lambda world: world.task(), UNPLANNED, "vision.media", "vision.budget"
    ),
    "media, too large": Path(
        "vision.media", too_large("vision.budget"), lambda world: world.task(), "Oversized",
        "vision.media", "vision.budget",
    ),
    "budget, unexpected reservation": Path(
        "vision.budget", row_unreadable("budget"),
        lambda world: Reserve(tenant_id="t1", task=world.task(), estimate=100), UNREADABLE_ROW,
        "vision.media", "vision.budget",
    ),
    "budget, unexpected settlement": Path(
        "vision.budget", row_unreadable("budget"),
        lambda world: Settle(tenant_id="t1", grant_id="g1", tokens=7), UNREADABLE_ROW, "vision.budget", "row budget",
    ),
    "analysis, unexpected": Path(
        "vision.analysis", s3_breaks("read"), lambda world: world.grant(), UNPLANNED, "vision.media", "vision.budget"
    ),
    "analysis, too large": Path(
        "vision.analysis", too_large("vision.posts", b'"analyzed"'), lambda world: world.grant(), "Oversized",
        "vision.media", "vision.posts",
    ),
    **{
        f"sink {name}, {why}": Path(
            f"vision.sink.{name}", store_refuses(name, fault), lambda world: finished(), error,
            f"vision.sink.{name}", f"written {name}",
        )
        for name in ("postgres", "s3", "neo4j")
        for why, fault, error in (("refused", None, "Rejected"), ("unexpected", ZeroDivisionError(), UNPLANNED))
    },
    "sink postgres, announcement too large": Path(
        "vision.sink.postgres", too_large("posts.vision.analyzed"), lambda world: finished(), "Oversized",
        "vision.sink.postgres", "posts.vision.analyzed",
    ),
    "announcer, refused": Path(
        "posts.vision.analyzed", store_refuses("redis"), public, "Rejected", "posts.vision.analyzed", "written redis"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
async def test_what_is_replayed_after_the_fault_is_gone_leads_to_what_was_meant(world: World, name: str) -> None:
    path = PATHS[name]
    world.store()
    with ExitStack() as faults:
        path.fault(world, faults)
        letter = await _buried(world, path.origin, path.given(world))
    assert (letter.origin, letter.error) == (path.origin, path.error)
    world.happened.clear()
    way = _way(letter)
    assert way.destination == path.replayed_to
    async with world.agent(AGENTS[way.destination]) as agent:
        await world.tell(agent, way.value, key=way.key or b"key", headers=dict(way.headers))
    assert world.sent("vision.dlq") == []
    assert any(path.leads_to in happened for happened in world.order()), world.order()


@pytest.mark.parametrize("origin", AGENTS)
async def test_an_unreadable_message_returns_once_per_replay_and_never_by_itself(world: World, origin: str) -> None:
    """A message that no agent can read gives a letter; a replay gives another letter, and nothing else."""
    letter = await _buried(world, origin, b'{"nobody": "knows"}')
    world.happened.clear()
    if origin == "vision.analysis":  # no task in it, and an old grant must not be used again
        with pytest.raises(CannotReplay, match="discard it"):
            _way(letter)
        return
    way = _way(letter)
    again = await _buried(world, way.destination, way.value, headers=dict(way.headers))
    assert again.value == letter.value
    assert world.order() == ["send vision.dlq", "ack"]


async def test_a_replayed_task_answers_the_post_whose_medium_had_failed(world: World) -> None:
    """The failure was the post's outcome. The answer of the replay is better, and the post announces it."""
    failed = MediaOutcome.model_validate(await _failed_by_a_letter(world))
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(), failed, key=b"t1:p1")
        assert world.sent("vision.sink.s3")[-1]["status"] == "error"
        await world.tell(agent, outcome(), key=b"t1:p1")
    assert world.sent("vision.sink.s3")[-1]["status"] == "ok"


async def _failed_by_a_letter(world: World) -> dict[str, Any]:
    world.s3.fail("head", "media/t1", ZeroDivisionError())
    await _buried(world, "vision.media", world.task())
    (told,) = world.sent("vision.posts")
    assert (told["sha256"], told["outcome"]["kind"]) == (SHA, "failed")
    world.happened.clear()
    return told


async def _buried(world: World, origin: str, given: Message | Uploaded | bytes, **more: Any) -> DeadLetter:
    """Hand a message to the agent of its topic; returns the dead letter that this leads to."""
    async with world.agent(AGENTS[origin]) as agent:
        await world.tell(agent, given, **more)
    (letter,) = await world.letters()
    return DeadLetter.model_validate(letter)


def _way(letter: DeadLetter) -> Reentry:
    now_ms = round(time.time() * 1000)
    return reentry(letter, input_streams=("stream:posts",), default_tenant="default", now_ms=now_ms)
