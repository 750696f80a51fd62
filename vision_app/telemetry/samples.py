"""The last hour of some of this worker's metrics, for its own alerts: as Prometheus would have it after its scrapes."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

Labels = tuple[tuple[str, str], ...]
"""Names and values, sorted by name."""


class Samples:
    """Values of series at times. Older ones than `seconds` are dropped.

    Each series has a number, and a sample is an array of the values by this number: 8 bytes a value.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._numbers: dict[str, dict[Labels, int]] = defaultdict(dict)
        self._count = 0
        self._times: list[float] = []
        self._values: list[array[float]] = []

    def add(self, at: float, values: Iterable[tuple[str, Mapping[str, str], float]]) -> None:
        """Record all series at a time, which must be later than the last one."""
        row = array("d", [math.nan] * self._count)
        for name, given, value in values:
            labels = tuple(sorted(given.items()))
            number = self._numbers[name].get(labels)
            if number is None:
                number = self._numbers[name][labels] = self._count
                self._count += 1
            row.extend([math.nan] * (number + 1 - len(row)))
            row[number] = value
        self._times.append(at)
        self._values.append(row)
        kept = bisect_left(self._times, at - self._seconds)
        del self._times[:kept], self._values[:kept]

    def times(self, start: float, end: float) -> list[float]:
        """The times of samples after `start`, up to and including `end`."""
        return self._times[bisect_right(self._times, start) : bisect_right(self._times, end)]

    def series(self, name: str, start: float, end: float) -> dict[Labels, Sequence[tuple[float, float]]]:
        """The values with their times of each series of this name, in that stretch. Those without any are left out."""
        first, last = bisect_right(self._times, start), bisect_right(self._times, end)
        places = range(first, last)
        found: dict[Labels, Sequence[tuple[float, float]]] = {}
        for labels, number in self._numbers.get(name, {}).items():
            points = [
                (self._times[place], self._values[place][number])
                for place in places
                if number < len(self._values[place]) and not math.isnan(self._values[place][number])
            ]
            if points:
                found[labels] = points
        return found
