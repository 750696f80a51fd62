"""The numbers that a queue has skipped, as ranges, which stay small for many numbers. Pure arithmetic, no queue.

A gap `(start, end)` is the numbers start ≤ n < end; gaps are sorted and never touch one another.
"""

from __future__ import annotations

from collections.abc import Sequence

Gaps = Sequence[tuple[int, int]]


def past(gaps: Gaps, number: int) -> int:
    """The first number ≥ `number` that is in no gap."""
    return next((end for start, end in gaps if start <= number < end), number)


def with_gap(gaps: Gaps, number: int) -> list[tuple[int, int]]:
    """The gaps after `number` is skipped too."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted({*gaps, (number, number + 1)}):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def above(gaps: Gaps, number: int) -> list[tuple[int, int]]:
    """The gaps that still matter once everything below `number` is gone."""
    return [(start, end) for start, end in gaps if start >= number]


def size(gaps: Gaps) -> int:
    """How many numbers are skipped."""
    return sum(end - start for start, end in gaps)
