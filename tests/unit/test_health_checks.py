"""The checks behind the page of health: once at a time, kept for a few seconds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from vision_app.stack.checks import Finding, Level
from vision_app.web import health_checks
from vision_app.web.health_checks import KEPT_SECONDS, HealthAnswer, HealthChecks


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Checked:
    """Counts the runs, and how many there are at one time."""

    def __init__(self) -> None:
        self.runs = self.at_once = self.most_at_once = 0

    async def __call__(self) -> HealthAnswer:
        self.runs += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return HealthAnswer(worst=Level.OK, checked_at=datetime.now(UTC), services=[], findings=[])


async def test_many_who_ask_at_once_cost_one_run() -> None:
    checked, clock = Checked(), Clock()
    checks = HealthChecks(checked, clock)
    await asyncio.gather(*(checks.report() for _ in range(20)))
    assert (checked.runs, checked.most_at_once) == (1, 1)


async def test_an_old_report_is_made_anew() -> None:
    checked, clock = Checked(), Clock()
    checks = HealthChecks(checked, clock)
    await checks.report()
    clock.now += KEPT_SECONDS / 2
    await checks.report()
    assert checked.runs == 1
    clock.now += KEPT_SECONDS
    await checks.report()
    assert checked.runs == 2


async def test_a_check_that_hangs_or_fails_is_a_finding() -> None:
    async def hangs() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async def fails() -> list[Finding]:
        raise ZeroDivisionError

    for checks, text in ((hangs(), "could not be seen"), (fails(), "ZeroDivisionError")):
        (finding,) = await health_checks._bounded("kafka", checks, 0.01)
        assert (finding.check, finding.verdict) == ("kafka", Level.FAILED)
        assert text in finding.detail
