"""Builds the analyst's outcomes and answers, and counts calls."""

from __future__ import annotations

from datetime import UTC, datetime

from vision_app.domain.answer import Reading
from vision_app.domain.calls import REPAIR_FAILED, StoredAnswer
from vision_app.messages import (
    Analysis,
    Analyzed,
    Answer,
    DeadLetter,
    Failed,
    Grant,
    MediaOutcome,
    MediaTask,
)
from vision_app.prompts import PROMPT_VERSION, VISION_VERSION
from vision_app.providers.base import RawAnswer
from vision_app.telemetry import metrics
from vision_app.telemetry.metrics import tenant_label


def analyzed_outcome(answer: Answer, key: str, *, cached: bool) -> Analyzed:
    """A stored answer as an outcome. The task is billed only for a call made for it."""
    return Analyzed(answer=answer, s3_key=key, cached=cached, tokens_billed=0 if cached else answer.tokens)


def failed_by_dead_letter(task: MediaTask, letter: DeadLetter) -> MediaOutcome:
    """The outcome of a task whose message was dead-lettered, so that its post does not wait for ever."""
    return task.outcome(Failed(reason="exception", details={"error": letter.error}, dead_letter_id=letter.id))


def gigachat_answer(raw: RawAnswer, reading: Reading, seconds: float, simulated: bool) -> Answer:
    return Answer(
        verdict=reading.verdict,
        analysis=reading.analysis,
        provider="gigachat",
        model=raw.model,
        prompt_version=PROMPT_VERSION,
        vision_version=VISION_VERSION,
        tokens=raw.tokens,
        usage=raw.usage,
        finish_reason=raw.finish_reason,
        analyzed_at=datetime.now(UTC),
        duration_ms=round(seconds * 1000),
        simulated=simulated,
        faults=list(reading.faults),
    )


def ocr_answer(analysis: Analysis, model: str, seconds: float) -> Answer:
    return Answer(
        verdict="ok",
        analysis=analysis,
        provider="ocr_fallback",
        model=model,
        prompt_version=PROMPT_VERSION,
        vision_version=VISION_VERSION,
        tokens=0,
        analyzed_at=datetime.now(UTC),
        duration_ms=round(seconds * 1000),
    )


def stored_answer(grant: Grant, answer: Answer, content: str) -> StoredAnswer:
    return StoredAnswer(
        answer=answer,
        tenant_id=grant.task.tenant_id,
        sha256=grant.task.medium.sha256,
        grant_id=grant.id,
        content=content,
        stored_at=answer.analyzed_at,
    )


def answer_after_repair(broken: StoredAnswer, raw: RawAnswer, answer: Answer) -> Answer:
    """The answer after a repair, at the cost of both calls. It is marked if the repair failed."""
    cost = broken.answer.tokens + raw.tokens
    if answer.analysis is None:
        faults = [*broken.answer.faults, REPAIR_FAILED]
        return broken.answer.model_copy(update={"tokens": cost, "faults": faults})
    return answer.model_copy(update={"tokens": cost, "faults": [*answer.faults, "repaired"]})


def count_request(grant: Grant, status: str, reason: str) -> None:
    tenant = tenant_label(grant.task.tenant_id)
    metrics.ANALYSIS_REQUESTS.labels(status=status, provider="gigachat", tenant_id=tenant, reason=reason).inc()


def count_call(grant: Grant, answer: Answer) -> None:
    tenant = tenant_label(grant.task.tenant_id)
    status = "success" if answer.analysis else "error"
    count_request(grant, status, "none" if answer.analysis else "unusable")
    metrics.TOKENS_USED.labels(provider="gigachat", tenant_id=tenant, model=answer.model).inc(answer.tokens)
    duration = metrics.ANALYSIS_DURATION.labels(provider="gigachat", tenant_id=tenant, status=status)
    duration.observe(answer.duration_ms / 1000)
