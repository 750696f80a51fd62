"""How long clients of aiokafka wait for a broker that takes connections and says nothing (frozen, or behind a cut).

aiokafka has one timeout for everything. It has to be long for the requests that take long, and then a client that
meets one silent broker waits as long although others would answer: at its start, at each refresh of the metadata, at
each read. It uses private parts of aiokafka; `tests/unit/test_kafka_patience.py` fails when a version lacks them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup

CONNECTING_SECONDS = 5.0
"""For a connection, and for the first questions on it. The next broker is asked afterwards."""


def limit_waits(user: Any, connecting_seconds: float, answering_seconds: Callable[[Any], float]) -> None:
    """Let a client wait for a connection and for metadata, and for the answer to a request, for so long.

    `user`: an AIOKafkaClient, or the consumer, producer or admin client that has one. Call it before it connects. After
    a timeout aiokafka closes the connection and asks another broker who leads the partitions now.
    """
    client = user if isinstance(user, AIOKafkaClient) else getattr(user, "_client", None) or user.client
    client._request_timeout_ms = int(connecting_seconds * 1000)
    send = client.send

    async def send_in_time(node_id: Any, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        if (connection := await client._get_conn(node_id, group=group)) is not None:
            connection._request_timeout = answering_seconds(request)
        return await send(node_id, request, group=group)

    client.send = send_in_time
