"""How much may be relayed: what is read and unfinished counts, and what was sent and is not read yet."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from bridges.window import WINDOW, Window
from vision_app.topics import ANALYSIS, BUDGET, POSTS, UPLOADED, Topic

OURS, THEIRS = 0, 1


class World:
    """A worker that owns partition 0 of every topic."""

    def __init__(self) -> None:
        self.read: dict[TP, int | None] = defaultdict(lambda: None)
        self.consumer = SimpleNamespace(unacked=[], _read_offset=self.read, assignment=self.assignment)
        self.app = SimpleNamespace(consumer=self.consumer, consumer_generation_id=1)
        self.outbox: Any = SimpleNamespace(newest={})
        self.window = Window(self.app, self.outbox)
        assert self.window.room() == WINDOW

    def assignment(self) -> set[TP]:
        return {TP(topic.name, OURS) for topic in (UPLOADED, POSTS, BUDGET, ANALYSIS)}

    def sent(self, topic: Topic, first: int, newest: int, partition: int = OURS) -> None:
        self.outbox.newest[TP(topic.name, partition)] = (first, newest)

    @property
    def taken(self) -> int:
        return WINDOW - self.window.room()


def test_what_is_read_and_not_acknowledged_counts_in_the_shared_stages_only() -> None:
    world = World()
    world.consumer.unacked = [SimpleNamespace(topic=topic.name) for topic in (POSTS, BUDGET, ANALYSIS) for _ in "12345"]
    assert world.taken == 10, "calls under way are each tenant's own"
    world.consumer.unacked *= 100
    assert world.window.room() == 0


def test_what_was_sent_counts_until_it_is_read() -> None:
    world = World()
    world.sent(UPLOADED, 100, 119)
    assert world.taken == 20
    world.read[TP(UPLOADED.name, OURS)] = 50  # of an earlier time
    assert world.taken == 20
    world.read[TP(UPLOADED.name, OURS)] = 109
    assert world.taken == 10
    world.read[TP(UPLOADED.name, OURS)] = 130
    assert world.taken == 0


def test_what_others_read_and_what_is_no_shared_stage_does_not_count() -> None:
    world = World()
    world.sent(UPLOADED, 0, 9, THEIRS)
    world.sent(ANALYSIS, 0, 9)
    assert world.taken == 0


def test_when_partitions_have_moved_counting_begins_anew() -> None:
    world = World()
    world.sent(UPLOADED, 0, 500)
    assert world.window.room() == 0
    world.app.consumer_generation_id = 2
    assert world.window.room() == WINDOW
