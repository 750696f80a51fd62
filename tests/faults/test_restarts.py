"""The broker and every other service is killed and started again by the supervisor, then the supervisor itself is
killed with all it runs, while posts arrive; started again, everything goes on, and nothing is missing or doubled.

RESTART_POSTS (300), RESTART_SECONDS (180): so many posts in so many seconds. `make faults` runs it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from dotenv import dotenv_values
from redis.asyncio import Redis

from vision_app.audit import take_account
from vision_app.lab.soak.chaos import SLOW_ANSWERS
from vision_app.lab.soak.history import keep_ledger_history
from vision_app.lab.soak.operator import Operator
from vision_app.lab.soak.plan import draw
from vision_app.lab.soak.run import POOR_TOKENS, RICH_TOKENS, worker_environment
from vision_app.lab.soak.traffic import Clock, publish_all, upload_all
from vision_app.settings import load_settings
from vision_app.stack import client
from vision_app.stack.home import Home
from vision_app.stack.plan import StackOptions
from vision_app.stack.state import Condition, ServiceState
from vision_app.stores.s3 import S3Store

POSTS = int(os.environ.get("RESTART_POSTS", "300"))
SECONDS = float(os.environ.get("RESTART_SECONDS", "180"))
KILLED = ("kafka", "redis", "postgres", "s3", "neo4j", "simulator", "kafka")
BACK_SECONDS = 120.0
PATIENCE_SECONDS = 600.0

pytestmark = [pytest.mark.load, pytest.mark.timeout(3600)]


class Stack:
    """A supervisor of our own with all services and two workers."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._supervisor: client.Supervisor | None = None

    async def start(self) -> float:
        """Start everything, or start it again. Returns the seconds until all of it was ready."""
        started = time.monotonic()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VISION_")}
        environment |= {"VISION_API_PORT": "0", "METRICS_PORT": "0", **worker_environment(self.home.root)}
        self._supervisor = client.start(self.home, StackOptions(workers=2), environment, folder=self.home.root)
        await asyncio.to_thread(client.wait_ready, self.home, self._supervisor)
        return time.monotonic() - started

    def variables(self) -> Mapping[str, str]:
        return {name: value or "" for name, value in dotenv_values(self.home.env).items()}

    def service(self, name: str) -> ServiceState:
        state = client.live_state(self.home)
        assert state is not None, "the supervisor has ended"
        return state.service(name)

    def workers(self) -> list[str]:
        return [self.service(f"worker-{number}").url for number in (1, 2)]

    async def kill(self, name: str) -> float:
        """SIGKILL a service. Returns the seconds until the supervisor has it ready again."""
        before, started = self.service(name), time.monotonic()
        assert before.process is not None
        os.kill(before.process.pid, signal.SIGKILL)
        while (now := self.service(name)).restarts == before.restarts or now.condition is not Condition.READY:
            assert time.monotonic() - started < BACK_SECONDS, f"{name} does not come back; see {now.log}"
            await asyncio.sleep(0.2)
        return time.monotonic() - started

    async def kill_supervisor(self) -> None:
        """SIGKILL the supervisor; what it ran ends with it (on Linux at once, elsewhere at the next start)."""
        assert self._supervisor is not None
        children = psutil.Process(self._supervisor.process.pid).children(recursive=True)
        self._supervisor.process.kill()
        self._supervisor.process.wait()
        await asyncio.to_thread(psutil.wait_procs, children, BACK_SECONDS)

    def stop(self) -> None:
        client.stop(self.home)
        if self._supervisor is not None:
            self._supervisor.process.wait()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(Home(tmp_path))
    yield stack
    stack.stop()


async def test_services_and_supervisor_are_killed_under_load(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    def tell(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    tell(f"\nfirst start: {await stack.start():.0f} s")
    settings = load_settings(**{name.lower(): value for name, value in stack.variables().items()})
    run = f"restarts-{int(time.time())}"
    plan = draw(1, run, posts=POSTS, workers=2, signals={}, services=(), faults=("down",), outage_seconds=0)
    operator, started_ms = Operator(settings, stack.workers()), int(time.time() * 1000)
    s3 = S3Store(settings)
    await s3.open()
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        await keep_ledger_history(settings)
        await operator.limit(plan.poor, POOR_TOKENS)
        await operator.provider_rules([SLOW_ANSWERS])
        media = await upload_all(s3, plan.posts, seed=1)
        publishing = asyncio.create_task(publish_all(redis, settings, plan.posts, media, Clock(SECONDS)))
        for name in KILLED:
            await asyncio.sleep(SECONDS / (len(KILLED) + 2))
            tell(f"{name}: ready {await stack.kill(name):.1f} s after its SIGKILL")
        await stack.kill_supervisor()
        tell(f"supervisor: all ready {await stack.start():.0f} s after it was started again")
        await publishing
        await operator.provider_rules([SLOW_ANSWERS])
        await operator.limit(plan.poor, RICH_TOKENS)
        left = await operator.worked_off(redis, plan.tenants, time.monotonic() + PATIENCE_SECONDS)
        account = await take_account(settings, since_ms=started_ms)
    await s3.close()
    tell(str(account.as_dict()))
    assert left == ""
    assert account.discrepancies == []
    assert account.inputs == account.ended >= POSTS
