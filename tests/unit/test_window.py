"""How much may be relayed: what is read and unfinished counts, and what was sent and is not read yet."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from bridges import window as module
from bridges.window import LEAST, MOST, Window
from vision_app.topics import ANALYSIS, BUDGET, POSTS, UPLOADED, Topic

OURS, THEIRS = 0, 1


class World:
    """A worker that owns partition 0 of every topic; its window has grown to its full size."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        self.read: dict[TP, int | None] = defaultdict(lambda: None)
        self.consumer = SimpleNamespace(unacked=[], _read_offset=self.read, assignment=self.assignment)
        self.app = SimpleNamespace(consumer=self.consumer, consumer_generation_id=1)
        self.outbox: Any = SimpleNamespace(on_sent=None)
        self.window = Window(self.app, self.outbox)
        self.window.room()
        self.window._size, self.now = MOST, 1001.0

    def assignment(self) -> set[TP]:
        return {TP(topic.name, OURS) for topic in (UPLOADED, POSTS, BUDGET, ANALYSIS)}

    def sent(self, topic: Topic, first: int, newest: int, partition: int = OURS) -> None:
        for offset in range(first, newest + 1):
            self.outbox.on_sent(TP(topic.name, partition), offset)

    def message(self, topic: Topic) -> Any:
        return SimpleNamespace(topic=topic.name, time_in=self.now)

    @property
    def taken(self) -> int:
        return MOST - self.window.room()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_what_is_read_and_not_acknowledged_counts_in_the_shared_stages_only(world: World) -> None:
    world.consumer.unacked = [world.message(topic) for topic in (POSTS, BUDGET, ANALYSIS) for _ in "12345"]
    assert world.taken == 10, "calls under way are each tenant's own"
    world.consumer.unacked *= 100
    assert world.window.room() == 0


def test_what_was_sent_counts_until_it_is_read(world: World) -> None:
    world.sent(UPLOADED, 100, 111)
    assert world.taken == 12
    world.read[TP(UPLOADED.name, OURS)] = 50  # of an earlier time
    assert world.taken == 12
    world.read[TP(UPLOADED.name, OURS)] = 105
    assert world.taken == 6
    world.read[TP(UPLOADED.name, OURS)] = 130
    assert world.taken == 0


def test_what_others_read_and_what_is_no_shared_stage_does_not_count(world: World) -> None:
    world.sent(UPLOADED, 0, 9, THEIRS)
    world.sent(ANALYSIS, 0, 9)
    assert world.taken == 0


def test_when_partitions_have_moved_counting_begins_anew(world: World) -> None:
    world.sent(UPLOADED, 0, 500)
    assert world.window.room() == 0
    world.app.consumer_generation_id = 2
    assert world.window.room() == MOST


def test_it_shrinks_while_records_take_long_and_grows_while_they_do_not(world: World) -> None:
    world.consumer.unacked = [world.message(POSTS) for _ in range(MOST)]
    sizes = []
    for _ in range(10):
        world.now += 0.4
        world.window.room()
        sizes.append(world.window._size)
    assert sizes[:3] == [MOST // 2, LEAST, LEAST]
    assert sizes[-1] == LEAST, "some go on: a slow worker has work, too"
    for _ in range(1000):
        world.now += 0.1
        world.consumer.unacked = [world.message(POSTS) for _ in range(MOST)]
        world.window.room()
    assert world.window._size == MOST


def test_what_is_not_read_for_long_shrinks_it_too(world: World) -> None:
    world.sent(POSTS, 0, 5)
    world.now += 0.4
    world.window.room()
    assert world.window._size == MOST // 2


def test_it_does_not_grow_while_there_is_nothing_to_do(world: World) -> None:
    world.window._size = LEAST
    for _ in range(10):
        assert world.window.room() == LEAST
