"""/healthz and /readyz of a worker with several processes: green only while every process is.

Each process is asked at its metrics port, which answers also while its event loop is blocked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import ValidationError

from vision_app.texts import say
from vision_app.web.models import AliveAnswer, Answer, OldestWork, ProcessState, ReadyAnswer

from .asking import Asker
from .processes import Processes, Running

KEPT_SECONDS = 0.5
"""Anybody may ask for readiness, and each question costs one to every process."""


class NotAliveAnswer(Answer):
    status: Literal["not_alive"]
    reason: str


class Health:
    """Answers both pages. Safe to call from several threads."""

    def __init__(self, processes: Processes, asker: Asker) -> None:
        self._processes, self._asker = processes, asker
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, int, Answer]] = {}

    def alive(self) -> tuple[int, Answer]:
        """503 if a process has ended, is frozen, or has a blocked event loop. A process that starts is alive."""
        return self._fresh("/healthz")

    def ready(self) -> tuple[int, Answer]:
        """503 unless every process works on messages; the reason names those that do not."""
        return self._fresh("/readyz")

    def _fresh(self, path: Literal["/healthz", "/readyz"]) -> tuple[int, Answer]:
        with self._lock:
            at, status, answer = self._kept.get(path, (float("-inf"), 0, Answer()))
            if time.monotonic() - at > KEPT_SECONDS:
                status, answer = self._alive() if path == "/healthz" else self._ready()
                self._kept[path] = (time.monotonic(), status, answer)
            return status, answer

    def _alive(self) -> tuple[int, Answer]:
        answers = self._asker.ask("/healthz")
        broken = [one.name for one in self._processes.all if not _lives(one, answers[one.name])]
        if not broken:
            return 200, AliveAnswer(status="alive")
        text = say("broken: {names}; GET /readyz says why", names=", ".join(broken))
        return 503, NotAliveAnswer(status="not_alive", reason=text)

    def _ready(self) -> tuple[int, Answer]:
        answers = self._asker.ask("/readyz")
        told = {name: _readiness(answer) for name, answer in answers.items()}
        states = [_state(one, told[one.name]) for one in self._processes.all]
        known = [one for one in told.values() if one is not None]
        troubled = [one for one in states if one.state != "ready"]
        ready = len(states) - len(troubled)
        waiting_for: dict[str, str] = {}
        for one in known:
            waiting_for = one.waiting_for | waiting_for
        answer = ReadyAnswer(
            status="ready" if not troubled else "partly_ready" if ready else "not_ready",
            reason=_reason(ready, len(states), troubled) if troubled else None,
            waiting_for=waiting_for,
            stalls=sorted((stall for one in known for stall in one.stalls), key=lambda stall: stall.since),
            oldest=_oldest(work for one in known for work in one.oldest),
            processes=states,
        )
        return (503 if troubled else 200), answer


def _lives(one: Running, answer: tuple[int, bytes] | None) -> bool:
    """Whether it runs and answers. One that has just been started need not answer yet."""
    return one.runs and one.answers and (not one.should_answer if answer is None else answer[0] == 200)


def _readiness(answer: tuple[int, bytes] | None) -> ReadyAnswer | None:
    if answer is None:
        return None
    try:
        return ReadyAnswer.model_validate_json(answer[1])
    except ValidationError:  # another program has taken the port
        return None


def _state(one: Running, told: ReadyAnswer | None) -> ProcessState:
    process = one.process
    pid = process.pid if process else None
    if process is None:
        return ProcessState(name=one.name, pid=None, state="down", reason=one.trouble, restarts=one.restarts)
    if told is None:
        frozen = one.should_answer or not one.answers
        state: Literal["not_answering", "not_ready"] = "not_answering" if frozen else "not_ready"
        reason = say("it does not answer; it may be frozen") if frozen else one.trouble
        return ProcessState(name=one.name, pid=pid, state=state, reason=reason, restarts=one.restarts)
    if told.reason is None:
        return ProcessState(name=one.name, pid=pid, state="ready", restarts=one.restarts)
    return ProcessState(name=one.name, pid=pid, state="not_ready", reason=told.reason, restarts=one.restarts)


def _reason(ready: int, count: int, troubled: Sequence[ProcessState]) -> str:
    why = "; ".join(f"{one.name}: {one.reason}" for one in troubled)
    if ready:
        return say(
            "partly ready: {ready} of {count} processes work on messages; {why}", ready=ready, count=count, why=why
        )
    return say("none of {count} processes works on messages; {why}", count=count, why=why)


def _oldest(works: Iterable[OldestWork]) -> list[OldestWork]:
    """Of each stage the oldest work of all processes."""
    found: dict[str, OldestWork] = {}
    for work in sorted(works, key=lambda work: work.since):
        found.setdefault(work.stage, work)
    return list(found.values())
