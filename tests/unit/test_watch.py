"""What stands still and what only waits: known waits, lag without a handler, a blocked loop. Each is logged once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import structlog

from tests.fakes import event
from vision_app.streams.faust_seams import place_of
from vision_app.telemetry import watch as module
from vision_app.telemetry.metrics import REGISTRY
from vision_app.telemetry.watch import Interrupted, RecordPlace, Watch, waiting_for, within

LIMIT = 120.0
RECORD = RecordPlace("vision.media", 3, "17")


@pytest.fixture
def lines() -> Iterator[Sequence[Any]]:
    """The logged lines."""
    with structlog.testing.capture_logs() as captured:
        yield captured


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that only the test moves."""
    return Clock()


def metric(stage: str) -> float:
    return REGISTRY.get_sample_value("vision_stalled_seconds", {"stage": stage}) or 0.0


def stalls(watch: Watch) -> list[tuple[str, str]]:
    watch.look()
    return [(stall.stage, str(stall.place)) for stall in watch.stalls]


def test_work_that_waits_for_nothing_known_is_a_stall_with_its_place(clock: Clock) -> None:
    watch = Watch(LIMIT, clock=clock)
    with watch.stage("media").work(RECORD):
        clock.now += LIMIT
        assert stalls(watch) == []
        clock.now += 1
        assert stalls(watch) == [("media", "vision.media-3-17")]
        assert watch.stalls[0].seconds == pytest.approx(LIMIT + 1, abs=0.5)
        assert metric("media") == pytest.approx(LIMIT + 1, abs=0.5)
    assert stalls(watch) == []
    assert metric("media") == 0


def test_a_known_wait_is_no_stall_and_what_comes_after_it_is_measured_from_its_end(clock: Clock) -> None:
    watch = Watch(LIMIT, clock=clock)
    with watch.stage("media").work(RECORD):
        with waiting_for("s3"):
            clock.now += 10 * LIMIT
            assert stalls(watch) == []
            assert [(oldest.stage, oldest.waits_for) for oldest in watch.oldest()] == [("media", "s3")]
        clock.now += LIMIT
        assert stalls(watch) == []
        assert watch.oldest()[0].waits_for is None
        clock.now += 1
        assert stalls(watch) == [("media", "vision.media-3-17")]


def test_a_reason_that_does_not_hold_any_more_is_none(clock: Clock) -> None:
    watch, away = Watch(LIMIT, clock=clock), True
    with watch.stage("analysis").work(RECORD), waiting_for("gigachat", lambda: away):
        clock.now += LIMIT + 1
        assert stalls(watch) == []
        away = False
        clock.now += LIMIT + 1
        assert stalls(watch) == [("analysis", "vision.media-3-17")]
    with watch.stage("analysis").work(RECORD), waiting_for("gigachat", within(60, clock)):
        clock.now += 59
        assert stalls(watch) == []
        clock.now += LIMIT + 2
        assert stalls(watch) == [("analysis", "vision.media-3-17")]


async def test_a_wait_belongs_to_the_record_in_hand_also_in_tasks_of_its_own(clock: Clock) -> None:
    watch, go_on = Watch(LIMIT, clock=clock), asyncio.Event()

    async def waits() -> None:
        with waiting_for("kafka"):
            await go_on.wait()

    async def handle(place: RecordPlace, *, waiting: bool) -> None:
        with watch.stage("media").work(place):
            await (asyncio.create_task(waits()) if waiting else go_on.wait())

    tasks = [
        asyncio.create_task(handle(RECORD, waiting=True)),
        asyncio.create_task(handle(RECORD._replace(offset="18"), waiting=False)),
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.now += LIMIT + 1
    assert stalls(watch) == [("media", "vision.media-3-18")]
    go_on.set()
    await asyncio.gather(*tasks)


def test_nothing_is_judged_while_the_worker_starts_stops_or_rebalances(clock: Clock) -> None:
    at_rest = True
    watch = Watch(LIMIT, lambda: at_rest, clock=clock)
    with watch.stage("media").work(RECORD):
        clock.now += 10 * LIMIT
        assert stalls(watch) == []
        at_rest = False
        clock.now += LIMIT
        assert stalls(watch) == []
        clock.now += 1
        assert len(stalls(watch)) == 1


def test_a_record_of_an_earlier_generation_is_not_ours(clock: Clock) -> None:
    watch, ours = Watch(LIMIT, clock=clock), True
    with watch.stage("media").work(RECORD, counts=lambda: ours):
        clock.now += LIMIT + 1
        assert len(stalls(watch)) == 1
        ours = False
        assert stalls(watch) == []


# --- records without a handler ----------------------------------------------------------------------------------------

PARTITION = RecordPlace("vision.media", 3)


def report(watch: Watch, committed: int) -> list[tuple[str, str]]:
    watch.report_lag({PARTITION: ("media", committed)})
    return stalls(watch)


def test_records_without_a_handler_are_a_stall_of_their_partition(clock: Clock) -> None:
    """An agent whose task has ended, or a slot that is never completed: there are records, and nothing moves."""
    watch = Watch(LIMIT, clock=clock)
    assert report(watch, 17) == []
    clock.now += LIMIT + 1
    assert report(watch, 17) == [("media", "vision.media-3-17")]
    assert report(watch, 18) == [], "it moves"
    watch.report_lag({})
    assert stalls(watch) == []


def test_later_records_do_not_hide_a_first_one_without_a_handler(clock: Clock) -> None:
    watch = Watch(LIMIT, clock=clock)
    report(watch, 17)
    with watch.stage("media").work(RECORD._replace(offset="18")):
        clock.now += LIMIT / 2
        report(watch, 17)
    with watch.stage("media").work(RECORD._replace(offset="19")):
        clock.now += LIMIT / 2 + 1
        assert report(watch, 17) == [("media", "vision.media-3-17")]


def test_records_behind_a_stage_that_is_full_of_others_wait_their_turn(clock: Clock) -> None:
    watch = Watch(LIMIT, clock=clock)
    stage = watch.stage("media")
    stage.full = True
    with stage.work(RecordPlace("vision.media", 4, "1")), waiting_for("s3"):
        report(watch, 17)
        clock.now += LIMIT + 1
        assert report(watch, 17) == []
    clock.now += LIMIT + 1
    assert report(watch, 17) == [("media", "vision.media-3-17")], "full, but nothing is worked on: it never ends"


def test_a_held_first_record_is_judged_by_its_own_work(clock: Clock) -> None:
    watch = Watch(LIMIT, clock=clock)
    with watch.stage("media").work(RECORD), waiting_for("s3"):
        report(watch, 17)
        clock.now += LIMIT + 1
        assert report(watch, 17) == []


def test_an_old_report_is_worth_nothing(clock: Clock) -> None:
    watch = Watch(LIMIT, clock=clock)
    report(watch, 17)
    clock.now += LIMIT + 1
    assert len(report(watch, 17)) == 1
    clock.now += module.LAG_SECONDS + 1
    assert stalls(watch) == [], "Kafka cannot be asked, which is told of elsewhere"


# --- work that no handler holds ---------------------------------------------------------------------------------------


def test_a_queue_in_a_table_stands_still_when_it_has_no_reason_to(clock: Clock) -> None:
    watch = Watch(LIMIT, clock=clock)
    stage, place = watch.stage("budget"), RecordPlace("vision.budget", 3)
    stage.keep("tenant", place, "the budget of its tenant", 1)
    clock.now += LIMIT + 1
    assert stalls(watch) == []
    assert watch.oldest()[0].waits_for == "the budget of its tenant"
    stage.keep("tenant", place, None, 1)
    clock.now += LIMIT + 1
    assert stalls(watch) == [("budget", "vision.budget-3")]
    stage.keep("tenant", place, None, 2)
    assert stalls(watch) == [], "its head has moved"
    clock.now += LIMIT + 1
    assert len(stalls(watch)) == 1
    stage.stop_tracking("tenant")
    assert stalls(watch) == []


def test_a_round_waits_for_what_its_records_wait_for(clock: Clock) -> None:
    """Kafka was frozen for two minutes. The watch reported an unknown wait of the way in and advised a restart."""
    watch = Watch(LIMIT, clock=clock)
    stage, stream = watch.stage("redis_in"), RecordPlace("stream:in")
    with stage.work(stream), stage.work(stream._replace(offset="1-0")):
        with waiting_for("kafka"):
            clock.now += 10 * LIMIT
            assert stalls(watch) == []
            assert {oldest.waits_for for oldest in watch.oldest()} == {"kafka"}
        clock.now += LIMIT + 1
        assert stalls(watch) == [("redis_in", "stream:in-1-0")], "the record tells it, with its place"


def test_a_round_that_fails_again_and_again_makes_no_progress(clock: Clock) -> None:
    """If the way in repeats a round without progress, that is a stall. It is named by a record if one is known."""
    watch = Watch(LIMIT, clock=clock)
    entry = RecordPlace("stream:posts:vision", None, "5-0")
    with watch.stage("redis_in").work(RecordPlace("stream:posts:vision")) as work:
        for _ in range(10):
            clock.now += LIMIT / 10
            with watch.stage("redis_in").work(entry):
                watch.look()
        clock.now += 1
        assert stalls(watch) == [("redis_in", "stream:posts:vision")]
        with watch.stage("redis_in").work(entry):
            clock.now += LIMIT + 1
            assert stalls(watch) == [("redis_in", "stream:posts:vision-5-0")], "the record says it better"
        work.note_progress()
        assert stalls(watch) == []


def test_time_while_the_process_was_frozen_is_not_waiting(clock: Clock) -> None:
    watch = Watch(LIMIT, clock=clock)
    with watch.stage("media").work(RECORD):
        clock.now += 10 * LIMIT
        watch._extend_deadlines(10 * LIMIT)
        assert stalls(watch) == []


# --- reporting --------------------------------------------------------------------------------------------------------


def test_a_stall_and_its_end_are_reported_once(clock: Clock, lines: Sequence[Any]) -> None:
    watch = Watch(LIMIT, clock=clock)
    with watch.stage("media").work(RECORD):
        clock.now += LIMIT + 1
        for _ in range(5):
            watch.look()
    watch.look()
    assert [(line["event"], line["stage"], line["place"]) for line in lines] == [
        ("work_stalled", "media", "vision.media-3-17"),
        ("work_resumed", "media", "vision.media-3-17"),
    ]
    assert "vision dlq take vision.media-3-17" in lines[0]["remedy"]


async def test_a_blocked_event_loop_is_noticed_by_the_thread(lines: Sequence[Any]) -> None:
    watch = Watch(0.05, look_seconds=0.01)
    watch.start()
    try:
        deadline = time.monotonic() + 10
        while not lines and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251 - the test blocks the loop on purpose
        assert [stall.stage for stall in watch.stalls] == ["event_loop"]
        assert "test_a_blocked_event_loop" in lines[0]["stack"]
        async with asyncio.timeout(10):
            while watch.stalls:
                await asyncio.sleep(0.01)
    finally:
        watch.stop()


# --- interrupting -----------------------------------------------------------------------------------------------------


async def test_work_can_be_interrupted_and_a_foreign_cancellation_stays_one() -> None:
    watch, begun, ended = Watch(), asyncio.Event(), list[str]()

    async def handle() -> None:
        with watch.stage("media").work(place_of(event(17))) as work:
            try:
                with work.interruptible():
                    begun.set()
                    await asyncio.Event().wait()
            except Interrupted:
                ended.append("interrupted")
                await asyncio.sleep(0)  # it is not cancelled any more
                ended.append("went on")

    task = asyncio.create_task(handle())
    await begun.wait()
    [work] = watch.works_at("topic-0-17")
    assert work.interrupt()
    assert not work.interrupt(), "once is enough"
    await task
    assert ended == ["interrupted", "went on"]
    assert not work.interrupt(), "nothing is under way any more"

    begun.clear()
    task = asyncio.create_task(handle())
    await begun.wait()
    task.cancel()
    result = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(result[0], asyncio.CancelledError)
    assert ended == ["interrupted", "went on"]
