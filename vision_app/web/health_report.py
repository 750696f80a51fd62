"""GET /api/v1/health: every dependency with its answer and latency, what `vision doctor` finds, and the alerts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

from aiohttp import web

from vision_app.stack.checks import Level
from vision_app.telemetry.alert_rules import AlertNow, AlertState

from .auth import operator_for
from .errors import json_response
from .health_checks import Alert, HealthAnswer
from .operation import operation
from .page import Page
from .worker import ServedWorker

STATES: tuple[AlertState, ...] = get_args(AlertState)
"""The most urgent first."""
_LEVELS = {"critical": Level.FAILED, "warning": Level.HINT}
ANSWER_SECONDS = 25.0
"""Each check ends within 10 s; those about dead letters and the bucket come after those of the services."""


class HealthView(Page):
    """GET /api/v1/health: what is wrong and what to do, as this worker sees it. Needs a token for all tenants.

    `alerts` are the rules of Prometheus, decided from this worker's metrics alone: another worker may say otherwise,
    and rules about other programs are undecided here.
    """

    @operation(
        "Every dependency, the doctor's findings, and the alerts that fire",
        answers={200: HealthAnswer},
        errors=(403,),
        seconds=ANSWER_SECONDS,
    )
    async def get(self, request: web.Request) -> web.Response:
        return json_response(request, await health_report(self.app, request))


async def health_report(app: ServedWorker, request: web.Request) -> HealthAnswer:
    """The report, a few seconds old at most. Raises ApiError 403 for a tenant's token."""
    operator_for(request)
    report = await app.health_checks.report()
    alerts = sorted((_alert(one) for one in app.alerts.now), key=_urgency)
    found = {_LEVELS[one.severity] for one in alerts if one.state == "firing"}
    worst = next((level for level in (Level.FAILED, Level.HINT) if level in {report.worst, *found}), report.worst)
    return report.model_copy(update={"alerts": alerts, "worst": worst})


def _alert(one: AlertNow) -> Alert:
    return Alert(
        name=one.rule.name,
        severity=one.rule.severity,
        state=one.state,
        since=None if one.since is None else datetime.fromtimestamp(one.since, UTC),
        about=list(one.about),
        runbook=one.rule.runbook,
        expression=one.rule.expression,
    )


def _urgency(one: Alert) -> tuple[int, bool]:
    return STATES.index(one.state), one.severity != "critical"
