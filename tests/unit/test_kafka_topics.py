"""What is asked of the topics' copies, and what is said when there are fewer."""

from __future__ import annotations

import pytest

from vision_app.kafka_topics import Shape, wanted_topics, weaker
from vision_app.settings import Settings, SettingsError, load_settings

FINE = Shape(partitions=8, copies=3, in_sync=3, min_in_sync=2)


@pytest.fixture
def settings() -> Settings:
    return load_settings(kafka_topic_replication_factor=3, kafka_min_insync_replicas=2)


def test_every_topic_waits_for_as_many_copies_as_asked_for_changelogs_included(settings: Settings) -> None:
    wanted = wanted_topics(settings)
    assert {config["min.insync.replicas"] for config in wanted.values()} == {"2"}
    assert "vision-posts-changelog" in wanted
    assert not any("min.insync.replicas" in config for config in wanted_topics(load_settings()).values())


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (Shape(8, copies=1, in_sync=1, min_in_sync=2), "topic odd with 1 of 3 copies"),
        (Shape(8, copies=3, in_sync=3, min_in_sync=1), "min.insync.replicas=1 instead of 2"),
        (Shape(8, copies=3, in_sync=2, min_in_sync=2), "copies that are not in sync"),
    ],
)
def test_fewer_copies_are_named_with_the_remedy(settings: Settings, shape: Shape, said: str) -> None:
    (sentence,) = weaker({"fine": FINE, "odd": shape}, settings)
    assert said in sentence
    assert "fine" not in sentence


def test_as_many_or_more_copies_are_fine(settings: Settings) -> None:
    unreadable = Shape(8, copies=3, in_sync=3)  # its configuration may not be read
    assert weaker({"a": FINE, "b": Shape(8, 4, 4, 3), "c": unreadable}, settings) == []
    assert weaker({"a": Shape(8, 1, 1)}, load_settings()) == []


def test_waiting_for_more_copies_than_there_are_is_refused() -> None:
    with pytest.raises(SettingsError, match="KAFKA_MIN_INSYNC_REPLICAS=2 is more than"):
        load_settings(kafka_min_insync_replicas=2)
