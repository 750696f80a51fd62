"""What is asked of the topics' copies, and what is said when there are fewer."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import KafkaError, NodeNotReadyError, RequestTimedOutError

from vision_app import kafka_topics
from vision_app.clients.kafka_faults import KafkaUnusable
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


def described(name: str, partitions: int) -> dict[str, Any]:
    return {"topic": name, "partitions": [{"replicas": [1, 2, 3], "isr": [1, 2]}] * partitions}


class Admin:
    """Describes topics as a broker that learns of one of them late."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self._answers = list(answers)

    async def describe_topics(self, _: list[str]) -> list[dict[str, Any]]:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


async def test_partitions_that_a_broker_has_not_heard_of_yet_are_waited_for() -> None:
    admin: Any = Admin([described("a", 8), described("b", 0)], [described("a", 8), described("b", 8)])
    shapes = await kafka_topics._shapes(admin, ["a", "b"], load_settings())
    assert shapes == {"a": Shape(8, 3, 2), "b": Shape(8, 3, 2)}


async def test_partitions_that_a_broker_never_hears_of_are_an_error() -> None:
    admin: Any = Admin([described("b", 0)])
    with pytest.raises(KafkaError, match="does not know the partitions of topic b"):
        await kafka_topics._shapes(admin, ["b"], load_settings(), seconds=0)


@pytest.mark.parametrize(
    ("fault", "again"),
    [
        (NodeNotReadyError("one of three has just failed"), True),
        (RequestTimedOutError("one of three is frozen"), True),
        (KafkaUnusable("the password is wrong"), False),
        (kafka_topics.TopicsUnfit("other partitions"), False),
    ],
)
def test_only_what_another_broker_can_mend_is_tried_again(fault: Exception, again: bool) -> None:
    assert kafka_topics._passes(fault) is again
