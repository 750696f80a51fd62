"""The provider's gate, where tasks wait, un-acknowledged, while the provider is down, busy or the account is blocked.

It has two separate parts: a breaker (closed, open, half_open) against outages, and a pause after a 429, which shows
that the provider works. A task that passes also holds one of the account's slots (`slots.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import structlog

from vision_app.providers.base import AccountBlocked, CallLost, ProviderError, ProviderOutage, RateLimited
from vision_app.providers.slots import Slots
from vision_app.settings import Settings
from vision_app.telemetry import metrics
from vision_app.telemetry.watch import waiting_for

log = structlog.get_logger(__name__)

State = Literal["closed", "open", "half_open", "paused", "blocked"]

NAME = "gigachat"
PASSING_SECONDS = 90.0
"""A slot is free after the provider's deadline at the latest. If no task passes for longer, it is a stall."""
MAX_DOUBLINGS = 16  # of the pause between probes, which has its own limit


@dataclass(frozen=True)
class GateTimes:
    """Seconds the gate stays shut, by reason."""

    recovery: float
    longest: float = 600.0  # a probe that is cut off costs an estimate; each in a row doubles the pause up to this
    blocked: float = 60.0  # a person has to correct a refused account; one probe a minute costs nothing
    pauses: tuple[float, ...] = (10.0, 20.0, 40.0, 60.0)  # the n-th 429 in a row; the provider sends no Retry-After


@dataclass(frozen=True)
class GateState:
    """What the gate does and why, for readiness and the operator. A closed breaker lets all tasks through."""

    state: State
    reason: str
    since: datetime


class Gate:
    """One per worker and provider account. Waiters pass first come, first served."""

    def __init__(self, settings: Settings, slots: Slots, times: GateTimes | None = None) -> None:
        self._slots = slots
        self._threshold = settings.gigachat_circuit_breaker_failure_threshold
        self._times = times or GateTimes(recovery=settings.gigachat_circuit_breaker_recovery_timeout)
        self._turnstile = asyncio.Lock()  # asyncio's locks are fair; only the head of the queue watches the gate
        self._changed = asyncio.Event()
        self._outages = 0  # in a row
        self._charged_probes = 0  # in a row
        self._refusals = 0  # pauses in a row
        self._passed_at = time.monotonic()  # when a task last passed
        self._shut_until: float | None = None  # open or blocked; None: closed
        self._blocked = False
        self._paused_until = 0.0
        self._probe: object | None = None
        self._why, self._since = "", datetime.now(UTC)
        self._shown: State | None = None
        self._show()

    @property
    def state(self) -> GateState:
        return GateState(self._state(), self._why, self._since)

    def is_picture_at_fault(self, calls: int) -> bool:
        """Whether a picture is the cause when all its `calls` calls were cut off.

        False while the breaker is open, or when more calls in a row failed than its own: then others fail, too.
        """
        return self._shut_until is None and self._outages <= calls

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for the gate and for a slot, then hold the slot for the length of the block.

        Inside the block, pass the outcome of every provider call to `report`.
        """
        ticket = object()
        with metrics.PROVIDER_WAITING.track_inprogress():
            with waiting_for(NAME, self._waits_for_provider):
                lease = await self._wait(ticket)
            self._passed_at = time.monotonic()
        try:
            yield
        finally:
            if self._probe is ticket:  # the probe ended without an outcome: let the next task be the probe
                self._probe = None
                self._publish_state()
            await asyncio.shield(self._slots.release(lease))

    def _waits_for_provider(self) -> bool:
        """Whether a wait at the gate is for the provider: it is away, or earlier calls are still running."""
        return self._state() != "closed" or time.monotonic() - self._passed_at < PASSING_SECONDS

    def report(self, outcome: ProviderError | None) -> None:
        """Report how a call ended; None for an answer or a fault of the picture. A lost call counts as an outage."""
        match outcome:
            case RateLimited():
                self._rate_limited(outcome)
            case AccountBlocked():
                self._shut(str(outcome), self._times.blocked, blocked=True)
            case ProviderOutage() | CallLost():
                self._outage(str(outcome), charged=isinstance(outcome, CallLost))
            case _:
                self._record_success()
        self._publish_state()

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def _wait(self, ticket: object) -> str:
        entering = asyncio.create_task(self._enter(ticket), name="gate-wait")
        try:
            return await asyncio.shield(entering)
        except BaseException:
            await asyncio.shield(self._cancel_wait(entering, ticket))
            raise

    async def _cancel_wait(self, entering: asyncio.Task[str], ticket: object) -> None:
        entering.cancel()
        await asyncio.wait({entering})
        if self._probe is ticket:
            self._probe = None
            self._publish_state()
        if not entering.cancelled() and entering.exception() is None:
            await self._slots.release(entering.result())

    async def _enter(self, ticket: object) -> str:
        async with self._turnstile:
            while True:
                await self._wait_until_passable()
                lease = await self._slots.acquire()
                if self._delay() == 0:  # the gate may have shut while we waited for the slot
                    break
                await self._slots.release(lease)
            if self._shut_until is not None:
                self._probe = ticket
                self._show()
            return lease

    async def _wait_until_passable(self) -> None:
        while (delay := self._delay()) != 0:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):  # not wait_for: Python 3.11's may swallow a cancellation
                    await self._changed.wait()

    def _delay(self) -> float | None:
        """Seconds until the next task may pass; None: until something changes."""
        now = time.monotonic()
        if self._shut_until is None:
            return max(0.0, self._paused_until - now)
        if now < self._shut_until:
            return self._shut_until - now
        return 0 if self._probe is None else None

    # --- outcomes -----------------------------------------------------------------------------------------------------

    def _record_success(self) -> None:
        self._outages = 0
        if time.monotonic() >= self._paused_until:
            self._refusals = 0
        self._reopen()

    def _rate_limited(self, fault: RateLimited) -> None:
        self._outages = 0  # the provider answers, so it is not down
        self._reopen()
        now = time.monotonic()
        pause = fault.retry_after_seconds
        if pause is None:
            if now < self._paused_until:
                return  # refusals of calls that were in flight together count as one
            pause = self._times.pauses[min(self._refusals, len(self._times.pauses) - 1)]
            self._refusals += 1
        self._paused_until = max(self._paused_until, now + pause)
        self._set_reason(str(fault))
        log.warning("gate_paused", seconds=round(self._paused_until - now, 1), reason=str(fault))

    def _outage(self, reason: str, *, charged: bool) -> None:
        self._outages += 1
        if self._shut_until is None and self._outages >= self._threshold:
            self._shut(reason, self._times.recovery, blocked=False)
        elif self._shut_until is not None and time.monotonic() >= self._shut_until:
            self._charged_probes = min(self._charged_probes + charged, MAX_DOUBLINGS)
            longest = max(self._times.longest, self._times.recovery)
            self._shut(reason, min(self._times.recovery * 2**self._charged_probes, longest), blocked=False)

    def _shut(self, reason: str, seconds: float, *, blocked: bool) -> None:
        self._shut_until = time.monotonic() + seconds
        self._blocked = blocked
        self._probe = None
        self._set_reason(reason)
        then = "one task is let through as a probe"
        if blocked:
            log.warning("gate_blocked", seconds=seconds, reason=reason, then=then)
        else:
            log.warning("gate_opened", seconds=seconds, reason=reason, then=then)

    def _reopen(self) -> None:
        if self._shut_until is None:
            return
        self._shut_until, self._blocked, self._probe, self._charged_probes = None, False, None, 0
        self._set_reason("")
        log.info("gate_closed", reason="the provider answers again")

    # --- showing ------------------------------------------------------------------------------------------------------

    def _state(self) -> State:
        if self._shut_until is not None:
            if self._probe is not None:
                return "half_open"
            return "blocked" if self._blocked else "open"
        return "paused" if time.monotonic() < self._paused_until else "closed"

    def _set_reason(self, reason: str) -> None:
        self._why, self._since = reason, datetime.now(UTC)

    def _publish_state(self) -> None:
        self._changed.set()
        self._show()

    def _show(self) -> None:
        """The metrics have three states: during a pause the breaker is closed, for a blocked account it is open."""
        state = self._state()
        shown: State = "open" if state == "blocked" else "closed" if state == "paused" else state
        if shown == self._shown:
            return
        for name in ("closed", "half_open", "open"):
            metrics.BREAKER_STATE.labels(NAME, name).set(name == shown)
        if self._shown is not None:
            metrics.BREAKER_TRANSITIONS.labels(NAME, shown).inc()
        self._shown = shown
