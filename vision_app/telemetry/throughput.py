"""How many records each stage finishes, over the last minute, and how many wait for it: for the page, not for alerts.

Prometheus computes the same from the metrics; this works without it. A rate is known after two samples.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping

WINDOW_SECONDS = 60.0


class Throughput:
    """Positions by place (a partition, a stream), each with its stage. `clock`: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, Mapping[Hashable, tuple[str, int]]]] = deque()
        self.behind: Mapping[str, int] = {}

    def sample(self, positions: Mapping[Hashable, tuple[str, int]], behind: Mapping[str, int]) -> None:
        """Record how far each place has come, and how many records wait for each stage."""
        now = self._clock()
        self._samples.append((now, positions))
        self.behind = dict(behind)
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_SECONDS:
            self._samples.popleft()

    def per_second(self) -> dict[str, float]:
        """Records that each stage finished per second. A place counts only between two samples that both know it."""
        if len(self._samples) < 2:
            return {}
        done = Counter[str]()
        for (_, before), (_, after) in zip(self._samples, list(self._samples)[1:], strict=False):
            for place, (stage, position) in after.items():
                done[stage] += max(0, position - before.get(place, (stage, position))[1])
        seconds = self._samples[-1][0] - self._samples[0][0]
        return {stage: count / seconds for stage, count in done.items()} if seconds > 0 else {}
