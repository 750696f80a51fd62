"""Makes spans with OpenTelemetry's SDK, and sends them to a collector over OTLP/HTTP. Imported only when traces are on.

The worker never waits for the collector: ended spans go into a bounded queue, and a thread sends them. A span that does
not fit, or that the collector does not take, is dropped and counted. Not here: which spans there are (`spans.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from vision_app import __version__
from vision_app.settings import Settings, traces_endpoint

from . import metrics
from .spans import Attributes, Kind
from .traces import parsed_headers

log = structlog.get_logger(__name__)

ATTRIBUTE_CHARS = 512


@dataclass(frozen=True)
class QueueLimits:
    """`spans`: ended ones that wait for the collector, about 1 kB each. `batch`: those of one request.

    `send_ms`: the longest time between the end of a span and the attempt to send it. `close_seconds`: how long the stop
    of the worker waits for the collector.
    """

    spans: int = 8192
    batch: int = 512
    send_ms: int = 1000
    close_seconds: float = 5.0


_KINDS = MappingProxyType(
    {
        Kind.INTERNAL: SpanKind.INTERNAL,
        Kind.CONSUMER: SpanKind.CONSUMER,
        Kind.PRODUCER: SpanKind.PRODUCER,
        Kind.CLIENT: SpanKind.CLIENT,
    }
)


def otlp_tracer(settings: Settings, worker_id: str) -> OtlpTracer:
    """The tracer that the settings describe."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it logs each attempt; we log the first and the last
    certificate = settings.otel_exporter_otlp_certificate
    exporter = OTLPSpanExporter(
        endpoint=traces_endpoint(settings),
        headers=parsed_headers(settings.otel_exporter_otlp_headers.get_secret_value()),
        certificate_file=str(certificate) if certificate else None,
    )
    return OtlpTracer(
        exporter, service=settings.otel_service_name, worker_id=worker_id, share=settings.vision_traces_share
    )


class OtlpTracer:
    """Makes spans and hands them to `exporter`. `share`: of posts that are traced, each with all spans or with none."""

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        service: str = "vision",
        worker_id: str = "",
        share: float = 1.0,
        limits: QueueLimits = QueueLimits(),
    ) -> None:
        self._ids = _Ids()
        resource = Resource.create(
            {"service.name": service, "service.version": __version__, "service.instance.id": worker_id}
        )
        # by the trace id, and not by what the span above says: spans of one post may have different ones above them
        chosen = ALWAYS_ON if share >= 1 else TraceIdRatioBased(share)
        self._provider = TracerProvider(
            sampler=ParentBased(chosen, remote_parent_sampled=chosen, local_parent_sampled=chosen),
            resource=resource,
            id_generator=self._ids,
            span_limits=SpanLimits(max_span_attribute_length=ATTRIBUTE_CHARS),
            shutdown_on_exit=False,  # the worker closes it
        )
        self._limits = limits
        self._queue = _BoundedQueue(exporter, limits)
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer("vision_app", __version__)

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: str | None,
        attributes: Attributes,
        *,
        identity: str | None = None,
        began_ns: int | None = None,
    ) -> OtlpSpan:
        self._ids.next(identity)
        started = self._tracer.start_span(
            name,
            context=_context(parent),
            kind=_KINDS[kind],
            attributes={name: _clean(value) for name, value in attributes.items()},
            start_time=began_ns,
        )
        return OtlpSpan(started, identity or parent or "")

    def flush(self) -> None:
        """Send what waits, now. For tests."""
        self._provider.force_flush()

    def close(self) -> None:
        """Send what waits, for at most `close_seconds`. What is left then counts as dropped."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces-close", daemon=True)
        closing.start()
        closing.join(self._limits.close_seconds)
        self._queue.abandon()


class OtlpSpan:
    """One span; see `spans.Span`. `otherwise`: its `traceparent` if the SDK is switched off (OTEL_SDK_DISABLED)."""

    def __init__(self, span: Span, otherwise: str) -> None:
        self._span = span
        self.traceparent = _traceparent(span.get_span_context()) or otherwise

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes({name: _clean(value) for name, value in attributes.items()})

    def fail(self, error: str) -> None:
        self._span.set_attribute("error.type", error)
        self._span.set_status(Status(StatusCode.ERROR))

    def event(self, name: str, attributes: Attributes) -> None:
        self._span.add_event(name, {name: _clean(value) for name, value in attributes.items()})

    def end(self, at_ns: int | None = None) -> None:
        self._span.end(at_ns)


class _Ids(RandomIdGenerator):
    """Random ids, but for a span whose ids are given. The SDK asks for them while `start_span` runs."""

    def __init__(self) -> None:
        self._trace_id: int | None = None
        self._span_id: int | None = None

    def next(self, traceparent: str | None) -> None:
        self._trace_id = int(traceparent[3:35], 16) if traceparent else None
        self._span_id = int(traceparent[36:52], 16) if traceparent else None

    def is_trace_id_random(self) -> bool:
        return False  # those of our posts are derived

    def generate_trace_id(self) -> int:
        return self._trace_id or super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self._span_id or super().generate_span_id()


class _BoundedQueue(SpanProcessor):
    """Lets no more spans wait than fit, so that the SDK's own queue behind it never overflows, and counts them.

    `_ended` is changed by the worker's thread only, `_taken` by the sending thread only.
    """

    def __init__(self, exporter: SpanExporter, limits: QueueLimits) -> None:
        self._size, self._ended, self._taken = limits.spans, 0, 0
        self._exporter = _CountingExporter(exporter, self._take)
        self._sender = BatchSpanProcessor(
            self._exporter,
            max_queue_size=limits.spans,
            schedule_delay_millis=limits.send_ms,
            max_export_batch_size=limits.batch,
        )

    def _take(self, count: int) -> None:
        self._taken += count

    @property
    def waiting(self) -> int:
        return self._ended - self._taken

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        if self.waiting >= self._size:
            metrics.SPANS.labels(result="dropped").inc()
            return
        self._ended += 1
        self._sender.on_end(span)

    def shutdown(self) -> None:
        self._sender.shutdown()  # type: ignore[no-untyped-call]  # the library has no types here

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._sender.force_flush(timeout_millis)

    def abandon(self) -> None:
        """Give up what still waits, and the attempts to send it."""
        self._exporter.shutdown()
        if self.waiting > 0:
            metrics.SPANS.labels(result="dropped").inc(self.waiting)


class _CountingExporter(SpanExporter):
    """Counts what the collector takes. Logs once when it stops taking spans, and once when it takes them again."""

    def __init__(self, exporter: SpanExporter, take: Callable[[int], None]) -> None:
        self._exporter, self._take = exporter, take
        self._works, self._closed = True, False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._take(len(spans))
        error = ""
        try:
            result = self._exporter.export(spans)
        except Exception as fault:  # noqa: BLE001 - logged and counted below, whatever it is
            result, error = SpanExportResult.FAILURE, repr(fault)
        works = result is SpanExportResult.SUCCESS
        metrics.SPANS.labels(result="exported" if works else "failed").inc(len(spans))
        if self._works and not works:
            log.warning("spans_not_exported", error=error or "the collector does not take them")
        elif works and not self._works:
            log.info("spans_exported_again")
        self._works = works
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _context(parent: str | None) -> Context:
    """The context below a `traceparent`. An empty one begins a trace."""
    if parent is None:
        return Context()
    above = SpanContext(int(parent[3:35], 16), int(parent[36:52], 16), True, TraceFlags(int(parent[53:55], 16)))
    return set_span_in_context(NonRecordingSpan(above), Context())


def _traceparent(context: SpanContext) -> str | None:
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _clean(value: str | bool | int | float) -> str | bool | int | float:
    """A lone surrogate would make the whole batch impossible to encode."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
