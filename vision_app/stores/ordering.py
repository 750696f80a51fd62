"""Decides which of several results of one post counts. All sinks use this rule.

A later emission replaces an earlier one. But a result without any analysis never replaces one with an analysis, so that
no analysis is lost. Results in work are not results yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vision_app.messages import Analysis, Analyzed, MediumResult, PostResult


class ObservedMedium(NamedTuple):
    """An analyzed medium with its outcome and analysis."""

    medium: MediumResult
    outcome: Analyzed
    analysis: Analysis


def seen(result: PostResult) -> list[ObservedMedium]:
    """The analyzed media of a post, in list order, twins included."""
    return [
        ObservedMedium(medium, medium.outcome, medium.outcome.answer.analysis)
        for medium in result.media
        if isinstance(medium.outcome, Analyzed) and medium.outcome.answer.analysis is not None
    ]


def finished(result: PostResult) -> bool:
    return result.status != "in_work"


def latest(batch: Sequence[PostResult], indices: Iterable[int]) -> list[int]:
    """Of the records at `indices`, the latest of each post: the largest emission, at a tie the last. In batch order."""
    best: dict[bytes, int] = {}
    for index in indices:
        held = best.get(batch[index].key)
        if held is None or not batch[index].emission < batch[held].emission:
            best[batch[index].key] = index
    return sorted(best.values())


def winners(batch: Sequence[PostResult]) -> list[int]:
    """The finished record that counts, for each post: the latest with an analysis, else the latest."""
    done = [index for index, result in enumerate(batch) if finished(result)]
    analyzed = latest(batch, [index for index in done if seen(batch[index])])
    decided = {batch[index].key for index in analyzed}
    return sorted(analyzed + latest(batch, [index for index in done if batch[index].key not in decided]))
