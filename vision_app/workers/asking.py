"""Asks all processes for a page of their metrics ports, at once and within a bounded time.

In threads, and not in the supervisor's event loop, so that the metrics port also answers while that is busy.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from vision_app.stack.ports import LOOPBACK

from .processes import Processes, Running

THREADS_EACH = 2
"""A frozen process holds a thread until its time is over; the next question must not wait for that."""


class Asker:
    """Sends GET requests to the metrics ports. `seconds`: for the answers of all to one question."""

    def __init__(self, processes: Processes, seconds: float) -> None:
        self._processes, self._seconds = processes, seconds
        self._threads = ThreadPoolExecutor(THREADS_EACH * len(processes.all), thread_name_prefix="ask")

    def ask(self, path: str) -> Mapping[str, tuple[int, bytes] | None]:
        """For each process, by name, status and body of its answer; None without one."""
        until = time.monotonic() + self._seconds
        asked: dict[str, Future[tuple[int, bytes] | None]] = {
            one.name: self._threads.submit(_get, one, path, self._seconds) for one in self._processes.all
        }
        return {name: _result(answer, until - time.monotonic()) for name, answer in asked.items()}

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _result(answer: Future[tuple[int, bytes] | None], seconds: float) -> tuple[int, bytes] | None:
    try:
        return answer.result(max(0.0, seconds))
    except TimeoutError:
        return None


def _get(process: Running, path: str, seconds: float) -> tuple[int, bytes] | None:
    asked = process.process
    if asked is None:
        return None
    connection = http.client.HTTPConnection(LOOPBACK, process.metrics_port, timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        found = answer.status, answer.read()
    except (OSError, http.client.HTTPException):  # it starts, is frozen, or has just ended
        return None
    finally:
        connection.close()
    process.heard_from = asked
    return found
