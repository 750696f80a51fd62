"""Sends messages without losing one: each is routed by its type, awaited, and retried while that is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.exceptions import NotReady, ProducerSendError

from vision_app.messages import Message, headers_of
from vision_app.telemetry import metrics, spans
from vision_app.telemetry.reachability import Reachability
from vision_app.telemetry.tracing import about
from vision_app.telemetry.watch import waiting_for
from vision_app.topics import ALL, Topic, routes

from .faust_seams import Worker
from .ownership import LeftUnacked
from .times import nth_pause

log = structlog.get_logger(__name__)


class Oversized(Exception):
    """The record is too large for its topic. It goes to the dead letters; shorten what produced it."""


class Outbox:
    """Agents and bridges send their messages through it."""

    def __init__(self, app: Worker, why: Callable[[BaseException], str | None] = lambda _: None) -> None:
        """`why`: the reason of a failure as one sentence, if it is known."""
        self._app, self._why = app, why
        self.reachability = Reachability(app.times.silent)
        self._topics = {
            topic.name: app.topic(
                topic.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
            )
            for topic in ALL
        }

    def channel(self, topic: Topic) -> Any:
        """The Faust topic, to subscribe an agent to."""
        return self._topics[topic.name]

    async def send(self, messages: Iterable[Message], *, keep_trying: Callable[[], bool]) -> None:
        """Send all messages to the topics of their types. Returns when the broker has every one.

        Raises LeftUnacked when Kafka does not take one and the worker stops or `keep_trying` returns False, Oversized
        when a record is too large. When it raises, no delivery is still running.
        """
        deliveries = []
        for message in messages:
            value, headers = message.encode(), headers_for(message)
            deliveries += [
                self.deliver(topic, key, value, headers, keep_trying=keep_trying) for topic, key in routes(message)
            ]
        if len(deliveries) == 1:
            await deliveries[0]
            return
        for ended in await asyncio.gather(*deliveries, return_exceptions=True):
            if ended is not None:
                raise ended

    async def deliver(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes],
        *,
        keep_trying: Callable[[], bool],
    ) -> None:
        """Send one record and wait for the broker's acknowledgement."""
        try:
            await self._deliver(topic, key, value, headers, keep_trying)
        except BaseException:
            self.reachability.gave_up()
            raise

    async def _deliver(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes],
        keep_trying: Callable[[], bool],
    ) -> None:
        channel, attempt = self._topics[topic.name], 0
        while True:
            try:
                with self.reachability.call():
                    await (await channel.send(key=key, value=value, headers=dict(headers)))
                self.reachability.worked()
                return
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # the producer gave the record up, for instance because it was restarted
                self.reachability.failed("gave a record up")
                metrics.RETRIES.labels(stage="kafka").inc()
                log.warning("kafka_send_cancelled", topic=topic.name)
            except (KafkaError, ProducerSendError, NotReady, OSError) as fault:
                if _oversized(fault):
                    raise Oversized(f"{len(value or b'')} bytes for {topic.name}: {fault}") from fault
                reason = self._why(fault)
                self.reachability.failed(reason or f"does not take a record: {fault!r}")
                metrics.RETRIES.labels(stage="kafka").inc()
                log.warning("kafka_send_failed", topic=topic.name, error=reason or repr(fault))
            if self._app.should_stop or not keep_trying():
                raise LeftUnacked
            with waiting_for("kafka"):
                await asyncio.sleep(nth_pause(self._app.times.kafka_retry, attempt))
            attempt += 1


def headers_for(message: Message) -> Mapping[str, bytes]:
    trace = getattr(about(message), "trace_id", None) or ""
    return headers_of(trace, getattr(message, "type", ""), spans.traceparent_to(message))


def _oversized(fault: BaseException) -> bool:
    causes = (fault, fault.__cause__, fault.__context__)
    return any(isinstance(cause, MessageSizeTooLargeError) for cause in causes)
