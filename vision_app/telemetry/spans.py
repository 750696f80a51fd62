"""The spans of the worker's parts, and the `traceparent` of what they send. Off unless `start` was called.

While traces are off, each function here returns after one check, and nothing of OpenTelemetry is imported. While they
are on, `otlp.py` makes the spans and sends them. A span never holds a secret, a picture or a text of the model: only
ids, names, numbers and the class of an error.

The current spans belong to the task in which they were begun, and to the tasks that it starts. A record's handling has
one; a batch of a sink has one for each of its records. A message continues the current span of its own trace. If none
is of its trace, for instance because another post's command ended its wait, it continues the first span of its post.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from enum import Enum, auto
from typing import Any, Protocol

from vision_app.messages import Charged, Grant, MediaTask, Message, Release, Settle, Uploaded

from .tracing import root_of, root_of_message, trace_of, traceparent_in

Attribute = str | bool | int | float
Attributes = Mapping[str, Attribute]

SHORTEST_WAIT_SECONDS = 0.01
"""A shorter wait is not noted."""

STORES: Mapping[str, Attributes] = {
    "postgres": {"db.system.name": "postgresql", "db.operation.name": "UPSERT"},
    "s3": {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": "PutObject"},
    "neo4j": {"db.system.name": "neo4j", "db.operation.name": "MERGE"},
    "redis": {"messaging.system": "redis", "messaging.operation.type": "send", "messaging.operation.name": "XADD"},
}
"""Sink → what the field's conventions call its store."""
S3_READ: Attributes = {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": "GetObject"}


class Kind(Enum):
    """What a span is to the one above it."""

    INTERNAL = auto()
    CONSUMER = auto()
    PRODUCER = auto()
    CLIENT = auto()


class Span(Protocol):
    """A span that has begun. `traceparent` names it to what is below it."""

    traceparent: str

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, error: str) -> None:
        """Mark it as failed. `error`: the class of the error, never its text."""

    def event(self, name: str, attributes: Attributes) -> None: ...

    def end(self, at_ns: int | None = None) -> None: ...


class Tracer(Protocol):
    """Makes spans, and sends them to the collector."""

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: str | None,
        attributes: Attributes,
        *,
        identity: str | None = None,
        began_ns: int | None = None,
    ) -> Span:
        """`identity`: the `traceparent` that the span itself gets; without it the span gets a new id."""

    def close(self) -> None:
        """Send what waits, within a few seconds."""


class _Current:
    """The spans that a task works in, by trace. `span` is the one that attributes go to; None in a batch."""

    __slots__ = ("by_trace", "late", "span")

    def __init__(self, span: Span | None = None, by_trace: Mapping[str, str] | None = None) -> None:
        self.span = span
        self.by_trace = dict(by_trace or {})
        self.late: tuple[str, Attributes] | None = None  # name and attributes of a hop whose trace is not known yet
        if span is not None:
            self.by_trace[trace_of(span.traceparent)] = span.traceparent


_tracer: Tracer | None = None
_current: ContextVar[_Current | None] = ContextVar("spans", default=None)
_NOTHING: AbstractContextManager[None] = nullcontext()


def start(tracer: Tracer) -> None:
    """Switch traces on."""
    global _tracer
    _tracer = tracer


def stop() -> Tracer | None:
    """Switch traces off. Returns the tracer, which is to be closed."""
    global _tracer
    tracer, _tracer = _tracer, None
    return tracer


def is_on() -> bool:
    return _tracer is not None


# --- what is sent on --------------------------------------------------------------------------------------------------


def traceparent_to(message: Message) -> str | None:
    """The `traceparent` of a message that is about to be sent."""
    root = root_of_message(message)
    if _tracer is None:
        return root
    current = _current.get()
    if root is not None:
        return current.by_trace.get(trace_of(root), root) if current else root
    about_call = isinstance(message, Settle | Release | Charged)
    return current.span.traceparent if about_call and current and current.span else None


def traceparent_about(about: Any) -> str | None:
    """The `traceparent` of what is about to be sent about an uploaded post."""
    root = root_of(about)
    if _tracer is None or root is None:
        return root
    current = _current.get()
    return current.by_trace.get(trace_of(root), root) if current else root


def with_trace_of(event: Uploaded, headers: Mapping[str, Any] | None) -> Uploaded:
    """The uploaded post with the `traceparent` of its record, if that names another trace than the post itself does.

    A record without one, for instance of Kafka's console producer, begins the post's trace here.
    """
    root, given = root_of(event), traceparent_in(headers)
    if root is None or (given and trace_of(given) == trace_of(root)):
        return event
    if given:
        return event.model_copy(update={"traceparent": given})
    current = _current.get()
    if _tracer is not None and current is not None and current.late is not None:
        (name, attributes), current.late = current.late, None
        current.span = _tracer.begin(name, Kind.CONSUMER, event.traceparent, attributes, identity=root)
        current.by_trace[trace_of(root)] = current.span.traceparent
    return event


# --- spans ------------------------------------------------------------------------------------------------------------


def relayed(event: Any, stream: str, entry: str) -> AbstractContextManager[None]:
    """The first span of a post: its entry of a Redis stream goes to Kafka. The producer's span is above it."""
    return _NOTHING if _tracer is None else _relayed(_tracer, event, stream, entry)


@contextmanager
def _relayed(tracer: Tracer, event: Any, stream: str, entry: str) -> Iterator[None]:
    attributes = {
        "messaging.system": "redis",
        "messaging.operation.type": "process",
        "messaging.operation.name": "relay",
        "messaging.destination.name": stream,
        "messaging.message.id": entry,
        **_identity(event),
    }
    span = tracer.begin(f"relay {stream}", Kind.CONSUMER, event.traceparent, attributes, identity=root_of(event))
    with _inside(span):
        yield


def hop(stage: str, record: Any) -> AbstractContextManager[None]:
    """The handling of one Kafka record by an agent. A command without a trace, as of an operator, gets no span."""
    return _NOTHING if _tracer is None else _hop(_tracer, stage, record)


@contextmanager
def _hop(tracer: Tracer, stage: str, record: Any) -> Iterator[None]:
    name = f"process {record.message.topic}"
    attributes = {"vision.stage": stage, "messaging.operation.type": "process", **_place(record)}
    parent = traceparent_in(record.headers)
    if parent is not None:
        with _inside(tracer.begin(name, Kind.CONSUMER, parent, attributes)):
            yield
        return
    current = _Current()
    current.late = name, attributes
    token = _current.set(current)
    try:
        yield
    finally:
        _current.reset(token)
        if current.span is not None:
            current.span.end()


def span(name: str, kind: Kind = Kind.INTERNAL, attributes: Attributes | None = None) -> AbstractContextManager[None]:
    """A part of the current span's work. Without a current span it does nothing."""
    current = _current.get() if _tracer is not None else None
    if _tracer is None or current is None or current.span is None:
        return _NOTHING
    return _inside(_tracer.begin(name, kind, current.span.traceparent, attributes or {}))


def call(grant: Grant, model: str) -> AbstractContextManager[None]:
    """One call to the provider. Its outcome is noted with `answered`, or is the class of the error that ends it."""
    if _tracer is None:
        return _NOTHING
    attributes: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gigachat",
        "gen_ai.request.model": model,
        "vision.attempt": grant.task.attempt,
        "vision.purpose": grant.purpose,
        "vision.grant_id": grant.id,
        "vision.media_sha256": grant.task.medium.sha256,
    }
    return span(f"chat {model}", Kind.CLIENT, attributes)


@contextmanager
def _inside(span: Span) -> Iterator[None]:
    token = _current.set(_Current(span))
    try:
        yield
    except BaseException as fault:
        span.fail(type(fault).__name__)
        raise
    finally:
        _current.reset(token)
        span.end()


def waited_for_budget(task: MediaTask, record: Any) -> None:
    """A span for the time between a task's preflight and its grant, which may have been given days later."""
    if _tracer is None:
        return
    parent, times = traceparent_in(record.headers), task.times
    if parent is not None and "checked" in times and "granted" in times:
        began_ms, ended_ms = times["checked"], max(times["checked"], times["granted"])
        name, began_ns = "wait for the budget", began_ms * 1_000_000
        wait = _tracer.begin(name, Kind.INTERNAL, parent, _identity(task), began_ns=began_ns)
        wait.end(ended_ms * 1_000_000)


def written(sink: Any, pairs: Sequence[tuple[Any, Any]], began: float, attempt: int) -> AbstractContextManager[None]:
    """A sink (of `stores/base.py`) has written these records. What is sent inside continues their spans.

    `pairs`: of record and content. `began`: the monotonic time at which the write began.
    """
    return _NOTHING if _tracer is None else _written(_tracer, sink, pairs, began, attempt)


@contextmanager
def _written(tracer: Tracer, sink: Any, pairs: Sequence[tuple[Any, Any]], began: float, attempt: int) -> Iterator[None]:
    spans = [
        made
        for record, content in pairs
        if (made := _write(tracer, sink, record, content, began, {"vision.attempt": attempt + 1}, len(pairs)))
    ]
    for made in spans:
        made.end()
    token = _current.set(_Current(by_trace={trace_of(made.traceparent): made.traceparent for made in spans}))
    try:
        yield
    finally:
        _current.reset(token)


def not_written(sink: Any, record: Any, error: BaseException) -> None:
    """A sink does not take a record, which goes to the dead letters."""
    if _tracer is not None and (made := _write(_tracer, sink, record, None, time.monotonic(), {}, 1)):
        made.fail(type(error).__name__)
        made.end()


def _write(
    tracer: Tracer, sink: Any, record: Any, content: Any, began: float, attributes: Attributes, batch: int
) -> Span | None:
    parent = traceparent_in(record.headers)
    if parent is None:
        return None
    place = {"messaging.destination.name": sink.destination} if sink.name == "redis" else _place(record)
    made = {**place, **STORES.get(sink.name, {}), "vision.sink": sink.name, "messaging.batch.message_count": batch}
    made |= {**attributes, **_identity(getattr(content, "event", content))}
    if status := getattr(content, "status", None):
        made["vision.status"] = status
    kind = Kind.PRODUCER if sink.name == "redis" else Kind.CLIENT
    began_ns = time.time_ns() - round((time.monotonic() - began) * 1e9)
    return tracer.begin(f"write {sink.name}", kind, parent, made, began_ns=began_ns)


# --- what is noted on the current span --------------------------------------------------------------------------------


def note(**own: Attribute | None) -> None:
    """Set attributes of ours, `vision.NAME`, on the current span. None is left out."""
    if _tracer is not None and (current := _current.get()) and current.span:
        current.span.set({f"vision.{name}": value for name, value in own.items() if value is not None})


def answered(tokens: int, answer: Any) -> None:
    """Note what a call brought: tokens, model and verdict, but nothing that the model said."""
    if _tracer is None or not (current := _current.get()) or not current.span:
        return
    usage: Mapping[str, int] = answer.usage
    current.span.set(
        {
            "gen_ai.response.model": answer.model,
            "gen_ai.usage.input_tokens": usage.get("prompt_tokens", 0),
            "gen_ai.usage.output_tokens": usage.get("completion_tokens", 0),
            "vision.tokens": tokens,
            "vision.outcome": answer.verdict,
        }
    )


def failed(error: str) -> None:
    """Mark the current span as failed. `error`: the class of the error."""
    if _tracer is not None and (current := _current.get()) and current.span:
        current.span.fail(error)


def waited(what: str, seconds: float) -> None:
    """Note that the current span's work waited for something."""
    if _tracer is None or seconds < SHORTEST_WAIT_SECONDS:
        return
    if (current := _current.get()) and current.span:
        current.span.event("waited", {"vision.waited_for": what, "vision.seconds": round(seconds, 3)})


def _place(record: Any) -> dict[str, Attribute]:
    at = record.message
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": at.topic,
        "messaging.destination.partition.id": str(at.partition),
        "messaging.kafka.offset": at.offset,
    }


def _identity(about: Any) -> dict[str, Attribute]:
    """Tenant, post and trace id of an event, or of the body of an announcement."""
    found = getattr(about, "body", None)
    names = ("tenant_id", "post_id", "trace_id")
    values = found if isinstance(found, Mapping) else {name: getattr(about, name, None) for name in names}
    return {f"vision.{name}": str(value) for name in names if (value := values.get(name))}
