"""Makes the call that a grant allows, at most once, and stores the answer before anything else learns of it.

The order per grant: its own call record (`done`: it was paid, settle that; `started`: it was cut off, lost, unless its
answer was stored) → somebody else's answer (settle 0) → read the object → is the grant the ledger's, and large enough?
(else its task asks anew) → slot and gate → upload → record `started` → the request → answer and `done` to S3 → `Settle`
and the outcome → acknowledge. While a request that was refused for free waits to be made again there is no record:
nothing is under way. Outages of the provider are waited out at the gate, un-acknowledged, whatever they last; faults of
the picture end it. What the model says is data: it chooses no tenant, key, path or query.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from vision_app.domain.answer import read_answer, repair_prompt
from vision_app.domain.signatures import flaw_of, key_from
from vision_app.messages import (
    Analyzed,
    Answer,
    Failed,
    Grant,
    Lost,
    Message,
    Outcome,
    Release,
    Reserve,
    Settle,
    Skipped,
)
from vision_app.prompts import prompt
from vision_app.providers.base import (
    AccountBlocked,
    CallLost,
    CallTrace,
    InputFault,
    Picture,
    ProviderError,
    ProviderOutage,
    RawAnswer,
    VisionProvider,
)
from vision_app.providers.decoders import Decoders
from vision_app.providers.gate import Gate
from vision_app.providers.ocr import OcrFault, Tesseract
from vision_app.providers.pictures import estimate_text_tokens, estimate_tokens
from vision_app.settings import Settings
from vision_app.stores.answers import AnswerStore, CallRecord, StoredAnswer
from vision_app.stores.s3 import S3Store, StoreUnavailable
from vision_app.streams.outages import through_outages
from vision_app.streams.ownership import LeftUnacked, is_ours, sleep_while_ours, while_ours
from vision_app.streams.single_flight import SingleFlight
from vision_app.telemetry import metrics
from vision_app.telemetry.watch import waiting_for, within

from .objects import read_picture
from .results import (
    analyzed,
    as_done,
    close,
    count,
    gigachat_answer,
    measure,
    ocr_answer,
    repairable,
    repaired,
    stored_answer,
)

log = structlog.get_logger(__name__)

STORE_RETRY_SECONDS = 1.0
FOREIGN_CALL_POLL_SECONDS = 1.0
FOREIGN_CALL_MARGIN_SECONDS = 15.0
"""Time to store an answer, beyond the provider's own deadline, before another worker's call counts as cut off."""
BEGIN_SECONDS = 5.0
"""Of that, what writing the record of the start may take: its time is from before."""


RETURNED = "returned"
"""Among a task's times: when a grant was given back because nothing might be called on it."""
RETURNED_AGAIN_SECONDS = 5.0


class _LookAgain(Exception):
    """Since the grant was looked at its call was begun elsewhere, or became needless; nothing was sent from here."""


@dataclass(frozen=True)
class _Paid:
    """A stored answer and what the call that has just been made for it cost."""

    stored: StoredAnswer
    tokens: int


class Analyst:
    """What is done with one grant. `handle` returns the messages that end it."""

    def __init__(
        self,
        app: Any,
        settings: Settings,
        s3: S3Store,
        answers: AnswerStore,
        provider: VisionProvider,
        gate: Gate,
        ocr: Tesseract | None,
        decoders: Decoders,
        worker_id: str,
    ) -> None:
        self._app, self._settings = app, settings
        self._owner = f"{worker_id.replace('/', '-')}/{uuid.uuid4().hex}"
        self._s3, self._answers = s3, answers
        self._provider, self._gate, self._ocr, self._decoders = provider, gate, ocr, decoders
        self._grant_key = key_from(settings.grant_secret)
        self._single = SingleFlight()
        self._owed: dict[str, int] = {}  # what the calls of grants in work may have cost, until the grant is closed

    async def handle(self, event: Any, grant: Grant) -> list[Message]:
        async with self._single.flight(self._app, event, (grant.task.tenant_id, grant.task.medium.sha256)):
            try:
                messages = await self._handle(event, grant)
            except LeftUnacked:
                self._owed.pop(grant.id, None)
                raise
            self._owed.pop(grant.id, None)
            return messages

    def close_failed(self, grant: Grant) -> Message:
        """What closes a grant that `handle` could not finish: a charge if its call was begun, or else a release."""
        return close(grant, self._owed.pop(grant.id, None))

    async def _handle(self, event: Any, grant: Grant) -> list[Message]:
        while True:
            try:
                if grant.provider == "ocr_fallback":
                    return await self._ocr_only(event, grant)
                if grant.purpose == "repair":
                    return await self._repair(event, grant)
                return await self._analyze(event, grant)
            except _LookAgain:
                log.info("during the upload another worker dealt with the picture; looking again", grant_id=grant.id)

    # -- an answer by the provider

    async def _analyze(self, event: Any, grant: Grant) -> list[Message]:
        record = await self._record(event, grant)
        if record is not None and record.state == "started":
            return await self._cut_off(event, grant, "the call was cut off by a crash")
        found = await through_outages(self._app, event, lambda: self._find(grant, record is not None), "s3")
        if record is not None:
            if found is not None:
                return await self._ended(event, grant, found, tokens=record.tokens or 0)
            return self._end(grant, Failed(reason="answer_expired"), tokens=record.tokens or 0)
        if found is not None:
            metrics.CACHE_HITS.labels(cache_type="s3").inc()
            return await self._ended(event, grant, found, tokens=0)
        picture = await through_outages(
            self._app, event, lambda: read_picture(self._s3, grant.task.medium, self._decoders), "s3"
        )
        if not isinstance(picture, Picture):
            return self._end(grant, picture)
        needed = estimate_tokens(len(picture.content), picture.mime_type, self._settings)
        if (flaw := self._flaw(grant, needed)) is not None:
            return await self._ask_anew(event, grant, needed, flaw)
        return await self._ask(event, grant, lambda: self._call(event, grant, picture))

    async def _repair(self, event: Any, grant: Grant) -> list[Message]:
        """Have the model put its own broken answer into form: once per answer, under a grant of its own."""
        record = await self._record(event, grant)
        if record is not None and record.state == "started":
            return await self._cut_off(event, grant, "the repair was cut off by a crash")
        broken = await through_outages(self._app, event, lambda: self._find(grant, paid=True), "s3")
        if broken is None:
            return self._end(grant, Failed(reason="answer_expired"), tokens=record.tokens or 0 if record else None)
        if record is not None or not repairable(broken):
            return await self._ended(event, grant, broken, tokens=record.tokens or 0 if record else 0)
        needed = estimate_text_tokens(repair_prompt(broken.content), self._settings)
        if (flaw := self._flaw(grant, needed)) is not None:
            return await self._ask_anew(event, grant, needed, flaw)
        return await self._ask(event, grant, lambda: self._call_repair(event, grant, broken))

    async def _record(self, event: Any, grant: Grant) -> CallRecord | None:
        """What became of this grant's call. One that another worker may still be making gets time to end."""
        tenant = grant.task.tenant_id
        while True:
            record = await through_outages(self._app, event, lambda: self._answers.call(tenant, grant.id), "s3")
            if record is None:
                return None
            self._owed[grant.id] = grant.estimate if record.tokens is None else record.tokens
            if record.state == "done":
                return record
            stored = await through_outages(self._app, event, lambda: self._find(grant, paid=True), "s3")
            if stored is not None and stored.grant_id == grant.id:  # cut off between the answer and its record
                return as_done(record, stored)
            if not self._may_still_run(record):
                return record
            with waiting_for("a call that another worker makes"):
                await sleep_while_ours(self._app, event, FOREIGN_CALL_POLL_SECONDS)

    def _may_still_run(self, record: CallRecord) -> bool:
        """After a rebalance the worker that began a call finishes it. A start of this worker ended all earlier ones."""
        if record.owner.partition("/")[0] in ("", self._owner.partition("/")[0]):
            return False  # single flight: if this very process were making it, nobody would ask here; "": unreadable
        age = (datetime.now(UTC) - record.at).total_seconds()
        return 0 <= age < self._deadline_seconds

    @property
    def _deadline_seconds(self) -> float:
        """What a call takes at most, its answer stored."""
        return self._settings.gigachat_vision_timeout + FOREIGN_CALL_MARGIN_SECONDS

    async def _find(self, grant: Grant, paid: bool) -> StoredAnswer | None:
        """An answer that is there already; the one this grant paid for counts whatever its verdict."""
        task = grant.task
        only_good = task.force and not paid
        return await self._answers.find(task.tenant_id, task.medium.sha256, "gigachat", only_good=only_good)

    async def _ask(self, event: Any, grant: Grant, call: Callable[[], Awaitable[_Paid]]) -> list[Message]:
        """Call, and again after an outage, for as long as it lasts; then end the grant as the call ended."""
        while True:
            match await through_outages(self._app, event, lambda: self._attempt(event, grant, call), "s3"):
                case _Paid() as paid:
                    return await self._ended(event, grant, paid.stored, tokens=paid.tokens)
                case ProviderOutage() | AccountBlocked() as fault:
                    count(grant, "error", "outage")
                    log.warning("provider unavailable; the task waits at the gate", error=str(fault))
                case InputFault() as fault:
                    count(grant, "error", "input_fault")
                    failed = Failed(reason="analysis_failed", details={"status": fault.status, "error": str(fault)})
                    return self._end(grant, await self._or_ocr(event, grant, failed))
                case CallLost() as fault:
                    count(grant, "error", "call_lost")
                    return await self._cut_off(event, grant, str(fault))
                case fault:
                    raise TypeError(f"no provider fault: {fault!r}")

    async def _attempt(self, event: Any, grant: Grant, call: Callable[[], Awaitable[_Paid]]) -> _Paid | ProviderError:
        """Wait at the gate and for a slot, then make one call. What it ended with, the gate told of it."""
        async with AsyncExitStack() as slot:
            await while_ours(self._app, event, slot.enter_async_context(self._gate.slot()))
            try:
                with waiting_for("gigachat", within(self._deadline_seconds)):
                    paid = await call()  # not cut by SIGTERM or a rebalance: it may be paid
            except (LeftUnacked, StoreUnavailable, _LookAgain):
                raise  # by `_begin`: no request was sent
            except InputFault as fault:
                self._gate.report(None)
                await self._clear(grant)
                return fault
            except CallLost as fault:
                self._gate.report(fault)
                return fault
            except ProviderError as fault:
                self._gate.report(fault)
                await self._clear(grant)
                return fault
            except Exception as fault:
                if grant.id not in self._owed:
                    raise
                # Nobody planned for this, so it may have been paid: the grant stays begun and is charged.
                metrics.UNEXPECTED_ERRORS.labels(where="analysis").inc()
                log.exception("unexpected error of a call; it counts as lost", grant_id=grant.id)
                return CallLost(f"{type(fault).__name__}: {fault}")
            self._gate.report(None)
            return paid

    async def _begin(self, event: Any, grant: Grant) -> None:
        """Note that the request is about to be sent: from here to the stored answer a crash costs the estimate.

        The upload may have taken long: whoever got the partition meanwhile makes the call, not we. The same while the
        record was written; and it must not look old while the call still runs.
        """
        tenant = grant.task.tenant_id
        if not is_ours(self._app, event):
            raise LeftUnacked
        record = await self._answers.call(tenant, grant.id)
        if (record is not None and record.owner != self._owner) or await self._needless(grant):
            raise _LookAgain
        self._owed[grant.id] = grant.estimate
        began = time.monotonic()
        await self._answers.start_call(tenant, grant.id, self._owner)
        took = time.monotonic() - began
        if is_ours(self._app, event) and took <= BEGIN_SECONDS:
            return
        record = await self._answers.call(tenant, grant.id)
        if record is not None and record.owner == self._owner:
            await self._clear(grant)
        if not is_ours(self._app, event):
            raise LeftUnacked
        raise StoreUnavailable(f"a record took {took:.0f} s; by its time others tell whether the call still runs")

    async def _needless(self, grant: Grant) -> bool:
        """Whether there is an answer by now: another worker may have settled this very grant with it."""
        if grant.purpose == "answer":
            return await self._find(grant, paid=False) is not None
        broken = await self._find(grant, paid=True)
        return broken is None or not repairable(broken)

    async def _call(self, event: Any, grant: Grant, picture: Picture) -> _Paid:
        """One call, its answer stored and its record closed. Runs to its end even if the event moves elsewhere."""
        async with self._asked(event, grant, picture, prompt(grant.task.prompt_key)) as (raw, answer):
            return await self._keep(grant, stored_answer(grant, answer, raw.content), raw.tokens)

    async def _call_repair(self, event: Any, grant: Grant, broken: StoredAnswer) -> _Paid:
        """One call about the broken text alone. What is still of no use is marked, so that it is not tried again."""
        async with self._asked(event, grant, None, repair_prompt(broken.content)) as (raw, answer):
            stored = stored_answer(grant, repaired(broken, raw, answer), raw.content)
            return await self._keep(grant, stored, raw.tokens)

    @asynccontextmanager
    async def _asked(
        self, event: Any, grant: Grant, picture: Picture | None, question: str
    ) -> AsyncIterator[tuple[RawAnswer, Answer]]:
        """Ask; the block stores the answer."""
        started = time.monotonic()
        trace = CallTrace(trace_id=grant.task.trace_id, request_id=grant.id)
        call = self._provider.analyze(
            picture, question, trace, lambda: self._begin(event, grant), lambda: self._clear(grant)
        )
        async with call as raw:
            self._owed[grant.id] = raw.tokens
            reading = read_answer(raw.content, raw.finish_reason)
            metrics.PARSED.labels(status=reading.verdict, method="mended" if reading.faults else "direct").inc()
            answer = gigachat_answer(raw, reading, time.monotonic() - started, self._settings.gigachat_simulated)
            measure(grant, answer)
            yield raw, answer

    async def _keep(self, grant: Grant, stored: StoredAnswer, tokens: int) -> _Paid:
        """Store what was paid for; while S3 is away there is nothing better to do than to try again."""
        tenant = grant.task.tenant_id
        while True:
            try:
                key = await self._answers.save(stored)
                await self._answers.finish_call(tenant, grant.id, tokens, stored.answer.verdict, key)
                return _Paid(stored, tokens)
            except StoreUnavailable as fault:
                metrics.RETRIES.labels(stage="s3").inc()
                log.error("a paid answer cannot be stored yet; trying again", error=str(fault), grant_id=grant.id)
                with waiting_for("s3"):
                    await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _clear(self, grant: Grant) -> None:
        """The attempt cost nothing: forget that it began. If even that fails it will count as lost, never as free."""
        if self._owed.pop(grant.id, None) is None:
            return
        try:
            await self._answers.clear_call(grant.task.tenant_id, grant.id)
        except StoreUnavailable as fault:
            metrics.RETRIES.labels(stage="s3").inc()
            log.warning("call record not cleared", error=str(fault), grant_id=grant.id)

    # -- how it ended

    async def _ended(self, event: Any, grant: Grant, stored: StoredAnswer, *, tokens: int) -> list[Message]:
        """The messages for a stored answer: analyzed, to be repaired, or the picture's own fault (then OCR)."""
        task, answer = grant.task, stored.answer
        cached = stored.grant_id != grant.id
        if answer.analysis is not None:
            key = self._answers.key(task.tenant_id, task.medium.sha256, answer.provider)
            log.info("Vision analysis completed", tokens_used=tokens, duration_ms=answer.duration_ms, cached=cached)
            return self._end(grant, analyzed(answer, key, cached=cached), tokens=tokens)
        if not cached and repairable(stored):
            estimate = estimate_text_tokens(repair_prompt(stored.content), self._settings)
            log.info("answer unusable; the model is asked to repair it", faults=answer.faults)
            return [
                Settle(tenant_id=task.tenant_id, grant_id=grant.id, tokens=tokens),
                Reserve(tenant_id=task.tenant_id, task=task, estimate=estimate, purpose="repair"),
            ]
        details = {"faults": answer.faults, "tokens_billed": 0 if cached else answer.tokens}
        failed = Failed(reason=answer.verdict, details=details)
        return self._end(grant, await self._or_ocr(event, grant, failed), tokens=tokens)

    async def _cut_off(self, event: Any, grant: Grant, why: str) -> list[Message]:
        """Nobody knows whether the call was billed. Ask again a few times; then the picture is to blame.

        It is not while other pictures get no answer either.
        """
        attempt = grant.task.attempt
        if attempt < max(1, self._settings.vision_api_max_retries) or not self._gate.blames(attempt):
            return self._lost(grant, why)
        failed = Failed(reason="analysis_failed", details={"error": why, "attempts": attempt})
        metrics.CALLS_LOST.inc()
        return self._end(grant, await self._or_ocr(event, grant, failed), tokens=grant.estimate)

    def _lost(self, grant: Grant, why: str) -> list[Message]:
        metrics.CALLS_LOST.inc()
        log.warning("call lost; it is charged at its estimate and asked again", grant_id=grant.id, error=why)
        again = grant.task.model_copy(update={"attempt": grant.task.attempt + 1})
        return [
            Lost(
                tenant_id=grant.task.tenant_id,
                grant_id=grant.id,
                estimate=grant.estimate,
                purpose=grant.purpose,
                task=again,
            )
        ]

    def _end(self, grant: Grant, outcome: Outcome, *, tokens: int | None = None) -> list[Message]:
        """Close the grant and answer the post. `tokens` None: nothing was spent."""
        return [close(grant, tokens), grant.task.outcome(outcome, answered=round(time.time() * 1000))]

    def _flaw(self, grant: Grant, needed: int) -> str | None:
        """Why no call may be made on this grant, which needs so many tokens at most; None if one may."""
        if (flaw := flaw_of(grant, self._grant_key, round(time.time() * 1000))) is not None:
            return flaw
        return "too_small" if needed > grant.estimate else None

    async def _ask_anew(self, event: Any, grant: Grant, estimate: int, flaw: str) -> list[Message]:
        """Give the grant back, on which nothing was called, and ask the ledger for one of this many tokens.

        A task that comes back the same way has to wait: a ledger of an older version, or with another key, would send
        it round and round.
        """
        task = grant.task
        metrics.GRANTS_RETURNED.labels(flaw).inc()
        log.warning(
            "nothing is called on this grant; its task asks the ledger anew",
            grant_id=grant.id,
            flaw=flaw,
            reserved=grant.estimate,
            needed=estimate,
            remedy="" if flaw == "too_small" else "if this goes on: the same version and VISION_GRANT_KEY everywhere",
        )
        if RETURNED in task.times:
            await sleep_while_ours(self._app, event, RETURNED_AGAIN_SECONDS)
        task = task.at(**{RETURNED: round(time.time() * 1000)})
        return [
            Release(tenant_id=task.tenant_id, grant_id=grant.id),
            Reserve(tenant_id=task.tenant_id, task=task, estimate=estimate, purpose=grant.purpose),
        ]

    # -- OCR

    async def _ocr_only(self, event: Any, grant: Grant) -> list[Message]:
        task = grant.task
        found = await through_outages(
            self._app, event, lambda: self._answers.find(task.tenant_id, task.medium.sha256, "ocr_fallback"), "s3"
        )
        if found is not None and found.answer.analysis is not None:
            return self._end(grant, self._ocr_outcome(grant, found, cached=True))
        nothing = Skipped(reason="budget", details={"ocr": "not available"})
        outcome = await self._or_ocr(event, grant, nothing)
        if outcome is nothing:  # it waits for money like any other; preflight says how much
            log.info("OCR gave nothing; the task waits for money")
            return [close(grant, None), task.model_copy(update={"ocr_allowed": False})]
        return self._end(grant, outcome)

    async def _or_ocr(self, event: Any, grant: Grant, otherwise: Skipped | Failed) -> Analyzed | Skipped | Failed:
        """What OCR reads off the picture if that is allowed and works; otherwise the given outcome."""
        if self._ocr is None or not self._ocr.available or not grant.task.ocr_allowed:
            return otherwise
        picture = await through_outages(
            self._app, event, lambda: read_picture(self._s3, grant.task.medium, self._decoders), "s3"
        )
        if not isinstance(picture, Picture):
            return picture
        started = time.monotonic()
        try:
            analysis, model = await self._ocr.read(picture)
        except OcrFault as fault:
            log.warning("OCR gave nothing", reason=str(fault))
            return otherwise
        answer = ocr_answer(analysis, model, time.monotonic() - started)
        stored = stored_answer(grant, answer, "")
        try:
            await self._answers.save(stored)
        except StoreUnavailable as fault:
            metrics.RETRIES.labels(stage="s3").inc()
            log.warning("OCR answer not stored; the post has it all the same", error=str(fault))
        return self._ocr_outcome(grant, stored, cached=False)

    def _ocr_outcome(self, grant: Grant, stored: StoredAnswer, *, cached: bool) -> Analyzed:
        key = self._answers.key(grant.task.tenant_id, grant.task.medium.sha256, "ocr_fallback")
        return analyzed(stored.answer, key, cached=cached)
