"""What /api/v1/pipeline answers: every stage of the pipeline, over all workers."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from .models import Answer, StalledWork


class StageState(BaseModel):
    """A stage, with the work of all workers that answered."""

    stage: str = Field(description="redis_in, policy, posts, media, budget, analysis, sink-… or redis_out")
    per_minute: float | None = Field(description="records finished in the last minute; null until it is known")
    in_flight: int = Field(description="records in work now")
    waiting: int | None = Field(description="records on the stage's topic that nobody has finished, those in work too")
    oldest_since: datetime | None = Field(description="since when the oldest record is in work")
    waits_for: str | None = Field(description="what the oldest record in work waits for; null if for nothing")
    stalled_since: datetime | None = Field(description="set if work stands still and waits for nothing known")


class WorkerState(BaseModel):
    worker: str = Field(description="its address")
    answered: bool
    ready: bool
    reason: str | None = Field(description="why it is not ready, or why it did not answer")
    waiting_for: dict[str, str] = Field(description="services that hold something back, and why")


class PipelineAnswer(Answer):
    """All stages in the order of the way of a post, the workers, and what stands still, the longest first."""

    stages: list[StageState]
    workers: list[WorkerState]
    stalls: list[StalledWork]
