"""Tells whether a service answers, from the calls that are made anyway. It sends no probes and decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vision_app.texts import say

SILENT_SECONDS = 3.0
"""A longer call is reported as trouble. Our services all answer within a few hundred milliseconds."""


class Reachability:
    """The one place that makes all calls to a service uses it: `call` around each, then `worked` or `failed`."""

    def __init__(self, silent_seconds: float = SILENT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent_seconds, self._clock = silent_seconds, clock
        self._began: dict[object, float] = {}
        self._failure = ""
        self._failed_at = 0.0

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
        if not self._failure:
            self._failed_at = self._clock()
        self._failure = why

    def gave_up(self) -> None:
        """Forget the failure: nobody tries again, so no call would end it."""
        self._failure = ""

    @property
    def trouble(self) -> str | None:
        """The last call's failure, or how long the oldest call has been without an answer; None: it answers."""
        if self._failure:
            return self._failure
        now = self._clock()
        oldest = now - min(self._began.values(), default=now)
        return say("no answer for {oldest:.0f} s", oldest=oldest) if oldest > self._silent_seconds else None

    @property
    def trouble_seconds(self) -> float:
        """For how long no call has worked, or the oldest call has been without an answer; 0: it answers."""
        if self.trouble is None:
            return 0.0
        began = [*self._began.values(), *([self._failed_at] if self._failure else [])]
        return self._clock() - min(began)
