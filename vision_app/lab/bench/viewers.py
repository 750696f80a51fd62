"""People with the page open while the benchmark runs: each asks for what a browser with that view asks for.

No browser: this measures what open pages cost the worker, not what they cost the person's machine.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

VIEWS = (
    ("/ui", "/ui/flow/part", 3.0),
    ("/ui/health", "/ui/health/part", 15.0),
    ("/ui/posts", "/ui/posts", 20.0),
    ("/ui/tenants", "/ui/tenants", 20.0),
    ("/ui/dead-letters", "/ui/dead-letters", 20.0),
)
"""A view, the part that it asks for again (or a person who reloads it), and after how many seconds."""
TIMEOUT_SECONDS = 30.0


@asynccontextmanager
async def viewers(urls: Sequence[str], count: int) -> AsyncIterator[list[int]]:
    """`count` people, each with one of the views of one of the workers. Yields the statuses of all answers so far."""
    statuses: list[int] = []
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_SECONDS))
        people = [
            asyncio.create_task(_view(http, url, view, statuses))
            for url, view in itertools.islice(zip(itertools.cycle(urls), itertools.cycle(VIEWS), strict=False), count)
        ]
        try:
            yield statuses
        finally:
            for person in people:
                person.cancel()
            await asyncio.gather(*people, return_exceptions=True)


async def _view(http: httpx.AsyncClient, url: str, view: tuple[str, str, float], statuses: list[int]) -> None:
    first, again, every = view
    await asyncio.sleep(random.uniform(0, every))  # noqa: S311 - people do not come all at once
    path = first
    while True:
        try:
            statuses.append((await http.get(f"{url}{path}")).status_code)
        except httpx.HTTPError:
            statuses.append(0)
        path = again
        await asyncio.sleep(every)
