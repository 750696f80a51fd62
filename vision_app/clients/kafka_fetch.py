"""A consumer's fetches from Kafka, chosen, written and read in a small part of the time that aiokafka takes for it.

A fetch asks about every partition that the consumer owns, and nearly all answers are empty. aiokafka goes through all
of them in Python at each step. Here the bytes of a question are kept until the partition's position changes, and the
fetcher gets only the partitions that have records. Whatever is unusual (an error code, an aborted transaction, a
partition without position or leader, a rack, another version of the protocol) is left to aiokafka's own code.

This uses private parts of aiokafka, and repeats what `Fetcher._get_actions_per_node` and, for partitions without
records, `Fetcher._proc_fetch_request` do (except for debug lines). Therefore it is used only with TESTED_VERSIONS, and
`tests/unit/test_kafka_fetch.py` compares each step with aiokafka's. Not here: how long the fetcher waits, and for what.
"""

from __future__ import annotations

import random
import struct
import time
from collections import defaultdict
from io import BytesIO
from typing import Any, NamedTuple

import aiokafka
import structlog
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v11, FetchResponse_v11

log = structlog.get_logger(__name__)

TESTED_VERSIONS = ("0.14.0",)
"""Versions of aiokafka. Before adding one, compare the two functions named above with this module."""

_LENGTH, _COUNT = struct.Struct(">h"), struct.Struct(">i")
_LIMITS = struct.Struct(">iiiibiii")  # replica, milliseconds, bytes (two), isolation, session, its epoch, topics
_QUESTION = struct.Struct(">iiqqi")  # partition, leader's epoch, offset, start of the log, bytes
_HEAD = struct.Struct(">ihii")  # throttled for, error, session, topics
_ANSWER = struct.Struct(">ihqqqiii")  # partition, error, three offsets, aborted transactions, replica, bytes
_NOTHING_FORGOTTEN_NO_RACK = bytes(4 + 2)

_Topics = list[tuple[str, list[tuple[int, int, int]]]]


class _Unusual(Exception):
    """The answer has something that aiokafka's own code has to read."""


class _Question(NamedTuple):
    """What is asked about one partition. `state`: aiokafka's TopicPartitionState."""

    offset: int
    topic: str
    partition: int
    state: Any
    encoded: bytes


class QuickFetch(FetchRequest):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's request, which writes itself and reads its answer."""

    def __init__(self, fetcher: Any, questions: list[_Question]) -> None:
        limits = fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes, fetcher._fetch_max_bytes
        super().__init__(*limits, fetcher._isolation_level, [])
        self._partition_bytes: int = fetcher._max_partition_fetch_bytes
        self._asked: defaultdict[str, dict[int, _Question]] = defaultdict(dict)
        for question in questions:
            self._asked[question.topic][question.partition] = question
        self._answered: _Topics | None = None

    @property
    def topics(self) -> _Topics:
        """What the fetcher still has to look at: all partitions, and after the answer those that have records."""
        if self._answered is not None:
            return self._answered
        size = self._partition_bytes
        return [(topic, [(at, asked[at].offset, size) for at in asked]) for topic, asked in self._asked.items()]

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class is FetchRequest_v11:
            return _Version11(self)
        self._topics = self.topics
        return super().build(request_struct_class)

    def encode(self) -> bytes:
        """The request in version 11 of the protocol."""
        limits = self._max_wait_ms, self._min_bytes, self._max_bytes
        parts = [_LIMITS.pack(-1, *limits, self._isolation_level, 0, -1, len(self._asked))]
        for topic, asked in self._asked.items():
            name = topic.encode()
            parts += _LENGTH.pack(len(name)), name, _COUNT.pack(len(asked))
            parts += [question.encoded for question in asked.values()]
        parts.append(_NOTHING_FORGOTTEN_NO_RACK)
        return b"".join(parts)

    def decode(self, data: BytesIO) -> FetchResponse_v11:
        """The answer, of which partitions without records are left out: their state is updated here."""
        try:
            return self._decode(data.getvalue(), data.tell())
        except (_Unusual, struct.error, KeyError):
            return FetchResponse_v11.decode(data)

    def _decode(self, frame: bytes, at: int) -> FetchResponse_v11:
        throttled, error, session, topics = _HEAD.unpack_from(frame, at)
        if topics < 0:
            raise _Unusual
        at += _HEAD.size
        empty: list[tuple[_Question, int, int]] = []
        found: list[tuple[str, list[Any]]] = []
        for _ in range(topics):
            (length,) = _LENGTH.unpack_from(frame, at)
            at += _LENGTH.size + length
            topic = frame[at - length : at].decode()
            (count,) = _COUNT.unpack_from(frame, at)
            at += _COUNT.size
            if length < 0 or count < 0 or topic not in self._asked:
                raise _Unusual
            asked, records = self._asked[topic], []
            for _ in range(count):
                partition, error, high, stable, start, aborted, replica, size = _ANSWER.unpack_from(frame, at)
                if error or size < 0 or not -1 <= aborted <= 0:
                    raise _Unusual
                at += _ANSWER.size
                question = asked[partition]
                if size:
                    at += size
                    transactions: list[Any] | None = [] if aborted == 0 else None
                    body = frame[at - size : at]
                    records.append((partition, error, high, stable, start, transactions, replica, body))
                else:
                    empty.append((question, high, stable))
            if records:
                found.append((topic, records))
        if at > len(frame):
            raise _Unusual
        now_ms = int(1000 * time.time())
        for question, high, stable in empty:
            state = question.state
            if state._position == question.offset:
                state.highwater, state.lso, state.timestamp = high, stable, now_ms
        size = self._partition_bytes
        self._answered = [
            (topic, [(one[0], self._asked[topic][one[0]].offset, size) for one in records]) for topic, records in found
        ]
        return FetchResponse_v11(throttled, error, session, found)


class _Version11(FetchRequest_v11):  # type: ignore[misc]  # aiokafka has no types
    """What aiokafka's connection uses of a request."""

    def __init__(self, request: QuickFetch) -> None:
        self.encode = request.encode
        self.RESPONSE_TYPE = request  # the connection uses only its `decode`
        self._request = request

    def __repr__(self) -> str:
        return f"QuickFetch({self._request.topics})"


class _Owned:
    """A partition of the assignment, and the last question about it."""

    __slots__ = ("place", "question", "state")

    def __init__(self, place: Any, state: Any) -> None:
        self.place, self.state = place, state
        self.question = _Question(-1, place.topic, place.partition, state, b"")

    def ask(self, offset: int, partition_bytes: int) -> _Question:
        topic, partition = self.place
        encoded = _QUESTION.pack(partition, -1, offset, -1, partition_bytes)
        self.question = _Question(offset, topic, partition, self.state, encoded)
        return self.question


class QuickChoice:
    """Chooses what a fetcher does next, as its `_get_actions_per_node` does, which it calls in unusual cases."""

    def __init__(self, fetcher: Any) -> None:
        self._fetcher, self._by_aiokafka = fetcher, fetcher._get_actions_per_node
        self._assignment: Any = None
        self._leaders: Any = None
        self._nodes: dict[Any, Any] = {}
        self._owned: dict[Any, list[_Owned]] | None = None

    def __call__(self, assignment: Any) -> Any:
        fetcher = self._fetcher
        owned = self._owned_by_node(assignment)
        if owned is None or fetcher._client_rack or fetcher._preferred_read_replica:
            return self._by_aiokafka(assignment)
        held, busy = fetcher._records, fetcher._in_flight
        backoffs = defaultdict(list)
        for place, result in held.items():
            if place in self._nodes and (backoff := result.calculate_backoff()):
                backoffs[self._nodes[place]].append(backoff)
        requests, resumed = [], []
        for node, partitions in owned.items():
            if node in busy:
                continue
            questions: list[_Question] = []
            for one in partitions:
                state = one.state
                if held and one.place in held:
                    continue
                if (position := state._position) is None:
                    return self._by_aiokafka(assignment)
                if state._paused:
                    resumed.append(state._resume_fut)
                    continue
                question = one.question
                if question.offset != position:
                    question = one.ask(position, fetcher._max_partition_fetch_bytes)
                questions.append(question)
            if questions and node not in backoffs:
                random.shuffle(questions)
                requests.append((node, QuickFetch(fetcher, questions)))
        wait = min(map(max, backoffs.values())) if backoffs else fetcher._fetcher_timeout
        return requests, {}, wait, False, resumed

    def _owned_by_node(self, assignment: Any) -> dict[Any, list[_Owned]] | None:
        """Node → its partitions; None if a partition has no leader. aiokafka replaces `_partitions` at each refresh."""
        cluster = self._fetcher._client.cluster
        if assignment is self._assignment and cluster._partitions is self._leaders:
            return self._owned
        self._assignment, self._leaders = assignment, cluster._partitions
        self._nodes = {place: cluster.leader_for_partition(place) for place in assignment.tps}
        if any(node is None or node == -1 for node in self._nodes.values()):
            self._owned = None
            return None
        self._owned = defaultdict(list)
        for place, node in self._nodes.items():
            self._owned[node].append(_Owned(place, assignment.state_value(place)))
        return self._owned


def quicken_fetches(consumer: Any, version: str = aiokafka.__version__) -> None:
    """Let an AIOKafkaConsumer that has not been started fetch as described above."""
    if version not in TESTED_VERSIONS:
        log.warning("kafka_fetches_not_quickened", version=version, tested=TESTED_VERSIONS)
        return
    start = consumer.start

    async def start_quickened() -> None:
        await start()
        fetcher = consumer._fetcher
        fetcher._get_actions_per_node = QuickChoice(fetcher)

    consumer.start = start_quickened
