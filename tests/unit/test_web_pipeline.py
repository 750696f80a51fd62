"""GET /api/v1/pipeline: the stages of all workers as one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from vision_app.web.pipeline import STAGES, together
from vision_app.web.pipeline_models import PipelineAnswer, StageState, WorkerState

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def worker(**of: StageState) -> PipelineAnswer:
    states = [WorkerState(worker="w", answered=True, ready=True, reason=None, waiting_for={})]
    return PipelineAnswer(stages=list(of.values()), workers=states, stalls=[])


def stage(name: str, **more: object) -> StageState:
    idle = {"per_minute": None, "in_flight": 0, "waiting": None, "oldest_since": None, "waits_for": None}
    return StageState.model_validate({"stage": name, "stalled_since": None, **idle, **more})


def test_rates_work_and_backlog_of_partitions_add_up() -> None:
    one = worker(a=stage("media", per_minute=10.0, in_flight=2, waiting=5))
    two = worker(a=stage("media", per_minute=None, in_flight=1, waiting=7))
    (media,) = [found for found in together([one, two]).stages if found.stage == "media"]
    assert (media.per_minute, media.in_flight, media.waiting) == (10.0, 3, 12)


def test_the_redis_streams_are_counted_once_though_every_worker_measures_them() -> None:
    found = together([worker(a=stage("redis_in", waiting=9)), worker(a=stage("redis_in", waiting=8))])
    assert found.stages[0].waiting == 9


def test_the_oldest_work_of_all_is_shown_with_what_it_waits_for() -> None:
    old = stage("analysis", oldest_since=NOW - timedelta(hours=1), waits_for="provider")
    new = stage("analysis", oldest_since=NOW, waits_for=None, stalled_since=NOW)
    (found,) = [one for one in together([worker(a=new), worker(a=old)]).stages if one.stage == "analysis"]
    assert (found.oldest_since, found.waits_for, found.stalled_since) == (NOW - timedelta(hours=1), "provider", NOW)


def test_every_stage_is_shown_though_no_worker_answered() -> None:
    assert [one.stage for one in together([]).stages] == list(STAGES)
