"""Whether a service answers, learned from the calls that are made anyway. It probes nothing and decides nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SILENT_SECONDS = 3.0
"""A call that takes longer is told of; every service of ours answers within a few hundred milliseconds."""


class Reachability:
    """Fed by the one place through which all calls to a service go: `call` around each, then `worked` or `failed`."""

    def __init__(self) -> None:
        self._began: dict[object, float] = {}
        self._failure = ""

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call, whatever becomes of it."""
        ticket = object()
        self._began[ticket] = time.monotonic()
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
        oldest = time.monotonic() - min(self._began.values(), default=time.monotonic())
        return f"no answer for {oldest:.0f} s" if oldest > SILENT_SECONDS else None
