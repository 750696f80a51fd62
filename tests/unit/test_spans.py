"""Spans: none and no OpenTelemetry while traces are off; the right ones under the right parents while they are on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from tests.fakes import FakeApp, FakeStream, event, until
from vision_app.messages import Charged, Grant, MediaTask, Medium, Settle, Uploaded, Wake
from vision_app.streams.dead_letters import DeadLetters
from vision_app.streams.in_flight import InFlight
from vision_app.streams.outbox import Outbox
from vision_app.telemetry import metrics, otlp, spans
from vision_app.telemetry.logging import bind
from vision_app.telemetry.otlp import OtlpTracer, QueueLimits
from vision_app.telemetry.tracing import root_of, trace_of, traceparent_for
from vision_app.telemetry.watch import waiting_for

PRODUCER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Traces:
    """Traces that are on, and what was exported."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracer = OtlpTracer(self.exporter, **options)

    def ended(self) -> dict[str, ReadableSpan]:
        self.tracer.flush()
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def traces() -> Iterator[Traces]:
    on = Traces()
    spans.start(on.tracer)
    yield on
    spans.stop()
    on.tracer.close()


def task(post: str = "p1", trace: str = "tr-1", producer: str | None = None) -> MediaTask:
    return MediaTask(
        tenant_id="t", post_id=post, trace_id=trace, medium=Medium(sha256="ab"), dispatch=1, traceparent=producer
    )


def uploaded(**more: Any) -> Uploaded:
    return Uploaded(
        **{
            "trace_id": "tr-1",
            "occurred_at": "2026-01-01T00:00:00Z",
            "idempotency_key": "k",
            "tenant_id": "t",
            "post_id": "p1",
            "media_files": [],
            **more,
        }
    )


def record(traceparent: str | None, topic: str = "vision.media", offset: int = 7) -> Any:
    return event(offset, topic=topic, headers={"traceparent": traceparent.encode()} if traceparent else {})


def sink(name: str) -> Any:
    return SimpleNamespace(name=name, destination="stream:out")


def above(span: ReadableSpan) -> str | None:
    return f"{span.parent.span_id:016x}" if span.parent else None


def id_of(span: ReadableSpan) -> str:
    assert span.context
    return f"{span.context.span_id:016x}"


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# --- off --------------------------------------------------------------------------------------------------------------


def test_while_off_nothing_that_makes_spans_is_imported() -> None:
    """Redis' library imports the interfaces and the part for metrics by itself where it is installed."""
    ours = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "vision_app.telemetry.otlp")
    program = f"import sys, vision_app.app; print([name for name in sys.modules if name.startswith({ours!r})])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_while_off_a_message_has_the_first_span_of_its_post_as_before() -> None:
    assert not spans.is_on()
    with spans.hop("media", record(PRODUCER)), spans.span("x"), spans.call(grant(), "m"):
        spans.note(cached=True)
        spans.failed("X")
        assert spans.traceparent_to(task()) == root_of(task())
    assert spans.traceparent_to(Settle(tenant_id="t", grant_id="g", tokens=1)) is None


def test_while_off_the_seam_costs_next_to_nothing() -> None:
    """The limit is some ten times what it takes on an idle machine."""
    given = record(PRODUCER)

    def once() -> None:
        with spans.hop("media", given):
            spans.note(cached=True)
            spans.waited("s3", 1.0)

    best = min(_seconds(once, 2000) for _ in range(5))
    assert best < 20e-6


def _seconds(what: Any, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        what()
    return (time.perf_counter() - began) / times


# --- the parents ------------------------------------------------------------------------------------------------------


def grant() -> Grant:
    return Grant(id="g-1", provider="gigachat", estimate=1, task=task())


def test_the_relay_is_the_first_span_under_the_producers(traces: Traces) -> None:
    post = uploaded(traceparent=PRODUCER)
    with spans.relayed(post, "stream:posts:vision:uploaded", "1-0"):
        header = str(spans.traceparent_about(post))
    (first,) = traces.ended().values()
    assert header == root_of(post), "whatever continues the post later finds it without having seen it"
    assert (id_of(first), above(first)) == (header[36:52], PRODUCER[36:52])
    assert attributes(first)["vision.post_id"] == "p1"


def test_without_a_producers_trace_the_relay_begins_the_derived_one(traces: Traces) -> None:
    with spans.relayed(uploaded(), "stream:posts:vision:uploaded", "1-0"):
        header = spans.traceparent_about(uploaded())
    (first,) = traces.ended().values()
    assert above(first) is None
    assert header == root_of(uploaded())
    assert f"{first.context.trace_id:032x}" == trace_of(traceparent_for("tr-1")) if first.context else False


def test_a_message_continues_the_hop_of_its_own_trace_only(traces: Traces) -> None:
    """The budget's command of one post may grant the waiting task of another."""
    mine, other = task(), task("p2", "tr-2", PRODUCER)
    with spans.hop("budget", record(root_of(mine))):
        to_mine, to_other = spans.traceparent_to(mine), spans.traceparent_to(other)
        charged = spans.traceparent_to(Charged(tenant_id="t", ledger="l", grant_id="g", tokens=1, at_ms=1))
        assert spans.traceparent_to(Wake(tenant_id="t")) is None, "no post's command"
    (hop,) = traces.ended().values()
    assert to_mine == charged == f"00-{trace_of(str(root_of(mine)))}-{id_of(hop)}-01"
    assert to_other == root_of(other)


def test_a_command_without_a_trace_has_no_span(traces: Traces) -> None:
    with spans.hop("budget", record(None)):
        spans.note(cached=True)
        assert spans.traceparent_to(task()) == root_of(task())
    assert traces.ended() == {}


def test_a_record_without_a_trace_begins_its_posts_trace_when_it_is_read(traces: Traces) -> None:
    with spans.hop("policy", record(None, "posts.vision.uploaded")):
        post = spans.with_trace_of(uploaded(), {})
        header = str(spans.traceparent_about(post))
    (first,) = traces.ended().values()
    assert header == root_of(uploaded())
    assert (id_of(first), above(first)) == (str(header)[36:52], None)


def test_the_trace_of_a_records_header_is_kept_in_its_event() -> None:
    given = spans.with_trace_of(uploaded(), {"traceparent": PRODUCER.encode()})
    assert given.traceparent == PRODUCER
    assert trace_of(str(root_of(given))) == trace_of(PRODUCER)
    own = {"traceparent": str(root_of(uploaded())).encode()}
    assert spans.with_trace_of(uploaded(), own).traceparent is None


def test_a_write_of_a_batch_has_a_span_for_each_record_and_what_is_announced_continues_them(traces: Traces) -> None:
    one, two = uploaded(), uploaded(trace_id="tr-2", post_id="p2")
    pairs = [(record(root_of(post)), SimpleNamespace(event=post, status="ok")) for post in (one, two)]
    with spans.written(sink("postgres"), pairs, time.monotonic() - 0.5, 2):
        headers = [spans.traceparent_about(post) for post in (one, two)]
    traces.tracer.flush()
    written = traces.exporter.get_finished_spans()
    assert [str(header)[36:52] for header in headers] == [id_of(span) for span in written]
    assert [attributes(span)["vision.post_id"] for span in written] == ["p1", "p2"]
    for span in written:
        assert span.start_time
        assert span.end_time
        assert 0.4e9 < span.end_time - span.start_time < 5e9
        assert attributes(span)["messaging.batch.message_count"] == 2
        assert attributes(span)["vision.attempt"] == 3


def test_the_wait_for_the_budget_is_between_its_two_times(traces: Traces) -> None:
    spans.waited_for_budget(task().at(checked=1_700_000_000_000, granted=1_700_000_003_000), record(PRODUCER))
    spans.waited_for_budget(task().at(granted=1_700_000_003_000), record(PRODUCER))
    wait = traces.ended()["wait for the budget"]
    assert len(traces.exporter.get_finished_spans()) == 1
    assert (wait.start_time, wait.end_time) == (1_700_000_000_000 * 10**6, 1_700_000_003_000 * 10**6)
    assert above(wait) == PRODUCER[36:52]


# --- what they hold ---------------------------------------------------------------------------------------------------


def test_a_call_says_what_it_cost_and_not_what_was_said(traces: Traces) -> None:
    answer = SimpleNamespace(
        model="GigaChat-Pro:2", usage={"prompt_tokens": 3, "completion_tokens": 4}, verdict="ok", content="a cat"
    )
    with spans.hop("analysis", record(PRODUCER)), spans.call(grant(), "GigaChat-Pro"):
        spans.answered(7, answer)
    call = traces.ended()["chat GigaChat-Pro"]
    found = attributes(call)
    assert (found["vision.tokens"], found["vision.outcome"], found["vision.attempt"]) == (7, "ok", 1)
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (3, 4)
    assert "a cat" not in str(found)
    assert above(call) == id_of(traces.ended()["process vision.media"])


def test_a_failure_is_told_by_its_class(traces: Traces) -> None:
    class CallLost(Exception):
        pass

    with pytest.raises(CallLost), spans.hop("analysis", record(PRODUCER)), spans.call(grant(), "m"):
        raise CallLost("the model said: secret")
    call = traces.ended()["chat m"]
    assert attributes(call)["error.type"] == "CallLost"
    assert call.status.status_code.name == "ERROR"
    assert "secret" not in call.to_json()


def test_the_ids_of_log_lines_and_long_waits_are_on_the_span(traces: Traces) -> None:
    with spans.hop("media", record(PRODUCER)), bind(trace_id="tr", post_id="p\ud800", tenant_id="t"):
        spans.waited("s3", 1.5)
        spans.waited("nothing", 0.001)
    span = traces.ended()["process vision.media"]
    assert attributes(span) | {"vision.tenant_id": "t", "vision.post_id": "p?"} == attributes(span)
    assert [dict(each.attributes or {}) for each in span.events] == [{"vision.waited_for": "s3", "vision.seconds": 1.5}]


def test_a_long_text_is_cut(traces: Traces) -> None:
    with spans.hop("media", record(PRODUCER)):
        spans.note(post_id="x" * 100_000)
    assert len(attributes(traces.ended()["process vision.media"])["vision.post_id"]) == otlp.ATTRIBUTE_CHARS


async def test_an_agent_makes_a_span_for_each_record_and_dead_letters_are_failures(traces: Traces) -> None:
    app, stream = FakeApp(), FakeStream()

    async def handle(given: Any) -> None:
        with waiting_for("s3"):
            await asyncio.sleep(0.02)
        if given.message.offset == 1:
            raise ValueError("what the model said")
        await outbox.send([task()], keep_trying=lambda: True)

    outbox = Outbox(app)
    flow = InFlight(app, "media", handle, DeadLetters(outbox), limit=4)
    running = asyncio.create_task(flow.run(stream))
    stream.put(record(root_of(task()), offset=0), record(PRODUCER, offset=1))
    await until(lambda: len(stream.acked) == 2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    traces.tracer.flush()
    good, bad = sorted(
        traces.exporter.get_finished_spans(), key=lambda span: attributes(span)["messaging.kafka.offset"]
    )
    (sent,) = [each for each in app.sent if each.topic == "vision.media"]
    (letter,) = [each for each in app.sent if each.topic == "vision.dlq"]
    assert sent.headers["traceparent"].decode()[36:52] == id_of(good)
    assert [each.name for each in good.events] == ["waited"]
    assert (attributes(bad)["error.type"], bad.status.status_code.name) == ("ValueError", "ERROR")
    assert "what the model said" not in bad.to_json()
    assert orjson.loads(letter.value or b"")["error"] == "ValueError"


# --- sampling, the queue, the collector -------------------------------------------------------------------------------


def test_a_post_is_traced_as_a_whole_or_not_at_all() -> None:
    on = Traces(share=0.5)
    spans.start(on.tracer)
    try:
        for number in range(200):
            post = uploaded(trace_id=f"tr-{number}")
            with spans.relayed(post, "s", "1-0"):
                header = str(spans.traceparent_about(post))
            for given in (header, root_of(post)):  # the second one says "sampled" whatever was decided
                with spans.hop("media", record(given)):
                    pass
        on.tracer.flush()
    finally:
        spans.stop()
    of_trace: dict[int, int] = {}
    for span in on.exporter.get_finished_spans():
        assert span.context
        of_trace[span.context.trace_id] = of_trace.get(span.context.trace_id, 0) + 1
    on.tracer.close()
    assert set(of_trace.values()) == {3}
    assert 50 < len(of_trace) < 150


def test_what_the_producer_does_not_sample_is_not_traced(traces: Traces) -> None:
    post = uploaded(traceparent=f"{PRODUCER[:-2]}00")
    with spans.relayed(post, "s", "1-0"):
        header = str(spans.traceparent_about(post))
    with spans.hop("policy", record(header)):
        pass
    assert header.endswith("-00")
    assert traces.ended() == {}


def counted(result: str) -> float:
    return metrics.REGISTRY.get_sample_value("vision_spans_total", {"result": result}) or 0


class Stuck(SpanExporter):
    """A collector that does not answer, until `answers` says how."""

    def __init__(self) -> None:
        self.answers: list[SpanExportResult | Exception] = []

    def export(self, spans: Any) -> SpanExportResult:
        answer = self.answers.pop(0) if self.answers else SpanExportResult.SUCCESS
        if isinstance(answer, Exception):
            raise answer
        return answer


class Held(Stuck):
    """A collector that answers when the test says so."""

    go_on = threading.Event()

    def export(self, spans: Any) -> SpanExportResult:
        self.go_on.wait()
        return SpanExportResult.SUCCESS


def one_span(tracer: OtlpTracer) -> None:
    tracer.begin("x", spans.Kind.INTERNAL, PRODUCER, {}).end()


def test_an_outage_of_the_collector_is_counted_and_told_once() -> None:
    away = Stuck()
    refused = SpanExportResult.FAILURE
    away.answers = [refused, OSError("away"), refused, SpanExportResult.SUCCESS, SpanExportResult.SUCCESS]
    tracer = OtlpTracer(away)
    failed, exported = counted("failed"), counted("exported")
    with capture_logs() as lines:
        for _ in range(5):
            one_span(tracer)
            tracer.flush()
    tracer.close()
    assert (counted("failed") - failed, counted("exported") - exported) == (3, 2)
    assert [line["event"] for line in lines] == ["spans_not_exported", "spans_exported_again"]


def test_a_full_queue_drops_spans_and_never_waits() -> None:
    """The collector holds its first batch of a hundred, and a second hundred fits into the queue."""
    tracer = OtlpTracer(Held(), limits=QueueLimits(spans=100, batch=100, send_ms=3_600_000))
    dropped, began = counted("dropped"), time.monotonic()
    for _ in range(300):
        one_span(tracer)
    assert time.monotonic() - began < 5
    assert counted("dropped") - dropped >= 100
    Held.go_on.set()
    tracer.close()


def test_the_end_of_the_worker_does_not_wait_for_a_collector_that_is_silent() -> None:
    class Silent(Stuck):
        def export(self, spans: Any) -> SpanExportResult:
            time.sleep(3600)
            return SpanExportResult.FAILURE

    tracer = OtlpTracer(Silent(), limits=QueueLimits(close_seconds=0.2))
    one_span(tracer)
    began = time.monotonic()
    tracer.close()
    assert time.monotonic() - began < 5
