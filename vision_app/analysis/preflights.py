"""What the preflights of this process found missing, so that a grant need not look it up once more.

It saves requests and decides nothing: right before a call the stored answer and the call's record are read in any case.
"""

from __future__ import annotations

from collections import OrderedDict

from vision_app.messages import Grant, MediaTask
from vision_app.streams.faust_seams import Event

KEPT = 10_000
"""Preflights; a task may wait for its grant for days."""

Preflight = tuple[str, str, str, int]


class Preflights:
    """The last preflights that found no answer, each with the group's generation in which it looked.

    A grant that follows from one of them in the same generation is new: nobody else had its partition since, so there
    is neither a record of its call nor an answer by another worker.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._unanswered: OrderedDict[Preflight, int] = OrderedDict()

    def note_unanswered(self, event: Event, task: MediaTask) -> None:
        """`task` with the time of its preflight (`checked`)."""
        self._unanswered[_preflight(task)] = event.message.generation_id
        if len(self._unanswered) > self._kept:
            self._unanswered.popitem(last=False)

    def is_new(self, event: Event, grant: Grant) -> bool:
        """Whether the grant in `event` follows from such a preflight. True only once for each."""
        if grant.purpose != "answer":
            return False
        return self._unanswered.pop(_preflight(grant.task), None) == event.message.generation_id


def _preflight(task: MediaTask) -> Preflight:
    return task.tenant_id, task.post_id, task.medium.sha256, task.times.get("checked", 0)
