"""One run of the demo from the running stack to the verdict. It prints nothing itself; `Board` does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from vision_app.operations import neighbours
from vision_app.operations.backlog import await_idle
from vision_app.settings import Settings
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home

from . import crash
from .checks import Check, judge
from .crash import Killed
from .evidence import Findings, collect_accounts, collect_posts
from .plan import PlannedPost
from .progress import Board, follow
from .publish import publish_posts, upload_pictures
from .services import DemoServices, connected

LOOKING_SECONDS = 30.0  # after the deadline, to find out which posts hang


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `hanging`: posts that were not announced in time, each with what it waits for."""

    api_url: str
    findings: Findings
    checks: Sequence[Check]
    hanging: Sequence[str]

    @property
    def ok(self) -> bool:
        return not self.hanging and all(check.ok for check in self.checks)


async def run(
    settings: Settings,
    home: Home,
    api_url: str,
    posts: Sequence[PlannedPost],
    board: Board,
    *,
    deadline_seconds: float,
    kill_worker: bool = False,
) -> Outcome:
    """Send the posts, wait until all are done, collect and check the results.

    Raises StackError, WorkerAway, and the errors of the stores when one of them is away.
    """
    async with connected(settings, api_url) as services:
        media = await upload_pictures(services.s3, posts)
        since = await neighbours.newest_announcement(services.redis, settings)
        async with AsyncExitStack() as stack:
            if kill_worker:
                await stack.enter_async_context(_simulator(services).slow_answers(crash.SLOW_SECONDS, crash.SLOW_CALLS))
            started = time.monotonic()
            deadline = started + deadline_seconds
            sent = await publish_posts(services.redis, settings, posts, media)
            killed = await _follow(services, home, sent, since, deadline, board, kill_worker)
        hanging = [
            f"{post.name} ({post.tenant_id}/{post.post_id}): {board.state(post.post_id)}" for post in board.waiting()
        ]
        seconds = time.monotonic() - started
        backlog = await await_idle(services.redis, settings, deadline)
        patience = max(deadline, time.monotonic() + LOOKING_SECONDS)
        findings = Findings(
            posts=await collect_posts(services, sent, since, patience),
            accounts=await collect_accounts(services, posts, patience),
            backlog=backlog,
            simulated=settings.gigachat_simulated,
            seconds=seconds,
            killed=killed.worker if killed else None,
            killed_restarts=await crash.restarts_since(home, killed, patience) if killed else 0,
        )
    return Outcome(api_url, findings, judge(findings), hanging)


async def _follow(
    services: DemoServices,
    home: Home,
    sent: Sequence[Any],
    since: str,
    deadline: float,
    board: Board,
    kill_worker: bool,
) -> Killed | None:
    first = asyncio.Event()
    following = follow(services, sent, since, deadline, board, first)
    if not kill_worker:
        await following
        return None
    killing = crash.kill_in_flight(home, _simulator(services), first, deadline)
    _, killed = await asyncio.gather(following, killing)
    return killed


def _simulator(services: DemoServices) -> Any:
    if services.simulator is None:
        raise StackError("--kill-worker needs the simulator: with the real GigaChat it would pay for nothing")
    return services.simulator
