"""Each step of our fetches does what aiokafka's does. A version of aiokafka that has not been compared fails here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from io import BytesIO
from typing import Any

import aiokafka
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11, FetchResponse_v11
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import PartitionMetadata, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from vision_app.clients.kafka_fetch import TESTED_VERSIONS, QuickChoice, QuickFetch, quicken_fetches

PLACES = [TopicPartition(topic, partition) for topic in ("posts", "vision.медиа", "x" * 200) for partition in range(3)]
INT64 = st.integers(-(2**63), 2**63 - 1)
OFFSETS = st.integers(0, 2**63 - 1)
VERSIONS = {FetchRequest.API_KEY: (4, 11)}


def batch(values: list[bytes]) -> bytes:
    """Records as a broker sends them."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**20)
    for number, value in enumerate(values):
        builder.append(number, 1, b"key", value, [])
    return bytes(builder.build())


RECORDS = st.one_of(
    st.just(b""),
    st.lists(st.binary(max_size=9), min_size=1, max_size=2).map(batch),
    st.just(batch([b"cut off"])[:-3]),
)
ERRORS = st.one_of(st.just(0), st.just(0), st.just(0), st.sampled_from([1, 3, 6, 29, 999]))
ABORTED: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.just([]), st.just([]), st.lists(st.tuples(st.integers(0, 2), OFFSETS), max_size=2)
)
ANSWERS = st.tuples(ERRORS, INT64, INT64, INT64, ABORTED, st.integers(-1, 3), RECORDS)


class Cluster:
    """A fetcher with places assigned to it, without a broker and without its loop."""

    def __init__(self, leaders: dict[TopicPartition, int], **options: Any) -> None:
        self.client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
        self.refreshes = 0
        self.client.force_metadata_update = self._refresh
        self.lead(leaders)
        subscription = SubscriptionState()
        subscription.assign_from_user(PLACES)
        self.fetcher = Fetcher(self.client, subscription, **options)
        self.fetcher._fetch_task.cancel()
        self.assignment = subscription.subscription.assignment

    def _refresh(self) -> None:
        self.refreshes += 1

    def lead(self, leaders: dict[TopicPartition, int]) -> None:
        """What the client does with new metadata."""
        found: dict[str, dict[int, PartitionMetadata]] = {}
        for place, leader in leaders.items():
            found.setdefault(place.topic, {})[place.partition] = PartitionMetadata(*place, leader, [], [], 0)
        self.client.cluster._partitions = found

    def state(self, place: TopicPartition) -> Any:
        return self.assignment.state_value(place)

    def seek(self, offsets: dict[TopicPartition, int]) -> None:
        for place, offset in offsets.items():
            self.state(place).seek(offset)

    def hold(self, place: TopicPartition, backoff: float) -> None:
        """As if records of this partition were waiting for the consumer."""
        self.fetcher._records[place] = FetchResult(place, assignment=None, partition_records=None, backoff=backoff)

    def finish(self, request: Any, answer: Callable[[Any], Any]) -> Any:
        """Let the fetcher process an answer. Returns what it returns."""

        async def send(node: int, sent: Any) -> Any:
            return answer(sent)

        self.client.send = send
        working: Coroutine[Any, Any, Any] = self.fetcher._proc_fetch_request(self.assignment, 1, request)
        try:
            working.send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("it waits for something")

    def seen(self) -> Any:
        """Everything that an answer changes."""
        states = []
        for place in PLACES:
            state = self.state(place)
            checked = (state.timestamp or 0) > 0
            states.append((state._position, state.reset_strategy, state.highwater, state.lso, checked))
        return states, {place: contents(held) for place, held in self.fetcher._records.items()}, self.refreshes


def contents(held: Any) -> Any:
    if not isinstance(held, FetchResult):
        return repr(held)
    records: PartitionRecords = held._partition_records
    aborted = records._aborted_transactions
    return records.next_fetch_offset, aborted, [(one.offset, one.key, one.value) for one in records]


def led(node: int = 1) -> dict[TopicPartition, int]:
    return dict.fromkeys(PLACES, node)


def chosen(actions: Any) -> Any:
    """Actions without the order in which partitions are asked, which is random."""
    requests, resets, wait, stale, resumed = actions
    asked = {
        node: sorted((topic, *one) for topic, partitions in request.topics for one in partitions)
        for node, request in requests
    }
    limits = [
        (one._max_wait_ms, one._min_bytes, one._max_bytes, one._isolation_level, one._rack_id) for _, one in requests
    ]
    return asked, limits, {node: sorted(places) for node, places in resets.items()}, wait, stale, set(resumed)


async def the_request(cluster: Cluster) -> Any:
    ((_, request),) = QuickChoice(cluster.fetcher)(cluster.assignment)[0]
    return request


def of_aiokafka(request: QuickFetch, fetcher: Fetcher) -> FetchRequest:
    limits = fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes, fetcher._fetch_max_bytes
    return FetchRequest(*limits, fetcher._isolation_level, request.topics, "")


def decode(version: Any, frame: bytes) -> Any:
    """What the connection does with a frame, after its header of four bytes."""
    data = BytesIO(b"head" + frame)
    data.read(4)
    return version.RESPONSE_TYPE.decode(data)


def encoded(answers: dict[TopicPartition, Any], asked: list[Any], error: int = 0) -> bytes:
    """The broker's answer, in the order of the request. A partition without an answer is left out."""
    topics = []
    for topic, partitions in asked:
        told = [(one[0], *answers[at]) for one in partitions if (at := TopicPartition(topic, one[0])) in answers]
        topics.append((topic, told))
    return bytes(FetchResponse_v11(0, error, 0, topics).encode())


def test_this_version_of_aiokafka_was_compared() -> None:
    assert aiokafka.__version__ in TESTED_VERSIONS, "compare its fetcher with vision_app/clients/kafka_fetch.py"
    assert "self._get_actions_per_node(" in inspect.getsource(Fetcher._fetch_requests_routine)
    assert "self._fetcher = Fetcher(" in inspect.getsource(AIOKafkaConsumer.start)


class Consumer:
    """As AIOKafkaConsumer: its fetcher is there after its start."""

    _fetcher: Any = None

    async def start(self) -> None:
        self._fetcher = Cluster(led()).fetcher


async def test_a_consumers_fetcher_is_quickened_at_its_start() -> None:
    consumer = Consumer()
    quicken_fetches(consumer)
    await consumer.start()
    assert isinstance(consumer._fetcher._get_actions_per_node, QuickChoice)


async def test_another_version_of_aiokafka_is_left_alone_with_a_warning() -> None:
    consumer = Consumer()
    with capture_logs() as lines:
        quicken_fetches(consumer, version="0.15.0")
    await consumer.start()
    assert not isinstance(consumer._fetcher._get_actions_per_node, QuickChoice)
    assert [(line["event"], line["log_level"]) for line in lines] == [("kafka_fetches_not_quickened", "warning")]


@given(st.dictionaries(st.sampled_from(PLACES), OFFSETS, min_size=1), st.integers(0, 2**31 - 1), st.booleans())
async def test_a_request_has_the_bytes_of_aiokafkas(
    offsets: dict[TopicPartition, int], limit: int, committed: bool
) -> None:
    cluster = Cluster(
        led(),
        fetch_max_bytes=limit,
        max_partition_fetch_bytes=limit,
        isolation_level="read_committed" if committed else "read_uncommitted",
    )
    cluster.seek(dict.fromkeys(PLACES, 0))
    for place in set(PLACES) - set(offsets):
        cluster.state(place).pause()
    choice = QuickChoice(cluster.fetcher)
    for step in (0, 1, 1):  # the second one writes other offsets, the third one the kept bytes
        cluster.seek({place: max(0, offset - step) for place, offset in offsets.items()})
        ((_, request),) = choice(cluster.assignment)[0]
        theirs = of_aiokafka(request, cluster.fetcher)
        for versions in (VERSIONS, {1: (4, 4)}, {1: (4, 8)}):
            assert request.prepare(versions).encode() == theirs.prepare(versions).encode()
        assert sorted(TopicPartition(topic, one[0]) for topic, them in request.topics for one in them) == sorted(
            offsets
        )


async def test_partitions_are_asked_in_another_order_each_time() -> None:
    cluster = Cluster(led())
    cluster.seek(dict.fromkeys(PLACES, 0))
    assert len({str((await the_request(cluster)).topics) for _ in range(30)}) > 5


@given(
    st.dictionaries(st.sampled_from(PLACES), ANSWERS),
    st.dictionaries(st.sampled_from(PLACES), OFFSETS, max_size=2),
    st.sampled_from([0, 0, 0, 70]),
    st.booleans(),
    st.booleans(),
)
async def test_an_answer_has_the_effects_of_aiokafkas(
    answers: dict[TopicPartition, Any],
    sought: dict[TopicPartition, int],
    error: int,
    committed: bool,
    reassigned: bool,
) -> None:
    isolation = "read_committed" if committed else "read_uncommitted"
    ours, theirs = (Cluster(led(), isolation_level=isolation, auto_offset_reset="earliest") for _ in "12")
    for cluster in (ours, theirs):
        cluster.seek(dict.fromkeys(PLACES, 1))
    request = await the_request(ours)
    plain = of_aiokafka(request, ours.fetcher)
    frame = encoded(answers, request.topics, error)
    for cluster in (ours, theirs):
        cluster.seek(sought)  # after the request
    if reassigned:
        theirs.assignment._unassign()
        ours.assignment._unassign()
        assert not ours.finish(request, lambda sent: decode(sent.prepare(VERSIONS), frame))
        assert ours.fetcher._records == theirs.fetcher._records == {}
        return
    woken = [
        cluster.finish(asked, lambda sent: decode(sent.prepare(VERSIONS), frame))
        for cluster, asked in ((ours, request), (theirs, plain))
    ]
    assert woken[0] == woken[1]
    assert ours.seen() == theirs.seen()


@given(st.dictionaries(st.sampled_from(PLACES), ANSWERS, min_size=1), st.data())
async def test_a_damaged_answer_fails_or_is_read_as_by_aiokafka(
    answers: dict[TopicPartition, Any], data: st.DataObject
) -> None:
    cluster = Cluster(led())
    cluster.seek(dict.fromkeys(PLACES, 1))
    request = await the_request(cluster)
    frame = bytearray(encoded(answers, request.topics))
    if data.draw(st.booleans()):
        frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(0, 255))
    damaged = bytes(frame[: len(frame) - data.draw(st.integers(0, 5))])
    try:
        theirs = decode(FetchRequest_v11, damaged)
    except (ValueError, MemoryError, OverflowError) as wrong:
        with pytest.raises(type(wrong)):
            decode(request.prepare(VERSIONS), damaged)
        return
    ours = decode(request.prepare(VERSIONS), damaged)
    told = {(topic, one[0]): one for topic, partitions in theirs.topics or [] for one in partitions}
    assert {(topic, one[0]) for topic, them in ours.topics or [] for one in them} <= told.keys()
    for topic, partitions in ours.topics or []:
        for one in partitions:
            assert tuple(one) == told[topic, one[0]]


async def test_only_partitions_with_records_are_left_to_the_fetcher() -> None:
    cluster = Cluster(led())
    cluster.seek(dict.fromkeys(PLACES, 1))
    request = await the_request(cluster)
    empty, full = (0, 7, 6, 0, None, -1, b""), (0, 7, 6, 0, None, -1, batch([b"one", b"two"]))
    frame = encoded(dict.fromkeys(PLACES, empty) | {PLACES[4]: full}, request.topics)
    answer = decode(request.prepare(VERSIONS), frame)
    assert answer.topics == [(PLACES[4].topic, [(PLACES[4].partition, *full)])]
    assert request.topics == [(PLACES[4].topic, [(PLACES[4].partition, 1, cluster.fetcher._max_partition_fetch_bytes)])]
    assert {(cluster.state(place).highwater, cluster.state(place).lso) for place in PLACES if place != PLACES[4]} == {
        (7, 6)
    }
    assert MemoryRecords(answer.topics[0][1][0][-1]).has_next()


async def test_a_request_can_be_written_to_the_log() -> None:
    cluster = Cluster(led())
    cluster.seek(dict.fromkeys(PLACES, 77))
    assert "77" in repr((await the_request(cluster)).prepare(VERSIONS))


@given(
    st.lists(st.sampled_from([1, 2, 1, 2, 1, 2, -1]), min_size=len(PLACES), max_size=len(PLACES)),
    st.sampled_from([(True, True), (True, True), (True, False), (False, True)]),
    st.dictionaries(st.sampled_from(PLACES), OFFSETS),
    st.sets(st.sampled_from(PLACES)),
    st.dictionaries(st.sampled_from(PLACES), st.sampled_from([0, 1000, 3600])),
    st.sets(st.sampled_from([1, 2])),
    st.sets(st.sampled_from(PLACES), max_size=1),
    st.sampled_from([None, None, "rack"]),
)
async def test_what_is_done_next_is_what_aiokafka_does(
    leaders: list[int],
    complete: tuple[bool, bool],
    offsets: dict[TopicPartition, int],
    paused: set[TopicPartition],
    held: dict[TopicPartition, float],
    in_flight: set[int],
    nearer: set[TopicPartition],
    rack: str | None,
) -> None:
    known_leaders, known_positions = complete
    cluster = Cluster(led(), client_rack=rack)
    if known_positions:
        cluster.seek(dict.fromkeys(PLACES, 5))
    cluster.seek(offsets)
    for place in paused:
        cluster.state(place).pause()
    for place, backoff in held.items():
        cluster.hold(place, backoff)
    cluster.fetcher._in_flight |= in_flight
    for place in nearer if rack else ():
        cluster.fetcher._update_preferred_read_replica(place, 2)
    by_aiokafka, ours = cluster.fetcher._get_actions_per_node, QuickChoice(cluster.fetcher)
    for number in range(3):  # with one leader, then with others, then without waiting records
        theirs, also = chosen(by_aiokafka(cluster.assignment)), chosen(ours(cluster.assignment))
        assert also[3] == pytest.approx(theirs[3], abs=1)
        assert (*also[:3], *also[4:]) == (*theirs[:3], *theirs[4:])
        if number == 0:
            cluster.lead(
                dict(zip(PLACES, [abs(leader) if known_leaders else leader for leader in leaders], strict=True))
            )
        else:
            cluster.fetcher._records.clear()
            cluster.seek(dict.fromkeys(PLACES, 6 + number))


async def test_a_new_assignment_has_its_own_positions() -> None:
    cluster = Cluster(led())
    cluster.seek(dict.fromkeys(PLACES, 5))
    choice = QuickChoice(cluster.fetcher)
    choice(cluster.assignment)
    subscription = SubscriptionState()
    subscription.assign_from_user(PLACES[:2])
    after = subscription.subscription.assignment
    for place in PLACES[:2]:
        after.state_value(place).seek(9)
    ((_, request),) = choice(after)[0]
    assert request.topics == [(PLACES[0].topic, request.topics[0][1])]
    assert {one[1] for one in request.topics[0][1]} == {9}
    assert len(request.topics[0][1]) == 2
