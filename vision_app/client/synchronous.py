"""The client for programs without asyncio: the same methods, each waiting for its result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from vision_app.events.public import AnalyzedEvent, SkippedEvent
from vision_app.messages import Medium
from vision_app.settings import Settings
from vision_app.web.models import LivePostAnswer, PostAnswer
from vision_app.web.post_models import ListedPost

from .asynchronous import AsyncVision, Picture, Published

Result = TypeVar("Result")


class Vision:
    """`with Vision("tenant") as vision:`. As `AsyncVision`; an event loop of its own runs in a thread.

    May be used by several threads at once.
    """

    def __init__(
        self, tenant_id: str, *, settings: Settings | None = None, api_url: str | None = None, token: str = ""
    ) -> None:
        self._client = AsyncVision(tenant_id, settings=settings, api_url=api_url, token=token)
        self._thread: threading.Thread | None = None  # None while the client is not open

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vision-client", daemon=True)
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._run(self._client.__aexit__())
        finally:
            self._end()

    def upload(self, picture: Path | bytes, mime_type: str | None = None) -> Medium:
        """See `AsyncVision.upload`."""
        return self._run(self._client.upload(picture, mime_type))

    def publish(
        self, post_id: str, pictures: Sequence[Picture], *, channel_id: str = "", trace_id: str = ""
    ) -> Published:
        """See `AsyncVision.publish`."""
        return self._run(self._client.publish(post_id, pictures, channel_id=channel_id, trace_id=trace_id))

    def wait(self, post: Published, seconds: float = 60.0) -> AnalyzedEvent | SkippedEvent:
        """See `AsyncVision.wait`."""
        return self._run(self._client.wait(post, seconds))

    def read(self, post_id: str) -> PostAnswer | LivePostAnswer:
        """See `AsyncVision.read`."""
        return self._run(self._client.read(post_id))

    def search(self, **filters: str) -> Iterator[ListedPost]:
        """See `AsyncVision.search`."""
        posts = self._client.search(**filters)
        while True:
            try:
                yield self._run(_next(posts))
            except StopAsyncIteration:
                return

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._thread is None:
            work.close()
            raise RuntimeError("the client is not open; use it in `with Vision(…) as vision:`")
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()  # after Ctrl-C the work would go on in the thread
            raise

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._loop.close()


async def _next(posts: AsyncIterator[ListedPost]) -> ListedPost:
    return await anext(posts)
