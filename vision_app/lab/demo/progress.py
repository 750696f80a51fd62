"""Shows where each post is during a run: a table that changes in place, or lines without a terminal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from vision_app.operations import neighbours
from vision_app.operations.neighbours import Announced

from .evidence import api_path
from .plan import PlannedPost
from .publish import Published
from .services import DemoServices

POLL_SECONDS = 0.5
WAITING = "published"
NO_WORKER = "no worker answers; it is being started again"


class Board:
    """The last known state of every post. `on_change` is called after each change, with a line about it or ""."""

    def __init__(self, posts: Sequence[PlannedPost], on_change: Callable[[str], None] = lambda _: None) -> None:
        self._posts = posts
        self._states = dict.fromkeys((post.post_id for post in posts), WAITING)
        self._done: dict[str, str] = {}
        self._started = time.monotonic()
        self._worker_answers = True
        self.on_change = on_change

    def announced(self, event: Announced) -> None:
        seconds = time.monotonic() - self._started
        again = " AGAIN" if event.post_id in self._done else ""
        self._done[event.post_id] = f"announced{again} after {seconds:.1f} s: {event.event_type}"
        self.on_change(f"{self._name(event.post_id)}: {self._done[event.post_id]}")

    def live(self, post_id: str, state: str) -> None:
        self._states[post_id] = state
        self.on_change("")

    def worker_answers(self, answers: bool) -> None:
        if answers != self._worker_answers:
            self._worker_answers = answers
            self.on_change("the worker answers again" if answers else NO_WORKER)

    def waiting(self) -> list[PlannedPost]:
        return [post for post in self._posts if post.post_id not in self._done]

    def state(self, post_id: str) -> str:
        return self._done.get(post_id) or self._states[post_id]

    def table(self) -> Table:
        seconds = time.monotonic() - self._started
        title = f"{len(self._done)} of {len(self._posts)} posts announced, {seconds:.0f} s"
        if not self._worker_answers:
            title += f"; {NO_WORKER}"
        table = Table(box=None, title=title, title_justify="left", show_header=False, pad_edge=False)
        for post in self._posts:
            style = "green" if post.post_id in self._done else "yellow"
            table.add_row(post.name, post.tenant_id, f"[{style}]{self.state(post.post_id)}[/]")
        return table

    def _name(self, post_id: str) -> str:
        return next(post.name for post in self._posts if post.post_id == post_id)


async def follow(
    services: DemoServices, sent: Sequence[Published], since: str, deadline: float, board: Board, first: asyncio.Event
) -> dict[str, Announced]:
    """Wait for the announcements, keeping `board` up to date. Sets `first` at the first one."""

    def on_event(event: Announced) -> None:
        board.announced(event)
        first.set()

    polling = asyncio.create_task(_poll(services, board))
    try:
        ids = {published.post.post_id for published in sent}
        return await neighbours.await_announcements(
            services.redis, services.settings, ids, since, deadline, on_event=on_event
        )
    finally:
        polling.cancel()
        await asyncio.wait([polling])


async def _poll(services: DemoServices, board: Board) -> None:
    while True:
        for post in board.waiting():
            answer = await services.api.once(api_path(post))
            board.worker_answers(answer is not None)
            if answer is None:
                break
            board.live(post.post_id, live_text(*answer))
        await asyncio.sleep(POLL_SECONDS)


def live_text(status: int, body: Mapping[str, Any]) -> str:
    """An answer of the API about a post, in a few words."""
    if status == 404:
        return WAITING
    if status == 202:
        media = body.get("media", [])
        waiting = [str(number) for number, medium in enumerate(media, start=1) if medium["status"] == "in_work"]
        return f"in work: waits for medium {', '.join(waiting)} of {len(media)}" if waiting else "in work: complete"
    if status == 200:
        return f"row written: {body.get('status')}"
    return "the worker is busy starting" if status == 503 else f"the API answers {status}"
