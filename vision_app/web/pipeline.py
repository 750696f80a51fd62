"""The pipeline as it is now: rate, records in work, backlog and stalls of each stage, over all workers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web
from pydantic import BaseModel, Field

from vision_app.streams.faust_seams import watch_of
from vision_app.telemetry import metrics

from .auth import operator_for
from .errors import ApiError, json_response
from .health import ready_answer
from .operation import operation
from .owner import ask_worker, other_workers
from .page import Page
from .pipeline_models import PipelineAnswer, StageState, WorkerState
from .worker import ServedWorker

STAGES = (
    *("redis_in", "policy", "posts", "media", "budget", "analysis"),
    *("sink-postgres", "sink-s3", "sink-neo4j", "redis_out"),
)
"""In the order of the way of a post."""
PATH = "/api/v1/pipeline"


class PipelineQuery(BaseModel):
    own: bool = Field(False, description="only the worker that is asked")


class PipelineView(Page):
    """GET /api/v1/pipeline: what each stage does and waits for. A worker that does not answer is listed as such."""

    @operation(
        "Every stage: rate, work, backlog, stalls", query=PipelineQuery, answers={200: PipelineAnswer}, errors=(403,)
    )
    async def get(self, request: web.Request, query: PipelineQuery) -> web.Response:
        return json_response(request, await pipeline(self.app, request, own=query.own))


async def pipeline(app: ServedWorker, request: web.Request, *, own: bool = False) -> PipelineAnswer:
    """The state of this worker, with that of all others unless only its own is asked for. Needs a token for all."""
    operator_for(request)
    mine = _own_state(app)
    if own:
        return mine
    others = other_workers(app)
    answers = await asyncio.gather(
        *(ask_worker(app, url, request, f"{PATH}?own=true", PipelineAnswer) for url in others), return_exceptions=True
    )
    found = [mine]
    for url, answer in zip(others, answers, strict=True):
        if isinstance(answer, PipelineAnswer):
            found.append(answer)
        elif isinstance(answer, ApiError):
            reason = f"does not answer: {answer.text}"
            silent = WorkerState(worker=str(url), answered=False, ready=False, reason=reason, waiting_for={})
            found.append(PipelineAnswer(stages=[], workers=[silent], stalls=[]))
        else:
            raise answer
    return together(found)


def together(answers: Sequence[PipelineAnswer]) -> PipelineAnswer:
    """The answers of several workers as one. Pure."""
    stages = [_stage_of_all(name, [s for one in answers for s in one.stages if s.stage == name]) for name in STAGES]
    return PipelineAnswer(
        stages=stages,
        workers=[worker for one in answers for worker in one.workers],
        stalls=sorted((stall for one in answers for stall in one.stalls), key=lambda stall: stall.since),
    )


def _stage_of_all(name: str, of: Sequence[StageState]) -> StageState:
    known = [one for one in of if one.oldest_since is not None]
    oldest = min(known, key=lambda one: one.oldest_since or datetime.max.replace(tzinfo=UTC), default=None)
    waiting = [one.waiting for one in of if one.waiting is not None]
    rates = [one.per_minute for one in of if one.per_minute is not None]
    return StageState(
        stage=name,
        per_minute=round(sum(rates), 1) if rates else None,
        in_flight=sum(one.in_flight for one in of),
        # partitions are each of one worker; the Redis streams are of all, and every worker measures them whole
        waiting=(max if name == "redis_in" else sum)(waiting) if waiting else None,
        oldest_since=oldest.oldest_since if oldest else None,
        waits_for=oldest.waits_for if oldest else None,
        stalled_since=min((one.stalled_since for one in of if one.stalled_since), default=None),
    )


def _own_state(app: ServedWorker) -> PipelineAnswer:
    _, ready = ready_answer(app)
    rates, behind = app.throughput.per_second(), app.throughput.behind
    oldest = {one.stage: one for one in ready.oldest}
    stalled = {one.stage: one.since for one in reversed(ready.stalls)}
    return PipelineAnswer(
        stages=[
            StageState(
                stage=name,
                per_minute=round(rates[name] * 60, 1) if name in rates else (0.0 if rates else None),
                in_flight=watch_of(app).records_in_work(name),
                waiting=metrics.unread_entries() if name == "redis_in" else behind.get(name, 0) if rates else None,
                oldest_since=oldest[name].since if name in oldest else None,
                waits_for=oldest[name].waits_for if name in oldest else None,
                stalled_since=stalled.get(name),
            )
            for name in STAGES
        ],
        workers=[
            WorkerState(
                worker=str(app.conf.canonical_url),
                answered=True,
                ready=ready.status == "ready",
                reason=ready.reason,
                waiting_for=ready.waiting_for,
            )
        ],
        stalls=ready.stalls,
    )
