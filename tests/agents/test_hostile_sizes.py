"""An event or a message of ours that is too large fails alone: the agents go on, and no post waits for it.

The test's Kafka refuses values above the largest record, as the real one does.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from tests.agents.conftest import SHA, World, uploaded
from tests.agents.test_posts import opened, outcome
from tests.agents.test_sinks import finished
from tests.samples import analyzed
from vision_app.messages import Failed, Reserve, Skipped
from vision_app.prompts import VISION_VERSION
from vision_app.topics import MAX_MESSAGE_BYTES

KEY = b"t1:p1"
SIBLINGS = 600
"""More than the window of any agent: if one slot stayed open, the last events would never be acknowledged."""


@pytest.fixture(autouse=True)
def _kafka_takes_two_megabytes(world: World) -> None:
    def refuse(topic: str, value: Any) -> Exception | None:
        return MessageSizeTooLargeError("large") if len(value or b"") > MAX_MESSAGE_BYTES else None

    world.refuse = refuse


@pytest.mark.parametrize("size", [1_000_000, 2_050_000])
async def test_a_trace_id_of_a_million_characters_fails_only_its_own_event(world: World, size: int) -> None:
    """The policy agent once stopped after about 4,000 further posts, and again after a restart."""
    event = orjson.loads(uploaded("hostile").encode()) | {"trace_id": "x" * size}
    async with world.agent("policy") as agent:
        headers = {"trace_id": b"x" * size}
        await world.put(agent, orjson.dumps(event), headers=headers)
        await world.tell(agent, *(uploaded(f"p{number}") for number in range(SIBLINGS)))
        (letter,) = await world.letters()
    assert world.acked == SIBLINGS + 1
    assert len(world.sent("vision.posts")) == SIBLINGS
    assert (letter["origin"], letter["error"]) == ("posts.vision.uploaded", "Unreadable")
    assert letter["post_id"] == "hostile"


async def test_the_whole_of_a_letter_too_large_for_kafka_is_in_s3(world: World) -> None:
    event = orjson.loads(uploaded("hostile").encode()) | {"extra": "x" * 2_200_000}
    async with world.agent("policy") as agent:
        await world.tell(agent, orjson.dumps(event), uploaded("p1"))
    (letter,) = await world.letters()
    (key,) = world.s3.keys("dead-letters/")
    assert letter["headers"]["vision-whole"].endswith(f"/{key}")
    assert orjson.loads(orjson.loads(world.s3.objects[key])["value"]) == event


LARGEST = 100_000
"""Smaller than the real limit: logging tracebacks with megabytes of locals takes minutes."""


@pytest.mark.parametrize("substitutes", [{"max_row_bytes": LARGEST}])
@pytest.mark.parametrize("agent_name", ["media", "analysis", "budget"])
async def test_a_task_whose_trace_fills_a_record_is_dead_lettered_and_its_medium_fails(
    world: World, agent_name: str
) -> None:
    """A task written by hand or by a version without bounds: its result is larger than the task and refused."""
    world.store()
    world.refuse = lambda topic, value: MessageSizeTooLargeError("large") if len(value or b"") > LARGEST else None
    task = world.task(trace_id="x" * LARGEST)
    message = {
        "media": task,
        "analysis": world.grant(task=task),
        "budget": Reserve(tenant_id="t1", task=task, estimate=100_000_000),
    }[agent_name]
    async with world.agent(agent_name) as agent:
        await world.tell(agent, message, key=b"t1")
        await world.tell(agent, b"not a message", key=b"t1")
    letter, _ = await world.letters(2)
    assert (letter["post_id"], len(letter["trace_id"])) == ("p1", 1024)
    assert letter["error"] == "Oversized"
    told = world.sent("vision.posts")
    assert [(message["post_id"], message["sha256"]) for message in told] == [("p1", SHA)]
    assert told[0]["outcome"]["dead_letter_id"] == letter["id"]
    assert len(told[0]["trace_id"]) <= 1024
    assert world.acked == 2


async def test_an_outcome_that_makes_the_result_too_large_ends_its_medium_as_failed(world: World) -> None:
    """Before, the post was never announced: its command was dead-lettered, and the medium never ended."""
    huge = analyzed(vision_version=VISION_VERSION, faults=["x" * (MAX_MESSAGE_BYTES - 2000)])
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(), outcome(result=huge), key=KEY)
        (letter,) = await world.letters()
        (failed,) = [message for message in world.sent("vision.posts") if message["type"] == "media_outcome"]
        assert failed["outcome"]["dead_letter_id"] == letter["id"]
        await world.tell(agent, orjson.dumps(failed), key=KEY)
    assert world.sent("vision.sink.postgres")[-1]["status"] == "error"
    assert world.sent("vision.dlq") == [letter]


async def test_a_rejected_outcome_and_a_failed_companion_send_no_further_outcome(world: World) -> None:
    ending = Failed(reason="exception", details={"error": "x" * (MAX_MESSAGE_BYTES - 2000)}, dead_letter_id="d")
    async with world.agent("posts") as agent:
        await world.tell(agent, outcome(), outcome(result=ending), key=KEY)
    assert len(world.sent("vision.dlq")) == 2
    assert world.sent("vision.posts") == []


async def test_details_too_large_for_a_row_are_left_out_and_the_post_ends(world: World) -> None:
    skipped = Skipped(reason="s3_missing", details={"s3_key": "k" * 1_900_000})
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(), outcome(result=skipped), key=KEY)
    result = world.sent("vision.sink.postgres")[-1]
    assert result["status"] == "skipped"
    assert result["media"][0]["outcome"]["reason"] == "s3_missing"
    assert "reduced" in result["media"][0]["outcome"]["details"]
    assert world.sent("vision.dlq") == []


async def test_publications_of_a_post_that_fit_into_no_row_are_rejected_and_the_row_stays(world: World) -> None:
    """Before, a row larger than a record ended the process at its changelog, and again after each restart."""
    async with world.agent("posts") as agent:
        for publication in range(4):
            given = opened(input_id=str(publication))
            media = [given.event.media_files[0].model_copy(update={"sha256": f"{publication}-{n}"}) for n in range(90)]
            event = given.event.model_copy(update={"media_files": media})
            many = given.model_copy(update={"event": event, "verdicts": given.verdicts * 90})
            await world.tell(agent, many, key=KEY)
    letters = await world.letters(2)
    assert [letter["error"] for letter in letters] == ["rejected"] * 2
    assert "more than 200: publish the new ones as a new post" in letters[0]["reason"]
    assert world.order("row") == ["row posts"] * 2
    assert world.acked == 4


@pytest.mark.parametrize("substitutes", [{"max_row_bytes": 100}])
async def test_a_row_too_large_for_the_changelog_is_never_written(world: World) -> None:
    async with world.agent("posts") as agent:
        await world.tell(agent, opened(), key=KEY)
    (letter,) = await world.letters()
    assert letter["error"] == "Oversized"
    assert "more than 100" in letter["reason"]
    assert world.order() == ["send vision.dlq", "ack"]


async def test_an_announcement_that_is_too_large_goes_out_reduced(world: World) -> None:
    def refuse(topic: str, value: Any) -> Exception | None:
        whole = topic == "posts.vision.analyzed" and b'"reduced"' not in (value or b"")
        return MessageSizeTooLargeError("large") if whole else None

    world.refuse = refuse
    async with world.agent("sink-postgres") as agent:
        await world.tell(agent, finished())
    (announced,) = world.sent("posts.vision.analyzed")
    assert announced["post_id"] == "p1"
    assert announced["vision"]["ocr_text"] is None
    assert world.sent("vision.dlq") == []
