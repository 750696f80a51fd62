"""What asking again may cost: an upper bound in tokens, computed as in the worker's preflight."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from vision_app.messages import Medium
from vision_app.providers.pictures import estimate_tokens
from vision_app.settings import Settings
from vision_app.stores.answers import AnswerStore
from vision_app.stores.s3 import ObjectForbidden, ObjectMissing, S3Store
from vision_app.texts import say

AT_ONCE = 16


@dataclass(frozen=True)
class Cost:
    """Counts distinct media by the result of asking about them. `tokens_at_most` bounds the total cost of `asked`."""

    cached: int = 0  # answered already: free
    gone: int = 0  # the object is gone: skipped, free
    asked: int = 0
    tokens_at_most: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.cached + other.cached,
            self.gone + other.gone,
            self.asked + other.asked,
            self.tokens_at_most + other.tokens_at_most,
        )

    def __str__(self) -> str:
        return say(
            "at most {tokens_at_most} tokens: {asked} media to be asked about, {cached} with an answer "
            "already (free), {gone} without an object (skipped, free)",
            tokens_at_most=self.tokens_at_most,
            asked=self.asked,
            cached=self.cached,
            gone=self.gone,
        )


class Prices:
    """Bounds costs by looking into S3. Raises StoreUnavailable."""

    def __init__(self, settings: Settings, s3: S3Store) -> None:
        self._settings, self._s3 = settings, s3
        self._answers = AnswerStore(s3, settings.gigachat_vision_model)
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def of(self, media: Iterable[tuple[str, Medium, bool]]) -> Cost:
        """The cost of media given as (tenant, medium, force); each picture of a tenant counts once."""
        distinct = {(tenant, medium.sha256): (medium, force) for tenant, medium, force in media}
        costs = await asyncio.gather(*(self.one(tenant, *asked) for (tenant, _), asked in distinct.items()))
        return sum(costs, Cost())

    async def one(self, tenant_id: str, medium: Medium, force: bool) -> Cost:
        """The cost of one medium."""
        async with self._slots:
            stored = await self._answers.find(tenant_id, medium.sha256, "gigachat", only_good=force)
            if stored is not None:
                return Cost(cached=1)
            try:
                head = await self._s3.head(medium.s3_key)
            except (ObjectMissing, ObjectForbidden):
                return Cost(gone=1)
        return Cost(asked=1, tokens_at_most=estimate_tokens(head.size_bytes, medium.mime_type, self._settings))
