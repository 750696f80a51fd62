"""Posts of a few tenants at a steady pace, and what became of them. Its own connections go past the proxies.

Every post has one picture that was never seen before, so each is one paid call.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from tests.integration.pipeline import Pipeline, picture
from vision_app.operations.neighbours import Announced


@dataclass(frozen=True)
class Published:
    """`at_ms`: when Redis took it."""

    tenant: str
    post: str
    at_ms: int


@dataclass
class Load:
    """`per_second` posts, the tenants in turn; `tenants` may grow while it runs."""

    pipe: Pipeline
    tag: str
    tenants: list[str]
    per_second: float
    since: str
    since_ms: int = field(default_factory=lambda: round(time.time() * 1000))
    published: list[Published] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        publishing = asyncio.create_task(self._publish_for_ever())
        try:
            yield
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    async def _publish_for_ever(self) -> None:
        clock = asyncio.get_running_loop()
        due = clock.time()
        while True:
            due = max(due + 1 / self.per_second, clock.time())
            await asyncio.shield(self.publish(self.tenants[len(self.published) % len(self.tenants)]))
            await asyncio.sleep(due - clock.time())

    async def publish(self, tenant: str) -> None:
        post = f"{self.tag}-{len(self.published):05}"
        entry = await self.pipe.publish(tenant, post, [await self.pipe.upload(tenant, picture())])
        self.published.append(Published(tenant, post, int(entry.partition("-")[0])))

    async def events(self) -> dict[str, list[Announced]]:
        return await self.pipe.all_announced([each.post for each in self.published], self.since)

    async def announced(self, posts: Sequence[Published], seconds: float) -> bool:
        """Whether all of these are announced within the time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    events = await self.events()
                    if all(events[each.post] for each in posts):
                        return True
                    await asyncio.sleep(0.1)
        return False

    def waits(self, events: dict[str, list[Announced]], posts: Sequence[Published]) -> list[int]:
        """Milliseconds from publishing to the first event, of those that have one."""
        return [events[each.post][0].at_ms - each.at_ms for each in posts if events[each.post]]
