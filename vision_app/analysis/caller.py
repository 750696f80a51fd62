"""Makes one call to the provider: gate and slot, the record of its start, the request, the answer and its record in S3.

`vision_app/domain/calls.py` decides whether to call; `analyst.py` handles the answer. From the record until the answer
is stored, nothing interrupts a call, because it may be billed.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from vision_app.domain import calls
from vision_app.domain.answer import read_answer, repair_prompt
from vision_app.domain.calls import StoredAnswer
from vision_app.messages import Grant
from vision_app.prompts import prompt
from vision_app.providers.base import (
    CallLost,
    CallTrace,
    InputFault,
    Picture,
    ProviderError,
    VisionProvider,
)
from vision_app.providers.gate import Gate
from vision_app.stores.answers import AnswerStore
from vision_app.stores.s3 import StoreUnavailable
from vision_app.streams.ownership import LeftUnacked
from vision_app.telemetry import metrics, spans
from vision_app.telemetry.watch import taking_step, waiting_for, within

from .active_grant import ActiveGrant
from .results import answer_after_repair, count_call, gigachat_answer, stored_answer

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CallTimes:
    """`deadline`: longest time of a call, its answer stored. An older call of another worker counts as cut off.

    `begin`: the part of it that writing the start record may take, because the record's time is taken before the write.
    `store_retry`: pause while S3 takes no answer. `foreign_poll`: pause between checks of another worker's call.
    `returned_again`: how long a task waits whose grant was returned before. All in seconds.
    """

    deadline: float
    begin: float = 5.0
    store_retry: float = 1.0
    foreign_poll: float = 1.0
    returned_again: float = 5.0


class Overtaken(Exception):
    """During the upload another worker began the call, or an answer arrived. This worker sent no question."""


@dataclass(frozen=True)
class PaidAnswer:
    """A stored answer, and what the call just made for it cost."""

    stored: StoredAnswer
    tokens: int


class ProviderCaller:
    """Makes calls as `owner`, which names this start of this worker."""

    def __init__(
        self,
        answers: AnswerStore,
        provider: VisionProvider,
        gate: Gate,
        *,
        owner: str,
        simulated: bool,
        times: CallTimes,
    ) -> None:
        self._answers, self._provider, self._gate = answers, provider, gate
        self._owner, self._simulated, self._times = owner, simulated, times

    async def call(
        self, active: ActiveGrant, picture: Picture | None, broken: StoredAnswer | None
    ) -> PaidAnswer | ProviderError:
        """Wait at the gate and for a slot, then make one call about a picture, or about a broken answer.

        Returns the answer or the provider's error, after reporting it to the gate. Raises LookAgain; LeftUnacked and
        StoreUnavailable only if no request was sent.
        """
        async with AsyncExitStack() as slot:
            with taking_step("turn"):
                await active.wait_for(slot.enter_async_context(self._gate.slot()))
            try:
                with (
                    taking_step("call"),
                    waiting_for("gigachat", within(self._times.deadline)),
                    spans.call(active.grant, self._answers.model),
                ):
                    # Not cut by SIGTERM or a rebalance: it may be billed.
                    paid = await self._ask(active, picture, broken, slot)
                    spans.answered(paid.tokens, paid.stored.answer)
            except (LeftUnacked, StoreUnavailable, Overtaken):
                raise  # by `_begin`: no request was sent
            except CallLost as fault:
                self._gate.report(fault)
                return fault
            except ProviderError as fault:
                self._gate.report(None if isinstance(fault, InputFault) else fault)
                await self._clear(active)
                return fault
            except Exception as fault:
                if active.possible_cost is None:
                    raise
                # An unexpected error: the call may have been billed, so its record stays and the grant is charged.
                metrics.UNEXPECTED_ERRORS.labels(where="analysis").inc()
                log.exception("call_failed", grant_id=active.grant.id)
                return CallLost(f"{type(fault).__name__}: {fault}")
            return paid

    async def _ask(
        self, active: ActiveGrant, picture: Picture | None, broken: StoredAnswer | None, slot: AsyncExitStack
    ) -> PaidAnswer:
        """Ask, leave the slot to the next call, and store the answer.

        A repair that is still unusable is marked, so that it is not tried again.
        """
        grant, started = active.grant, time.monotonic()
        question = prompt(grant.task.prompt_key) if broken is None else repair_prompt(broken.content)
        trace = CallTrace(trace_id=grant.task.trace_id, request_id=grant.id)
        call = self._provider.analyze(
            picture, question, trace, lambda: self._begin(active), lambda: self._clear(active)
        )
        async with call as raw:
            active.possible_cost = raw.tokens
            self._gate.report(None)
            reading = read_answer(raw.content, raw.finish_reason)
            metrics.PARSED.labels(status=reading.verdict, method="mended" if reading.faults else "direct").inc()
            answer = gigachat_answer(raw, reading, time.monotonic() - started, self._simulated)
            count_call(grant, answer)
            answer = answer if broken is None else answer_after_repair(broken, raw, answer)
            storing = self._store(grant, stored_answer(grant, answer, raw.content), raw.tokens)
            paid, _ = await asyncio.gather(storing, slot.aclose())
            return paid

    async def _begin(self, active: ActiveGrant) -> None:
        """Record that the request is about to be sent. Until the answer is stored, a crash costs the estimate.

        The upload and the write of the record may take long. If the partition moves meanwhile, its new owner makes the
        call. And if the write took too long, the record would look old while the call still runs.
        """
        grant, tenant = active.grant, active.grant.task.tenant_id
        if not active.is_ours:
            raise LeftUnacked
        record, found = await asyncio.gather(self._answers.call(tenant, grant.id), self.find(grant, None))
        if not calls.may_begin(grant, record, found, self._owner):
            raise Overtaken
        active.possible_cost = grant.estimate
        began = time.monotonic()
        await self._answers.start_call(tenant, grant.id, self._owner)
        took = time.monotonic() - began
        if active.is_ours and took <= self._times.begin:
            return
        record = await self._answers.call(tenant, grant.id)
        if record is not None and record.owner == self._owner:
            await self._clear(active)
        if not active.is_ours:
            raise LeftUnacked
        raise StoreUnavailable(f"a record took {took:.0f} s; by its time others tell whether the call still runs")

    async def find(self, grant: Grant, record: calls.CallRecord | None) -> StoredAnswer | None:
        """The stored answer that counts for this grant. Raises S3Error."""
        task = grant.task
        only_good = calls.only_good(grant, record)
        return await self._answers.find(task.tenant_id, task.medium.sha256, "gigachat", only_good=only_good)

    async def _store(self, grant: Grant, stored: StoredAnswer, tokens: int) -> PaidAnswer:
        """Store a paid answer. While S3 is away, try again."""
        tenant = grant.task.tenant_id
        while True:
            try:
                with spans.span("store the answer", spans.Kind.CLIENT, spans.STORES["s3"]):
                    key = await self._answers.save(stored)
                await self._answers.finish_call(tenant, grant.id, tokens, stored.answer.verdict, key)
                return PaidAnswer(stored, tokens)
            except StoreUnavailable as fault:
                metrics.RETRIES.labels(stage="s3").inc()
                log.error("answer_not_stored", error=str(fault), grant_id=grant.id)
                with waiting_for("s3"):
                    await asyncio.sleep(self._times.store_retry)

    async def _clear(self, active: ActiveGrant) -> None:
        """Delete the start record of an attempt that cost nothing. If that fails, it counts as lost, not as free."""
        if active.possible_cost is None:
            return
        active.possible_cost = None
        try:
            await self._answers.clear_call(active.grant.task.tenant_id, active.grant.id)
        except StoreUnavailable as fault:
            metrics.RETRIES.labels(stage="s3").inc()
            log.warning("call_record_not_deleted", error=str(fault), grant_id=active.grant.id)
