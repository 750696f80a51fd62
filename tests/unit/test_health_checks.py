"""The checks behind the page of health: once at a time, kept for a few seconds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from vision_app.stack.checks import Finding, Level
from vision_app.telemetry.alert_rules import AlertNow, AlertState, Rule
from vision_app.web import health_checks
from vision_app.web.auth import ALL_TENANTS, TENANT
from vision_app.web.health_checks import KEPT_SECONDS, HealthAnswer, HealthChecks
from vision_app.web.health_report import health_report


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


async def test_a_firing_alert_is_part_of_the_worst_state_and_comes_first() -> None:
    rules = [rule("W", "warning"), rule("C", "critical")]
    cases: list[tuple[tuple[AlertState, AlertState], Level]] = [
        (("quiet", "quiet"), Level.OK),
        (("pending", "pending"), Level.OK),
        (("firing", "quiet"), Level.HINT),
        (("quiet", "firing"), Level.FAILED),
        (("firing", "firing"), Level.FAILED),
    ]
    for states, worst in cases:
        alerts = [AlertNow(one, state, 60.0) for one, state in zip(rules, states, strict=True)]
        app: Any = SimpleNamespace(health_checks=HealthChecks(Checked()), alerts=SimpleNamespace(now=alerts))
        report = await health_report(app, {TENANT: ALL_TENANTS})  # type: ignore[arg-type]  # as much of a request as it uses
        assert report.worst is worst
        urgent = sorted(range(2), key=lambda place: (states[place] != "firing", rules[place].severity != "critical"))
        assert [one.name for one in report.alerts] == [rules[place].name for place in urgent]


def rule(name: str, severity: str) -> Rule:
    return Rule(name, severity, "x > 0", 0, "summary", "runbook", None, "")
