"""A message arrives in the topic of its type with the key of its entity, or the sender gets an error."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from faust.exceptions import NotReady, ProducerSendError

from tests.fakes import FakeApp, settled, until
from vision_app.messages import MediaTask, Medium, Release, Reserve
from vision_app.streams.outbox import Outbox, Oversized
from vision_app.streams.ownership import LeftUnacked
from vision_app.telemetry import metrics
from vision_app.topics import ALL, ANALYZED


@pytest.fixture
def app() -> FakeApp:
    return FakeApp()


def task(post_id: str = "p1") -> MediaTask:
    return MediaTask(tenant_id="a:b", post_id=post_id, trace_id="trace-1", medium=Medium(sha256="ab"), dispatch=1)


def for_ever() -> bool:
    return True


def failing(app: FakeApp, *faults: Exception) -> list[str]:
    """The next sends fail with these errors, in order. Returns the topics tried."""
    tried: list[str] = []
    left = list(faults)

    def refuse(topic: str, value: bytes | None) -> Exception | None:
        tried.append(topic)
        return left.pop(0) if left else None

    app.refuse = refuse
    return tried


async def test_messages_go_where_their_type_belongs_with_key_and_headers(app: FakeApp) -> None:
    await Outbox(app).send([task(), Release(tenant_id="a:b", grant_id="g")], keep_trying=for_ever)
    media, budget = app.sent
    assert (media.topic, media.key) == ("vision.media", b"a%3Ab:ab")
    assert (budget.topic, budget.key) == ("vision.budget", b"a%3Ab")
    assert (media.headers["trace_id"], media.headers["type"]) == (b"trace-1", b"media_task")
    assert media.headers["traceparent"].startswith(b"00-")
    assert media.value is not None
    assert b"\n" not in media.value


async def test_every_topic_has_a_channel_of_raw_bytes() -> None:
    made: dict[str, dict[str, object]] = {}

    class App(FakeApp):
        def topic(self, name: str, **options: object) -> object:  # type: ignore[override]  # its name stands for a topic
            made[name] = options
            return name

    outbox = Outbox(App())
    assert [outbox.channel(topic) for topic in ALL] == [topic.name for topic in ALL]
    assert all(o["key_serializer"] == o["value_serializer"] == "raw" for o in made.values())


@pytest.mark.parametrize(
    "fault", [KafkaConnectionError("away"), ProducerSendError("full"), NotReady("starting"), OSError("network")]
)
async def test_what_kafka_does_not_take_is_tried_again(app: FakeApp, fault: Exception) -> None:
    tried = failing(app, fault, fault)
    before = metrics.REGISTRY.get_sample_value("vision_retries_total", {"stage": "kafka"}) or 0
    await Outbox(app).send([task()], keep_trying=for_ever)
    assert tried == ["vision.media"] * 3
    assert len(app.sent) == 1
    assert metrics.REGISTRY.get_sample_value("vision_retries_total", {"stage": "kafka"}) == before + 2


@pytest.mark.parametrize("end", ["not ours", "stop"])
async def test_it_gives_up_when_the_event_is_lost_or_the_worker_stops(app: FakeApp, end: str) -> None:
    app.refuse = lambda topic, value: KafkaConnectionError("away")
    ours = [True]
    sending = asyncio.create_task(Outbox(app).send([task()], keep_trying=lambda: ours[0]))
    await asyncio.sleep(0.01)
    assert not sending.done()
    if end == "stop":
        app.should_stop = True
    else:
        ours[0] = False
    with pytest.raises(LeftUnacked):
        await asyncio.wait_for(sending, 2)


async def test_a_finished_answer_is_sent_once_even_when_the_worker_stops(app: FakeApp) -> None:
    app.should_stop = True
    await Outbox(app).send([task()], keep_trying=lambda: False)
    assert len(app.sent) == 1


@pytest.mark.parametrize("how", ["as it is", "as the cause"])
async def test_what_is_too_large_is_not_tried_again(app: FakeApp, how: str) -> None:
    fault: Exception = MessageSizeTooLargeError("3 MB")
    tried = failing(app, fault if how == "as it is" else _caused(fault))
    with pytest.raises(Oversized, match=r"vision\.media"):
        await Outbox(app).send([task()], keep_trying=for_ever)
    assert tried == ["vision.media"]


def _caused(fault: Exception) -> Exception:
    wrapped = ProducerSendError("Error while sending")
    wrapped.__cause__ = fault
    return wrapped


async def test_when_send_returns_nothing_is_under_way_any_more(app: FakeApp) -> None:
    """One record can never be sent. The other is still being tried when that error comes."""
    refused = [True]
    too_large: Exception = MessageSizeTooLargeError("3 MB")

    def refuse(topic: str, value: bytes | None) -> Exception | None:
        if topic == "vision.media":
            return too_large
        return KafkaConnectionError("away") if refused[0] else None

    app.refuse = refuse
    reserve = Reserve(tenant_id="t", task=task(), estimate=1)
    sending = asyncio.create_task(Outbox(app).send([task(), reserve], keep_trying=for_ever))
    await settled()
    assert not sending.done()
    refused[0] = False
    with pytest.raises(Oversized):
        await asyncio.wait_for(sending, 2)
    assert [sent.topic for sent in app.sent] == ["vision.budget"]


async def test_a_programming_error_is_raised(app: FakeApp) -> None:
    failing(app, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        await Outbox(app).send([task()], keep_trying=for_ever)


async def test_deliver_sends_one_record_as_it_is(app: FakeApp) -> None:
    await Outbox(app).deliver(ANALYZED, b"t:p", b"{}", {"trace_id": b"x"}, keep_trying=for_ever)
    await until(lambda: app.sent)
    (sent,) = app.sent
    assert (sent.topic, sent.key, sent.value, dict(sent.headers)) == (
        "posts.vision.analyzed",
        b"t:p",
        b"{}",
        {"trace_id": b"x"},
    )
