"""Runs the checks behind /api/v1/health in this worker: at most once at a time, kept for a few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog
from pydantic import BaseModel, Field

from vision_app.operations.doctor import operation as doctor_findings
from vision_app.settings import Settings
from vision_app.stack.checks import Finding, Level, check_service, given_settings, tesseract
from vision_app.stack.reachable import PROBES
from vision_app.telemetry import metrics
from vision_app.telemetry.alert_rules import AlertState

from .models import Answer

log = structlog.get_logger(__name__)

KEPT_SECONDS = 5.0
CHECK_SECONDS = 11.0
"""For each service, and for what the doctor looks at afterwards. Its own checks end within 10 s."""


class ServiceHealth(BaseModel):
    service: str
    state: Level = Field(description="ok; hint: usable, and something is to be done; failed")
    detail: str = Field(description="what it answers, or what is wrong and what to do")
    latency_ms: float = Field(description="of the whole check, connecting included")


class Alert(BaseModel):
    """An alert rule of deploy/prometheus/alerts.yml, decided from this worker's own metrics of the last hour."""

    name: str
    severity: str = Field(
        description="critical: posts are not worked on, or something may be lost; warning: look today"
    )
    state: AlertState = Field(
        description="firing; pending: its condition holds, but not for long enough; quiet; undecided: see about"
    )
    since: datetime | None = Field(description="from when on its condition has held")
    about: list[str] = Field(description="what is wrong, once per tenant, stage, …; why it is undecided")
    runbook: str = Field(description="the commands to begin with")
    expression: str = Field(description="its condition in PromQL")


class HealthAnswer(Answer):
    """The services, the findings about workers, policy, settings, dead letters and the bucket, and the alerts."""

    worst: Level = Field(description="the worst of all states; a firing alert counts as failed or, a warning, as hint")
    checked_at: datetime
    services: list[ServiceHealth]
    findings: list[Finding]
    alerts: list[Alert] = Field(
        default_factory=list, description="of all rules: firing ones first, undecided ones last"
    )


Check = Callable[[], Awaitable[HealthAnswer]]


class HealthChecks:
    """Runs the checks, once at a time. `check` makes a report; `clock`: seconds that never go back."""

    def __init__(
        self, check: Callable[[], Awaitable[HealthAnswer]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._check, self._clock = check, clock
        self._lock = asyncio.Lock()
        self._last: HealthAnswer | None = None
        self._fresh_until = float("-inf")

    async def report(self) -> HealthAnswer:
        async with self._lock:
            if self._last is not None and self._clock() < self._fresh_until:
                return self._last
            found = self._last = await self._check()
            self._fresh_until = self._clock() + KEPT_SECONDS
            return found


def checks_of(settings: Settings, waiting_letters: Callable[[], Awaitable[int]]) -> HealthChecks:
    """The checks of a worker with these settings. `waiting_letters` counts the dead letters without a decision."""

    async def check() -> HealthAnswer:
        unused = {"simulator", *([] if settings.feature_neo4j_enabled else ["neo4j"])}  # gigachat probes both providers
        names = [name for name in PROBES if name not in unused]
        services = await asyncio.gather(*(_service(name, settings) for name in names))
        up = {one.service: one.state is not Level.FAILED for one in services}

        async def ocr() -> list[Finding]:
            return [await asyncio.to_thread(tesseract, settings.vision_ocr_languages)]

        groups = await asyncio.gather(
            _bounded("doctor", doctor_findings(settings, up, waiting_letters)), _bounded("tesseract", ocr())
        )
        found = [*given_settings(settings), *(finding for group in groups for finding in group)]
        states = {one.state for one in services} | {one.verdict for one in found}
        worst = next(level for level in (Level.FAILED, Level.HINT, Level.OK) if level in states)
        return HealthAnswer(worst=worst, checked_at=datetime.now(UTC), services=list(services), findings=found)

    return HealthChecks(check)


async def _service(name: str, settings: Settings) -> ServiceHealth:
    async def probe() -> list[Finding]:
        return [await check_service(name, PROBES[name], settings)]

    began = time.monotonic()
    (finding,) = await _bounded(name, probe())
    latency = round((time.monotonic() - began) * 1000, 1)
    return ServiceHealth(service=name, state=finding.verdict, detail=finding.detail, latency_ms=latency)


async def _bounded(name: str, checks: Awaitable[list[Finding]], seconds: float = CHECK_SECONDS) -> list[Finding]:
    """The findings; one that says so if they do not come in time or the check itself fails. Never raises."""
    try:
        async with asyncio.timeout(seconds):
            return await checks
    except TimeoutError:
        text = f"could not be seen within {seconds:.0f} s; the services' findings say what is wrong"
    except Exception as fault:
        metrics.UNEXPECTED_ERRORS.labels(where="web").inc()
        log.exception("health_check_failed", check=name)
        text = f"the check itself failed ({type(fault).__name__}); the log of this worker has the reason"
    return [Finding(check=name, verdict=Level.FAILED, detail=text)]
