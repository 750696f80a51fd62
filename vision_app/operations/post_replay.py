"""Replays one post from its row: what each picture may cost, and the sending. The same as `vision replay --post ID`.

The worker decides again what to do with the post; the plan names an upper bound. A picture with a stored answer is
free. The plan says which pictures were paid for before and would be paid for again. Not here: posts without a row,
whose event is found in Kafka (`inputs.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from vision_app.messages import Medium
from vision_app.stores.post_actions import PostReplay, PostReplays
from vision_app.stores.posts import Row
from vision_app.texts import noted, say

from .connections import OperationError
from .costs import Cost, Prices
from .inputs import Input, from_rows, send_again
from .kafka_log import KafkaSender

Effect = Literal["free", "asked", "paid_again", "no_object"]

_NO_EVENT = noted(
    "the row of this post does not hold its whole event; use `vision replay --post ID --since 7d`, which reads Kafka"
)
ANSWERED = frozenset({"analyzed", "partial"})


@dataclass(frozen=True)
class MediumPlan:
    """A picture of the post. `tokens_before`: what it was billed; `cost`: of asking again."""

    sha256: str
    status: str
    effect: Effect
    tokens_before: int
    cost: Cost


@dataclass(frozen=True)
class PostReplayPlan:
    """What a replay would send and what it may cost at most."""

    one: Input
    force: bool
    media: Sequence[MediumPlan] = field(default_factory=list)

    @property
    def cost(self) -> Cost:
        return sum((medium.cost for medium in self.media), Cost())

    @property
    def paid_again(self) -> int:
        """Pictures that were paid for before and may be paid for again."""
        return sum(medium.effect == "paid_again" for medium in self.media)


async def plan_replay(prices: Prices, row: Row, *, force: bool) -> PostReplayPlan:
    """The plan for the post of a row. Raises OperationError if the row does not hold its event, and S3's errors."""
    one = _input_of(row)
    known = {str(item.get("sha256")): item for item in (row["data"] or {}).get("media", ())}
    distinct = {medium.sha256: medium for medium in one.event.media_files}
    media = await asyncio.gather(
        *(_planned(prices, one.event.tenant_id, medium, known, force) for medium in distinct.values())
    )
    return PostReplayPlan(one, force, media)


def _input_of(row: Row) -> Input:
    try:
        inputs = from_rows([row]).inputs
    except ValueError as fault:  # the row of another version
        raise OperationError(say(_NO_EVENT)) from fault
    if not inputs:
        raise OperationError(say(_NO_EVENT))
    return inputs[0]


async def _planned(
    prices: Prices, tenant_id: str, medium: Medium, known: Mapping[str, Mapping[str, Any]], force: bool
) -> MediumPlan:
    cost = await prices.one(tenant_id, medium, force)
    before = known.get(medium.sha256, {})
    status, tokens = str(before.get("status") or ""), int(before.get("tokens_billed") or 0)
    paid = tokens > 0 or (status in ANSWERED and before.get("provider") == "gigachat")
    effect: Effect = "free" if cost.cached else "no_object" if cost.gone else "paid_again" if paid else "asked"
    return MediumPlan(medium.sha256, status, effect, tokens, cost)


async def carry_out_replay(
    plan: PostReplayPlan, sender: KafkaSender, replays: PostReplays, operator: str, reason: str | None
) -> str:
    """Send the post's event, then record that. Returns the record's place. Raises KafkaError, asyncpg's errors."""
    place = await send_again(sender, plan.one, plan.force)
    event = plan.one.event
    done = PostReplay(event.tenant_id, event.post_id, plan.force, plan.cost.tokens_at_most, place, operator, reason)
    await replays.record(done)
    return place
