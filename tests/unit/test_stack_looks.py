"""The supervisor's looks at a service that was ready: one that fails is no answer, and is not the last one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.services import Service
from vision_app.stack.state import Condition
from vision_app.stack.supervised import Supervised


class Looked(Service):
    """A service; looking at it raises `fault`."""

    name = "redis"
    fault: Exception | None = None

    def command(self) -> list[str]:
        return ["/bin/true"]

    async def waiting_for(self) -> str | None:
        if self.fault is not None:
            raise self.fault
        return None


class LookedWorker(Looked):
    name = "worker-1"
    is_worker = True
    no_answer = "an answer"


@pytest.mark.parametrize("kind", [Looked, LookedWorker])
async def test_a_look_that_fails_is_no_answer_and_the_next_one_counts_again(tmp_path: Path, kind: type[Looked]) -> None:
    """Its files were gone for a moment, or there were too many open ones. `ready` must not stay for ever."""
    home = Home(tmp_path)
    service = kind(home, Instance.load(home))
    watched = Supervised(service, asyncio.Event())
    watched.look_seconds = 0
    watched._became_ready()
    service.fault = FileNotFoundError(2, "No such file or directory")
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            await watched._look_again()
    assert watched.state.condition is Condition.NOT_ANSWERING
    assert "No such file" in watched.state.detail
    assert [line["event"] for line in lines].count("service_look_failed") == 1, "the same fault is logged once"
    service.fault = None
    await watched._look_again()
    assert (watched.state.condition, watched.state.detail) == (Condition.READY, "")
