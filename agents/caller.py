"""Makes one call to the provider: gate and slot, the record of its start, the request, the answer and its record in S3.

Whether to call is decided before (`vision_app/domain/calls.py`), what follows from the answer afterwards
(`analyst.py`). From the record to the stored answer a call is cut off by nothing: it may be paid.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from vision_app.domain import calls
from vision_app.domain.answer import read_answer, repair_prompt
from vision_app.domain.calls import StoredAnswer
from vision_app.messages import Answer, Grant
from vision_app.prompts import prompt
from vision_app.providers.base import (
    CallLost,
    CallTrace,
    InputFault,
    Picture,
    ProviderError,
    RawAnswer,
    VisionProvider,
)
from vision_app.providers.gate import Gate
from vision_app.stores.answers import AnswerStore
from vision_app.stores.s3 import StoreUnavailable
from vision_app.streams.ownership import LeftUnacked
from vision_app.telemetry import metrics
from vision_app.telemetry.watch import waiting_for, within

from .grant_in_hand import GrantInHand
from .results import gigachat_answer, measure, repaired, stored_answer

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CallTimes:
    """`deadline`: what a call takes at most, its answer stored; another worker's older call counts as cut off.

    `begin`: of that, what writing the record of the start may take, since its time is from before. `store_retry`: pause
    while S3 does not take an answer. `foreign_poll`: pause between looks at another worker's call. `returned_again`:
    how long a task waits whose grant was given back once before. All in seconds.
    """

    deadline: float
    begin: float = 5.0
    store_retry: float = 1.0
    foreign_poll: float = 1.0
    returned_again: float = 5.0


class LookAgain(Exception):
    """The call was begun by another worker, or became needless, during the upload; nothing was sent from here."""


@dataclass(frozen=True)
class Paid:
    """A stored answer, and what the call that has just been made for it cost."""

    stored: StoredAnswer
    tokens: int


class ProviderCaller:
    """Makes calls in the name of `owner`, this start of this worker."""

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
        self, hand: GrantInHand, picture: Picture | None, broken: StoredAnswer | None
    ) -> Paid | ProviderError:
        """Wait at the gate and for a slot, then make one call about a picture, or about a broken answer.

        Returns the answer or the provider's error, after reporting it to the gate. Raises LookAgain; LeftUnacked and
        StoreUnavailable only if no request was sent.
        """
        async with AsyncExitStack() as slot:
            await hand.wait_for(slot.enter_async_context(self._gate.slot()))
            try:
                with waiting_for("gigachat", within(self._times.deadline)):
                    paid = await self._ask(hand, picture, broken)  # not cut by SIGTERM or a rebalance: it may be paid
            except (LeftUnacked, StoreUnavailable, LookAgain):
                raise  # by `_begin`: no request was sent
            except CallLost as fault:
                self._gate.report(fault)
                return fault
            except ProviderError as fault:
                self._gate.report(None if isinstance(fault, InputFault) else fault)
                await self._clear(hand)
                return fault
            except Exception as fault:
                if hand.owed is None:
                    raise
                # Nobody planned for this, so it may have been paid: the grant stays begun and is charged.
                metrics.UNEXPECTED_ERRORS.labels(where="analysis").inc()
                log.exception("unexpected error of a call; it counts as lost", grant_id=hand.grant.id)
                return CallLost(f"{type(fault).__name__}: {fault}")
            self._gate.report(None)
            return paid

    async def _ask(self, hand: GrantInHand, picture: Picture | None, broken: StoredAnswer | None) -> Paid:
        """Ask, and store the answer. A repair that is still of no use is marked, so that it is not tried again."""
        grant = hand.grant
        question = prompt(grant.task.prompt_key) if broken is None else repair_prompt(broken.content)
        async with self._asked(hand, picture, question) as (raw, answer):
            answer = answer if broken is None else repaired(broken, raw, answer)
            return await self._keep(grant, stored_answer(grant, answer, raw.content), raw.tokens)

    @asynccontextmanager
    async def _asked(
        self, hand: GrantInHand, picture: Picture | None, question: str
    ) -> AsyncIterator[tuple[RawAnswer, Answer]]:
        """Ask; the block stores the answer."""
        started = time.monotonic()
        trace = CallTrace(trace_id=hand.grant.task.trace_id, request_id=hand.grant.id)
        call = self._provider.analyze(picture, question, trace, lambda: self._begin(hand), lambda: self._clear(hand))
        async with call as raw:
            hand.owed = raw.tokens
            reading = read_answer(raw.content, raw.finish_reason)
            metrics.PARSED.labels(status=reading.verdict, method="mended" if reading.faults else "direct").inc()
            answer = gigachat_answer(raw, reading, time.monotonic() - started, self._simulated)
            measure(hand.grant, answer)
            yield raw, answer

    async def _begin(self, hand: GrantInHand) -> None:
        """Record that the request is about to be sent: from here to the stored answer a crash costs the estimate.

        The upload and the record may have taken long. If the partition went to another worker meanwhile, that one makes
        the call; and the record must not look old while the call still runs.
        """
        grant, tenant = hand.grant, hand.grant.task.tenant_id
        if not hand.is_ours:
            raise LeftUnacked
        record = await self._answers.call(tenant, grant.id)
        if not calls.may_begin(grant, record, await self.find(grant, None), self._owner):
            raise LookAgain
        hand.owed = grant.estimate
        began = time.monotonic()
        await self._answers.start_call(tenant, grant.id, self._owner)
        took = time.monotonic() - began
        if hand.is_ours and took <= self._times.begin:
            return
        record = await self._answers.call(tenant, grant.id)
        if record is not None and record.owner == self._owner:
            await self._clear(hand)
        if not hand.is_ours:
            raise LeftUnacked
        raise StoreUnavailable(f"a record took {took:.0f} s; by its time others tell whether the call still runs")

    async def find(self, grant: Grant, record: calls.CallRecord | None) -> StoredAnswer | None:
        """The stored answer that counts for this grant. Raises S3Error."""
        task = grant.task
        only_good = calls.only_good(grant, record)
        return await self._answers.find(task.tenant_id, task.medium.sha256, "gigachat", only_good=only_good)

    async def _keep(self, grant: Grant, stored: StoredAnswer, tokens: int) -> Paid:
        """Store what was paid for; while S3 is away there is nothing better to do than to try again."""
        tenant = grant.task.tenant_id
        while True:
            try:
                key = await self._answers.save(stored)
                await self._answers.finish_call(tenant, grant.id, tokens, stored.answer.verdict, key)
                return Paid(stored, tokens)
            except StoreUnavailable as fault:
                metrics.RETRIES.labels(stage="s3").inc()
                log.error("a paid answer cannot be stored yet; trying again", error=str(fault), grant_id=grant.id)
                with waiting_for("s3"):
                    await asyncio.sleep(self._times.store_retry)

    async def _clear(self, hand: GrantInHand) -> None:
        """The attempt cost nothing: forget that it began. If even that fails it will count as lost, never as free."""
        if hand.owed is None:
            return
        hand.owed = None
        try:
            await self._answers.clear_call(hand.grant.task.tenant_id, hand.grant.id)
        except StoreUnavailable as fault:
            metrics.RETRIES.labels(stage="s3").inc()
            log.warning("call record not cleared", error=str(fault), grant_id=hand.grant.id)
