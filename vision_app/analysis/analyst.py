"""Handles a grant until it is closed: reads what is known of its call, and takes the next step.

`vision_app/domain/calls.py` decides the next step. `caller.py` makes the call. `ocr_fallback.py` reads pictures
that the provider does not answer about. During an outage of the provider the task waits at the gate, un-acknowledged. A
fault of the picture ends the task. What the model says is data: it never chooses a tenant, a key, a path or a query.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

import structlog

from vision_app.domain import calls
from vision_app.domain.answer import repair_prompt
from vision_app.domain.calls import Call, CallRecord, Conclude, CutOff, Expired, Step, StoredAnswer, WaitForOther
from vision_app.domain.signatures import flaw_of, key_from
from vision_app.messages import Failed, Grant, Message, Outcome, Skipped
from vision_app.providers.base import AccountBlocked, CallLost, InputFault, Picture, ProviderOutage, VisionProvider
from vision_app.providers.gate import Gate
from vision_app.providers.ocr import Tesseract
from vision_app.providers.pictures import estimate_text_tokens, estimate_tokens
from vision_app.settings import Settings
from vision_app.stores.answers import AnswerStore
from vision_app.streams.faust_seams import Event, Worker
from vision_app.streams.ownership import LeftUnacked
from vision_app.streams.single_flight import SingleFlight
from vision_app.telemetry import metrics, spans
from vision_app.telemetry.watch import waiting_for

from .active_grant import ActiveGrant
from .caller import CallTimes, Overtaken, PaidAnswer, ProviderCaller
from .ocr_fallback import OcrFallback
from .pictures import Pictures
from .results import analyzed_outcome, count_request

log = structlog.get_logger(__name__)

FOREIGN_CALL_MARGIN_SECONDS = 15.0
"""Time to store an answer after the provider's deadline. Later, another worker's call counts as cut off."""


def call_times(settings: Settings) -> CallTimes:
    """The configured times of calls."""
    return CallTimes(deadline=settings.gigachat_vision_timeout + FOREIGN_CALL_MARGIN_SECONDS)


class Analyst:
    """Handles grants. `handle` returns the messages that close one."""

    def __init__(
        self,
        app: Worker,
        settings: Settings,
        answers: AnswerStore,
        pictures: Pictures,
        provider: VisionProvider,
        gate: Gate,
        ocr: Tesseract | None,
        *,
        worker_id: str,
        times: CallTimes,
    ) -> None:
        self._app, self._settings = app, settings
        self._owner = f"{worker_id.replace('/', '-')}/{uuid.uuid4().hex}"
        self._answers, self._pictures, self._gate = answers, pictures, gate
        self._times = times
        simulated = settings.gigachat_simulated
        self._caller = ProviderCaller(
            answers, provider, gate, owner=self._owner, simulated=simulated, times=self._times
        )
        self._ocr = OcrFallback(answers, pictures, ocr)
        self._grant_key = key_from(settings.grant_secret)
        self._single = SingleFlight()
        self._active_grants: dict[str, ActiveGrant] = {}

    async def handle(self, event: Event, grant: Grant, *, is_new: bool = False) -> list[Message]:
        """Raises LeftUnacked and unexpected errors. After an unexpected error, send the message of `close_failed`.

        `is_new`: it follows from a preflight that found no answer (`preflights.py`), so its call is made without a look
        at what is known of it.
        """
        async with self._single.flight(self._app, event, (grant.task.tenant_id, grant.task.medium.sha256)):
            active = self._active_grants[grant.id] = ActiveGrant(self._app, event, grant)
            try:
                messages = await self._work_until_closed(active, Call() if is_new else None)
            except LeftUnacked:
                self._active_grants.pop(grant.id, None)
                raise
            self._active_grants.pop(grant.id, None)
            return messages

    def close_failed(self, grant: Grant) -> Message:
        """The message that closes a grant whose `handle` failed: a charge if its call was begun, else a release."""
        active = self._active_grants.pop(grant.id, None)
        return calls.close(grant, active.possible_cost if active else None)

    async def _work_until_closed(self, active: ActiveGrant, first: Step | None) -> list[Message]:
        """`first`: the next step, if nothing needs to be read to know it."""
        if active.grant.provider == "ocr_fallback":
            return await self._ocr_only(active)
        while True:
            try:
                step, first = first or await self._next_step(active), None
                match step:
                    case Conclude(stored, tokens):
                        return await self._conclude(active, stored, tokens)
                    case Call(broken):
                        return await self._call(active, broken)
                    case Expired(tokens):
                        return self._close(active.grant, Failed(reason="answer_expired"), tokens)
                    case CutOff():
                        call = "repair" if active.grant.purpose == "repair" else "call"
                        return await self._cut_off(active, f"the {call} was cut off by a crash")
                    case WaitForOther():
                        with waiting_for("a call that another worker makes"):
                            await active.sleep(self._times.foreign_poll)
            except Overtaken:
                log.info(
                    "picture_handled_by_other_worker",
                    grant_id=active.grant.id,
                )

    async def _next_step(self, active: ActiveGrant) -> Step:
        """Read what is known of the grant's call. Returns the next step."""
        grant = active.grant
        record: CallRecord | None = await active.through_outages(
            lambda: self._answers.call(grant.task.tenant_id, grant.id)
        )
        if record is not None:
            active.possible_cost = calls.possible_cost(grant, record)
        found = await active.through_outages(lambda: self._caller.find(grant, record))
        if record is None and found is not None and grant.purpose == "answer":
            metrics.CACHE_HITS.labels(cache_type="s3").inc()
        deadline = self._times.deadline
        return calls.next_step(
            grant, record, found, owner=self._owner, now=datetime.now(UTC), deadline_seconds=deadline
        )

    # -- the call

    async def _call(self, active: ActiveGrant, broken: StoredAnswer | None) -> list[Message]:
        """Call about the picture, or about a broken answer, if the grant allows it."""
        grant, picture = active.grant, None
        if broken is None:
            with spans.span("read the picture", spans.Kind.CLIENT, spans.S3_READ):
                read = await active.through_outages(lambda: self._pictures.read(grant.task.medium))
            if not isinstance(read, Picture):
                return self._close(grant, read, None)
            picture = read
            needed = estimate_tokens(len(picture.content), picture.mime_type, self._settings)
        else:
            needed = estimate_text_tokens(repair_prompt(broken.content), self._settings)
        if (flaw := self._flaw(grant, needed)) is not None:
            return await self._ask_anew(active, needed, flaw)
        while True:
            match await active.through_outages(lambda: self._caller.call(active, picture, broken)):
                case PaidAnswer(stored, tokens):
                    return await self._conclude(active, stored, tokens)
                case ProviderOutage() | AccountBlocked() as fault:
                    count_request(grant, "error", "outage")
                    log.warning("provider_unavailable", error=str(fault))
                case InputFault() as fault:
                    count_request(grant, "error", "input_fault")
                    failed = Failed(reason="analysis_failed", details={"status": fault.status, "error": str(fault)})
                    return self._close(grant, await self._ocr.read(active, failed), None)
                case CallLost() as fault:
                    count_request(grant, "error", "call_lost")
                    return await self._cut_off(active, str(fault))
                case fault:
                    raise TypeError(f"no provider fault: {fault!r}")

    def _flaw(self, grant: Grant, needed: int) -> str | None:
        """Why a call of at most `needed` tokens may not be made on this grant; None if it may."""
        if (flaw := flaw_of(grant, self._grant_key, round(time.time() * 1000))) is not None:
            return flaw
        return "too_small" if needed > grant.estimate else None

    async def _ask_anew(self, active: ActiveGrant, estimate: int, flaw: str) -> list[Message]:
        """Give an unused grant back, and ask the ledger for a new one of `estimate` tokens.

        If its task was returned before, it waits first: a ledger of an older version, or with another key, would return
        it again and again.
        """
        grant = active.grant
        metrics.GRANTS_RETURNED.labels(flaw).inc()
        log.warning(
            "grant_unusable",
            grant_id=grant.id,
            flaw=flaw,
            reserved=grant.estimate,
            needed=estimate,
            remedy=""
            if flaw == "too_small"
            else "if this repeats, run the same version with the same VISION_GRANT_KEY on all workers",
        )
        if calls.RETURNED in grant.task.times:
            await active.sleep(self._times.returned_again)
        return calls.ask_anew(grant, estimate, round(time.time() * 1000))

    # -- how it ended

    async def _conclude(self, active: ActiveGrant, stored: StoredAnswer, tokens: int) -> list[Message]:
        """The messages for a stored answer: analyzed, to be repaired, or the picture's own fault (then OCR)."""
        grant, answer = active.grant, stored.answer
        cached = stored.grant_id != grant.id
        spans.note(cached=cached, tokens=tokens, outcome=answer.verdict)
        if answer.analysis is not None:
            key = self._answers.key(grant.task.tenant_id, grant.task.medium.sha256, answer.provider)
            log.info("analysis_completed", tokens_used=tokens, duration_ms=answer.duration_ms, cached=cached)
            return self._close(grant, analyzed_outcome(answer, key, cached=cached), tokens)
        if not cached and calls.is_repairable(stored):
            log.info("answer_repair_requested", faults=answer.faults)
            estimate = estimate_text_tokens(repair_prompt(stored.content), self._settings)
            return calls.ask_for_repair(grant, tokens, estimate)
        details = {"faults": answer.faults, "tokens_billed": 0 if cached else answer.tokens}
        failed = Failed(reason=answer.verdict, details=details)
        return self._close(grant, await self._ocr.read(active, failed), tokens)

    async def _cut_off(self, active: ActiveGrant, why: str) -> list[Message]:
        """It is unknown whether the call was billed. Ask again a few times; then the picture counts as the cause.

        While other pictures get no answer either, it does not.
        """
        grant, attempt = active.grant, active.grant.task.attempt
        metrics.CALLS_LOST.inc()
        if attempt < max(1, self._settings.vision_api_max_retries) or not self._gate.is_picture_at_fault(attempt):
            log.warning("call_lost", grant_id=grant.id, error=why)
            return calls.ask_again(grant)
        failed = Failed(reason="analysis_failed", details={"error": why, "attempts": attempt})
        return self._close(grant, await self._ocr.read(active, failed), grant.estimate)

    def _close(self, grant: Grant, outcome: Outcome, tokens: int | None) -> list[Message]:
        """Close the grant and answer the post. `tokens` None: nothing was spent."""
        return [calls.close(grant, tokens), grant.task.outcome(outcome, answered=round(time.time() * 1000))]

    async def _ocr_only(self, active: ActiveGrant) -> list[Message]:
        """Handle a grant without money: return what OCR reads, or let the task wait for money like any other."""
        grant = active.grant
        if (before := await self._ocr.stored(active)) is not None:
            return self._close(grant, before, None)
        nothing = Skipped(reason="budget", details={"ocr": "not available"})
        outcome = await self._ocr.read(active, nothing)
        if outcome is nothing:  # preflight says how much money it needs
            log.info("ocr_fallback_empty")
            return [calls.close(grant, None), grant.task.model_copy(update={"ocr_allowed": False})]
        return self._close(grant, outcome, None)
