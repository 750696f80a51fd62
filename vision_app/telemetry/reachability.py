"""Tells whether a service answers, from the calls that are made anyway. It sends no probes and decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SILENT_SECONDS = 3.0
"""A longer call is reported as trouble. Our services all answer within a few hundred milliseconds."""


class Reachability:
    """The one place that makes all calls to a service uses it: `call` around each, then `worked` or `failed`."""

    def __init__(self, silent_seconds: float = SILENT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent_seconds, self._clock = silent_seconds, clock
        self._began: dict[object, float] = {}
        self._failure = ""

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wrap one call, whether it works or fails."""
        ticket = object()
        self._began[ticket] = self._clock()
        try:
            yield
        finally:
            del self._began[ticket]

    def worked(self) -> None:
        self._failure = ""

    def failed(self, why: str) -> None:
        self._failure = why

    @property
    def trouble(self) -> str | None:
        """The last call's failure, or how long the oldest call has been without an answer; None: it answers."""
        if self._failure:
            return self._failure
        now = self._clock()
        oldest = now - min(self._began.values(), default=now)
        return f"no answer for {oldest:.0f} s" if oldest > self._silent_seconds else None
