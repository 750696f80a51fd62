"""Which rights the user of a connection has on topics and on a group, as the broker itself tells.

Brokers tell it since Kafka 2.3; nothing is tried out, so nothing is written or joined. aiokafka does not ask for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest_v3, DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from vision_app.texts import say

from .kafka_patience import CONNECTING_SECONDS, limit_waits

log = structlog.get_logger(__name__)

OF_GROUPS = 0
"""The kind of coordinator that FindCoordinator asks for."""
COORDINATOR_SECONDS = 10.0
PAUSE_SECONDS = 0.2


class Right(IntEnum):
    """Kafka's AclOperation; the answer is a bit field with one bit for each."""

    READ = 3
    WRITE = 4
    DESCRIBE = 8


class _TopicsResponse(Response):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8")))),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _TopicsStruct(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _TopicsResponse
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _Topics(Request[_TopicsStruct]):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_TopicsStruct]) -> _TopicsStruct:
        return request_struct_class(self._names, False, False, True)


class _GroupsStruct(DescribeGroupsRequest_v3):  # type: ignore[misc]  # aiokafka has no types
    RESPONSE_TYPE = DescribeGroupsResponse_v3  # aiokafka reads the answer as one of version 2


class _Groups(Request[_GroupsStruct]):  # type: ignore[misc]  # aiokafka has no types
    API_KEY = 15

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_GroupsStruct]) -> _GroupsStruct:
        return request_struct_class(self._names, True)


async def missing_rights(arguments: Mapping[str, Any], topics: Mapping[str, Iterable[Right]], group: str) -> list[str]:
    """What the user lacks, each as `READ and WRITE on topic NAME`. Topics that do not exist lack nothing.

    `arguments`: those of `clients.kafka.client_arguments`; of the group READ is wanted. Empty also where the broker is
    too old to tell. Raises KafkaError.
    """
    client = AIOKafkaClient(**arguments)
    limit_waits(client, CONNECTING_SECONDS, lambda _: COORDINATOR_SECONDS)
    await client.bootstrap()
    try:
        return [*await _of_topics(client, topics), *await _of_group(client, group)]
    except NotImplementedError:  # aiokafka's word for a broker that knows no version of a request
        return []
    finally:
        await client.close()


async def _of_topics(client: AIOKafkaClient, wanted: Mapping[str, Iterable[Right]]) -> list[str]:
    answer = await client.send(client.get_random_node(), _Topics(list(wanted)))
    found = {name: (code, allowed) for code, name, _, _, allowed in answer.topics}
    lacking = []
    for name, rights in wanted.items():
        code, allowed = found[name]
        hidden = for_code(code) is TopicAuthorizationFailedError
        missing = [right.name for right in rights if hidden or (code == 0 and not allowed >> right & 1)]
        lacking += [say("{missing} on topic {name}", missing=" and ".join(missing), name=name)] if missing else []
    return lacking


async def _of_group(client: AIOKafkaClient, group: str) -> list[str]:
    """On a new cluster the first question about a group makes Kafka's own topic, so it may have to be repeated."""
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        code, allowed = await _asked(client, group)
        fault = for_code(code)
        if fault is GroupAuthorizationFailedError:
            return [say("{name} on group {group}", name=Right.READ.name, group=group)]
        if not code:
            return (
                [] if allowed >> Right.READ & 1 else [say("{name} on group {group}", name=Right.READ.name, group=group)]
            )
        if not fault.retriable:
            raise fault(say("group {group} cannot be described", group=group))
        if time.monotonic() > deadline:  # a worker waits for its coordinator anyway
            log.warning("group_rights_unknown", group=group, error=fault.__name__)
            return []
        await asyncio.sleep(PAUSE_SECONDS)


async def _asked(client: AIOKafkaClient, group: str) -> tuple[int, int]:
    """Kafka's error code, and the rights on the group as bits."""
    found = await client.send(client.get_random_node(), FindCoordinatorRequest(group, OF_GROUPS))
    if found.error_code:
        return found.error_code, 0
    [(code, _, _, _, _, _, allowed)] = (await client.send(found.coordinator_id, _Groups([group]))).groups
    return code, allowed
