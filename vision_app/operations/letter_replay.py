"""Replays dead letters: plans each replay, bounds its cost, and carries it out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis

from vision_app.messages import DeadLetter
from vision_app.settings import Settings
from vision_app.stores.posts import PostsReader
from vision_app.texts import say

from .costs import Cost, Prices
from .kafka_log import KafkaSender
from .letters import Actions, ListedLetter
from .reentry import CannotReplay, Reentry, reentry
from .rows import event_of

MAX_REPLAYS_WITHOUT_AGAIN = 2
"""A letter that came back this often is probably poison: it is replayed only with `--again`."""


@dataclass(frozen=True)
class LetterReplayPlan:
    """One letter and how it would be replayed, or why not."""

    listed: ListedLetter
    way: Reentry | None
    refused: str = ""

    @property
    def letter(self) -> DeadLetter:
        return self.listed.letter

    @property
    def warning(self) -> str:
        """What the operator should know before the replay."""
        times = self.listed.replays
        return say("its like was replayed {times} time(s) before and came back", times=times) if times else ""


class LetterReplayPlanner:
    """Makes plans. Raises what asyncpg raises."""

    def __init__(self, settings: Settings, posts: PostsReader) -> None:
        self._settings, self._posts = settings, posts

    async def plans(self, letters: Sequence[ListedLetter], *, again: bool) -> list[LetterReplayPlan]:
        """One plan per letter; `again` also allows letters that came back repeatedly."""
        return [await self._plan(listed, again) for listed in letters]

    async def _plan(self, listed: ListedLetter, again: bool) -> LetterReplayPlan:
        if listed.replays >= MAX_REPLAYS_WITHOUT_AGAIN and not again:
            why = say(
                "replayed {replays} times already and came back; look at it with `vision dlq show`, then",
                replays=listed.replays,
            )
            return LetterReplayPlan(
                listed, None, say("{why} `--again` tries once more and `vision dlq discard` ends it", why=why)
            )
        settings = self._settings
        try:
            way = reentry(
                listed.letter,
                input_streams=settings.input_streams,
                default_tenant=settings.s3_default_tenant_id,
                now_ms=round(time.time() * 1000),
            )
            return LetterReplayPlan(listed, await self._with_event(listed.letter, way) if way.whole_post else way)
        except CannotReplay as why_not:
            return LetterReplayPlan(listed, None, str(why_not))

    async def _with_event(self, letter: DeadLetter, way: Reentry) -> Reentry:
        """Plan to send the whole post's event: the post is closed, so its letter's outcome would not count."""
        rows = await self._posts.get(letter.post_id or "", letter.tenant_id)
        event = event_of(rows[0]) if rows else None
        if event is None:
            raise CannotReplay(
                say("its post is closed and has no row; use `vision replay --since … --until …` instead")
            )
        media = tuple((event.tenant_id, medium, False) for medium in event.media_files)
        return replace(way, key=event.key, value=event.encode(), media=media)


async def cost_of(prices: Prices, plans: Iterable[LetterReplayPlan]) -> Cost:
    """What all plans together may cost."""
    return await prices.of(asked for plan in plans if plan.way for asked in plan.way.media)


@dataclass(frozen=True)
class Senders:
    """Where replayed letters go, and where that is recorded."""

    redis: Redis
    kafka: KafkaSender
    actions: Actions


async def carry_out(plan: LetterReplayPlan, to: Senders, operator: str, reason: str | None = None) -> str:
    """Send a letter again, then record that. Returns the new place. Raises RedisError, KafkaError, asyncpg's errors.

    After a crash between the two the letter is still listed; replaying it once more is harmless.
    """
    way = plan.way
    if way is None:
        raise CannotReplay(plan.refused)
    if way.fields is not None:
        fields: dict[Any, Any] = dict(way.fields)
        entry = await to.redis.xadd(way.destination, fields)
        place = f"{way.destination} {entry.decode() if isinstance(entry, bytes) else entry}"
    else:
        place = await to.kafka.send(way.destination, way.key, way.value, way.headers)
    await to.actions.record(plan.letter, "replayed", operator, place, reason)
    return place
