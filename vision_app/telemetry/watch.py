"""Knows what each stage works on and what the work waits for. Reports work that stands still without a known reason.

A stage reports the records it holds (`Stage.work`). Code that waits for something says so (`waiting_for`); the wait
belongs to the record in whose handling it happens. A thread checks once a second. It also asks the event loop for a
sign of life, because the loop itself may be blocked. Not here: setting a record aside (`streams/set_aside.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog

from vision_app.texts import say

from . import metrics, spans

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
STALL_SECONDS = 120.0
"""Default: work that waits for nothing known for longer than this is a stall."""
EVENT_LOOP = "event_loop"
FRAMES = 6
"""How many innermost frames of the stack that blocks the event loop are logged."""
FROZEN_SECONDS = 5.0
"""If the watch itself is later than this, the process was stopped (SIGSTOP, a suspended machine)."""
LAG_SECONDS = 60.0
"""How long a report about partitions is valid. Without a newer one Kafka is away, which is reported elsewhere."""


class RecordPlace(NamedTuple):
    """Where a record or an entry is. `partition` is None for a Redis stream, `offset` "" for a stage as a whole."""

    topic: str
    partition: int | None = None
    offset: str = ""

    def __str__(self) -> str:
        return "-".join(str(part) for part in self if part not in (None, ""))


class Interrupted(Exception):
    """The handling of a record was interrupted because an operator has set it aside."""


class Subject(NamedTuple):
    """What a record is about: a post, or one picture of it."""

    tenant_id: str
    post_id: str
    sha256: str = ""


class Wait(NamedTuple):
    what: str
    holds: Callable[[], bool]


@dataclass(eq=False, repr=False)
class Work:
    """Records that a stage holds. `since`: when it last moved, or was last seen waiting for something known."""

    stage: str
    places: Sequence[RecordPlace]
    counts: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    since: float = field(init=False)
    began: float = field(init=False)
    waits: tuple[Wait, ...] = ()
    subjects: Sequence[Subject] = ()
    step: str = ""
    _task: asyncio.Task[Any] | None = None
    _interrupted: bool = False

    def __post_init__(self) -> None:
        self.since = self.began = self.clock()

    def __repr__(self) -> str:
        """Short, because it refers to whole records and tracebacks show it."""
        return f"Work({self.stage!r}, {self.places[0]})"

    def note_progress(self, *places: RecordPlace) -> None:
        """Note progress. From now on the stage works on these records."""
        self.since = self.began = self.clock()
        self.places = places or self.places

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that `interrupt` can end; it then raises Interrupted. Enter it in the task that does the work."""
        task = self._task = asyncio.current_task()
        self._interrupted = False
        try:
            yield
        except asyncio.CancelledError:
            if not self._interrupted or task is None:
                raise
            self._interrupted = False
            if task.uncancel():  # the task was also cancelled by other code
                raise
            raise Interrupted from None
        finally:
            if self._interrupted and task is not None:
                task.uncancel()  # code inside the block has swallowed the cancellation
            self._task = None

    def interrupt(self) -> bool:
        """Interrupt the work. False if it cannot be interrupted or was already."""
        if self._task is None or self._interrupted:
            return False
        self._interrupted = True
        return self._task.cancel()

    def known_wait(self) -> str | None:
        """What it waits for, if that is known and still true."""
        return next((wait.what for wait in self.waits if wait.holds()), None)

    @property
    def of_records(self) -> bool:
        """Whether it is work on records, and not work of a whole stage (a round, a timer)."""
        return bool(self.places[0].offset)


_current: ContextVar[Work | None] = ContextVar("work", default=None)


def stage_in_hand() -> str | None:
    """The stage of the current work; None outside of any."""
    work = _current.get()
    return work.stage if work else None


@contextlib.contextmanager
def waiting_for(what: str, holds: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Declare what the current record waits for: a provider, a service, its turn. `holds`: whether it still does.

    Without a current record it does nothing.
    """
    work = _current.get()
    if work is None:
        yield
        return
    wait = Wait(what, holds)
    work.waits = (*work.waits, wait)
    since = time.monotonic()
    try:
        yield
    finally:
        work.waits = tuple(other for other in work.waits if other is not wait)
        spans.waited(what, time.monotonic() - since)


def note_subjects(*subjects: Subject) -> None:
    """Note what the current records are about, so that they are found by their post. Replaces earlier notes."""
    if (work := _current.get()) is not None:
        work.subjects = subjects


@contextlib.contextmanager
def taking_step(step: str) -> Iterator[None]:
    """Name the step that the current record is in, for those who ask where its post is."""
    if (work := _current.get()) is None:
        yield
        return
    before, work.step = work.step, step
    try:
        yield
    finally:
        work.step = before


def within(seconds: float, clock: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """For `waiting_for`: it holds for `seconds` from now on."""
    until = clock() + seconds
    return lambda: clock() < until


@dataclass(frozen=True)
class Stall:
    """Work that stands still. `since` is seconds since the epoch."""

    stage: str
    place: RecordPlace
    since: float
    why: str

    @property
    def seconds(self) -> float:
        return max(0.0, time.time() - self.since)


@dataclass(frozen=True)
class Oldest:
    """The oldest work of a stage. `since` is seconds since the epoch; `waits_for` is None if it waits for nothing."""

    stage: str
    place: RecordPlace
    since: float
    waits_for: str | None


@dataclass(frozen=True)
class Held:
    """A record about a post that a stage has in hand. `since` is seconds since the epoch; `sha256` "": the post."""

    stage: str
    sha256: str
    since: float
    step: str
    waits_for: str | None


class Stage:
    """What one stage holds. `full`: it takes nothing new until some of its work has ended."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self._clock = name, clock
        self.full = False
        self._works: set[Work] = set()
        self._kept: dict[Hashable, tuple[Work, object]] = {}
        self._lock = threading.Lock()  # the watch's thread reads

    @contextlib.contextmanager
    def work(self, *places: RecordPlace, counts: Callable[[], bool] = lambda: True) -> Iterator[Work]:
        """Hold records for the length of the block. When `counts` returns False, they belong to another worker."""
        work = Work(self.name, places, counts, self._clock)
        with self._lock:
            self._works.add(work)
        token = _current.set(work)
        try:
            yield work
        finally:
            _current.reset(token)
            with self._lock:
                self._works.discard(work)

    def keep(self, key: Hashable, place: RecordPlace, waits_for: str | None, progress: object) -> None:
        """Track work without a handler (a queue in a table) until `stop_tracking`. It moved when `progress` changes."""
        new = Work(self.name, [place], lambda: True, self._clock)
        work, before = self._kept.get(key) or (new, progress)
        work.waits = (Wait(waits_for, lambda: True),) if waits_for else ()
        if before != progress:
            work.note_progress()
        self._kept[key] = work, progress
        with self._lock:
            self._works.add(work)

    def stop_tracking(self, key: Hashable) -> None:
        if found := self._kept.pop(key, None):
            with self._lock:
                self._works.discard(found[0])

    def works(self) -> list[Work]:
        """All held work that counts, the oldest first."""
        with self._lock:
            found = list(self._works)
        return sorted((work for work in found if work.counts()), key=lambda work: work.began)


def _wait_of(work: Work, works: Sequence[Work]) -> str | None:
    """What a work waits for. The work of a whole stage waits for what one of the stage's records waits for."""
    if (known := work.known_wait()) is not None or work.of_records:
        return known
    return next((wait for other in works if other.of_records and (wait := other.known_wait()) is not None), None)


@dataclass
class _Partition:
    """A partition with un-acknowledged records. `since`: when it was first seen at `committed`."""

    committed: int
    since: float
    is_stalled: bool = False


class Watch:
    """All stages of one worker. `at_rest`: the worker starts, stops or rebalances, so nothing counts as a stall.

    `look_seconds`: the pause between two checks by the thread. `clock`: seconds that never go back.
    """

    def __init__(
        self,
        stall_seconds: float = STALL_SECONDS,
        at_rest: Callable[[], bool] = lambda: False,
        *,
        look_seconds: float = LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stall_seconds, self._at_rest = stall_seconds, at_rest
        self._look_seconds, self._clock = look_seconds, clock
        self.stalls: tuple[Stall, ...] = ()
        self._stages: dict[str, Stage] = {}
        self._partitions: dict[RecordPlace, tuple[str, _Partition]] = {}
        self._lag_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0
        self._loop_at = clock()
        self._asked_loop = False
        self._reported: dict[tuple[str, RecordPlace], Stall] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def stage(self, name: str) -> Stage:
        """The stage of this name. Its metric exists from now on."""
        if name not in self._stages:
            metrics.STALLED.labels(stage=name)
            added = Stage(name, self._clock)
            self._stages = {**self._stages, name: added}  # a new dict: the thread iterates over the old one
        return self._stages[name]

    # --- the thread ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread. Call it from the event loop that is watched."""
        self.stop()
        self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
        self._loop_at, self._asked_loop = self._clock(), False
        self._ended.clear()
        self._thread = threading.Thread(target=self._look_for_ever, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None

    def _look_for_ever(self) -> None:
        looked_at = self._clock()
        while not self._ended.wait(self._look_seconds):
            try:
                now = self._clock()
                if now - looked_at > self._look_seconds + FROZEN_SECONDS:
                    self._extend_deadlines(now - looked_at)
                looked_at = now
                self._ask_loop()
                self.look()
            except Exception:  # the watch survives its own errors
                metrics.UNEXPECTED_ERRORS.labels(where="watch").inc()
                log.exception("watch_failed")

    def _extend_deadlines(self, seconds: float) -> None:
        """Subtract the time for which the whole process was frozen, this thread included."""
        self._loop_at += seconds
        for stage in self._stages.values():
            for work in stage.works():
                work.since += seconds
        for _, partition in self._partitions.values():
            partition.since += seconds

    def _ask_loop(self) -> None:
        if not self._asked_loop and self._loop is not None:
            self._asked_loop = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker has ended
                self._loop.call_soon_threadsafe(self._loop_answers)

    def _loop_answers(self) -> None:
        self._loop_at, self._asked_loop = self._clock(), False

    # --- judging ------------------------------------------------------------------------------------------------------

    @property
    def loop_silent_seconds(self) -> float:
        """Seconds since the event loop's last sign of life."""
        return self._clock() - self._loop_at if self._asked_loop else 0.0

    def look(self) -> None:
        """Find stalls in all held work. Set the metrics, and log what has changed."""
        now, found = self._clock(), list[Stall]()
        if self.loop_silent_seconds > self.stall_seconds:
            why = say("the event loop is blocked; nothing goes on in this worker")
            found.append(self._stall(EVENT_LOOP, RecordPlace(EVENT_LOOP), self._loop_at, why))
        for stage in self._stages.values():
            works = stage.works()
            for work in works:
                if self._at_rest() or _wait_of(work, works) is not None:
                    work.since = now
            oldest = max((now - work.since for work in works if work.of_records), default=0.0)
            for work in works:
                told_by_a_record = not work.of_records and oldest > self.stall_seconds / 2
                if now - work.since > self.stall_seconds and not told_by_a_record:
                    found.append(self._stall(stage.name, work.places[0], work.since, say("it waits for nothing known")))
        if now - self._lag_at < LAG_SECONDS and not self._at_rest():
            for place, (name, partition) in self._partitions.items():
                if partition.is_stalled:
                    at = place._replace(offset=str(partition.committed))
                    found.append(self._stall(name, at, partition.since, say("nobody works on it")))
        self._report(found)

    def report_lag(self, behind: Mapping[RecordPlace, tuple[str, int]]) -> None:
        """Report this worker's partitions with un-acknowledged records: their stage and the first such offset.

        A partition stands still if no handler holds its first record for too long and its stage is not full.
        """
        now, partitions = self._clock(), dict[RecordPlace, tuple[str, _Partition]]()
        for place, (name, committed) in behind.items():
            _, known = self._partitions.get(place, (name, _Partition(committed, now)))
            partition = known if known.committed == committed else _Partition(committed, now)
            works = [work for work in self.stage(name).works() if work.of_records]
            head = place._replace(offset=str(committed))
            if any(head in work.places for work in works) or (self.stage(name).full and works) or self._at_rest():
                partition.since = now
            partition.is_stalled = now - partition.since > self.stall_seconds
            partitions[place] = name, partition
        self._partitions, self._lag_at = partitions, now

    def _stall(self, stage: str, place: RecordPlace, since: float, why: str) -> Stall:
        return Stall(stage, place, time.time() - (self._clock() - since), why)

    def _report(self, found: Sequence[Stall]) -> None:
        self.stalls = tuple(sorted(found, key=lambda stall: stall.since))
        for name in (*self._stages, EVENT_LOOP):
            longest = max((stall.seconds for stall in found if stall.stage == name), default=0.0)
            metrics.STALLED.labels(stage=name).set(longest)
        told = {(stall.stage, stall.place): stall for stall in found}
        for key in told.keys() - self._reported.keys():
            stall = told[key]
            more = {"stack": self._loop_stack()} if stall.stage == EVENT_LOOP else {}
            log.error(
                "work_stalled",
                stage=stall.stage,
                place=str(stall.place),
                seconds=round(stall.seconds),
                reason=stall.why,
                remedy=remedy(stall),
                **more,
            )
        for key in self._reported.keys() - told.keys():
            log.info("work_resumed", stage=key[0], place=str(key[1]))
        self._reported = told

    def _loop_stack(self) -> str:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - it is documented; there is no public name
        return "".join(traceback.format_stack(frame)[-FRAMES:]) if frame else "unknown"

    # --- showing ------------------------------------------------------------------------------------------------------

    def oldest(self) -> list[Oldest]:
        """The oldest work of each stage that holds any, and what it waits for."""
        found = []
        for stage in self._stages.values():
            if works := stage.works():
                first = works[0]
                since = time.time() - (self._clock() - first.began)
                found.append(Oldest(stage.name, first.places[0], since, _wait_of(first, works)))
        return found

    def held_of(self, tenant_id: str, post_id: str) -> list[Held]:
        """The records about a post that this worker has in hand, the oldest first."""
        found = []
        for stage in self._stages.values():
            works = stage.works()
            for work in works:
                since = time.time() - (self._clock() - work.began)
                found += [
                    Held(stage.name, about.sha256, since, work.step, _wait_of(work, works))
                    for about in set(work.subjects)
                    if (about.tenant_id, about.post_id) == (tenant_id, post_id)
                ]
        return sorted(found, key=lambda held: held.since)

    def records_in_work(self, stage: str) -> int:
        """Records that a stage has in work now; 0 for a stage that does not exist."""
        works = self._stages[stage].works() if stage in self._stages else []
        return sum(len(work.places) for work in works if work.of_records)

    def works_at(self, place: str) -> list[Work]:
        """The works that hold the record at a place."""
        held = [work for stage in self._stages.values() for work in stage.works()]
        return [work for work in held if place in map(str, work.places)]


def remedy(stall: Stall) -> str:
    """What a person can do about a stall."""
    if stall.stage == EVENT_LOOP or not stall.place.offset:
        return say("restart the worker; the log has the reason")
    return say("vision dlq take {place} --reason TEXT --dry-run; if it stays, restart the worker", place=stall.place)
