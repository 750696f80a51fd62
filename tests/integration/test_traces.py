"""Traces end to end: real services, a worker, and a collector that takes what the worker sends over OTLP/HTTP."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from tests.collector import Collector, collector
from tests.integration.pipeline import Pipeline, Worker, picture, pipeline, unique
from tests.integration.traces import published, root_in, tree, whole_trace
from vision_app.operations.neighbours import uploaded_event
from vision_app.operations.trace import trace as trace_post
from vision_app.settings import Settings
from vision_app.telemetry.tracing import trace_of, traceparent_for
from vision_app.topics import UPLOADED

KAFKA_HOPS = {"policy", "posts", "media", "budget", "analysis"}
CLIENT = 3


@pytest.fixture(scope="module")
def sink_of_traces() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    stack: dict[str, str], sink_of_traces: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink_of_traces.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20of-the-collector",
        "NO_PROXY": "127.0.0.1",
    }
    worker = Worker(stack, tmp_path_factory.mktemp("logs"), 1, **variables)
    worker.start()
    yield worker
    worker.end()


@pytest.fixture
async def pipe(stack_settings: Settings, traced: Worker) -> Any:
    await traced.ready()
    async with pipeline(stack_settings) as opened:
        yield opened


async def test_one_post_is_one_trace_from_its_producer_to_every_store(
    pipe: Pipeline, sink_of_traces: Collector
) -> None:
    tenant, post, since = unique("traced"), unique("traced"), await pipe.newest()
    earlier = unique("earlier")  # so that the tenant has a ledger: without one, the task waits in it for Postgres
    await pipe.publish(tenant, earlier, [await pipe.upload(tenant, picture())])
    await pipe.announced([earlier], since)
    trace, above = secrets.token_hex(16), secrets.token_hex(8)
    medium = await pipe.upload(tenant, picture())
    await published(pipe, tenant, post, [medium], traceparent=f"00-{trace}-{above}-01")
    await pipe.announced([post], since)
    spans = await whole_trace(sink_of_traces, trace)

    root = root_in(spans)
    assert (root.name, root.parent) == (f"relay {pipe.settings.input_streams[0]}", above)
    assert {span.attributes["vision.stage"] for span in spans if "vision.stage" in span.attributes} == KAFKA_HOPS
    hops = [span for span in spans if "vision.stage" in span.attributes]
    assert all(
        span.attributes["vision.post_id"] == post for span in hops if span.attributes["vision.stage"] != "budget"
    )
    assert {span.attributes["vision.tenant_id"] for span in hops} == {tenant}
    assert {span.attributes["messaging.destination.name"] for span in hops} == {
        *("posts.vision.uploaded", "vision.posts", "vision.media", "vision.budget", "vision.analysis")
    }

    (call,) = [span for span in spans if span.name.startswith("chat ")]
    [bill] = await pipe.billed(post)
    assert call.kind == CLIENT
    assert call.attributes["gen_ai.request.model"] == pipe.settings.gigachat_vision_model
    assert call.attributes["vision.tokens"] == bill["total_tokens"]
    assert (call.attributes["vision.attempt"], call.attributes["vision.outcome"]) == (1, "ok")
    by_id = tree(spans)
    assert by_id[call.parent].attributes["vision.stage"] == "analysis"
    assert by_id[by_id[call.parent].parent].attributes["vision.stage"] == "budget"

    announced = next(span for span in spans if span.attributes.get("vision.sink") == "redis")
    assert announced.attributes["messaging.destination.name"] == pipe.settings.vision_output_stream
    assert by_id[announced.parent].attributes["vision.sink"] == "postgres", "the row is committed before"
    assert not [span.name for span in spans if span.failed]
    [shown] = await trace_post(pipe.settings, post, tenant_id=tenant, since_ms=0)
    assert shown.w3c_trace_id == trace, "`vision trace` leads to it"
    assert root.service["service.name"] == "vision"
    assert sink_of_traces.headers[-1]["authorization"] == "Bearer of-the-collector"


async def test_spans_hold_neither_secrets_nor_what_the_model_said(
    pipe: Pipeline, sink_of_traces: Collector, stack: dict[str, str]
) -> None:
    tenant, post, since = unique("private"), unique("private"), await pipe.newest()
    trace = secrets.token_hex(16)
    await published(
        pipe, tenant, post, [await pipe.upload(tenant, "meme_cat.jpg")], traceparent=f"00-{trace}-{'b' * 16}-01"
    )
    event = (await pipe.announced([post], since))[post]
    text = str([(span.name, span.attributes, span.events) for span in await whole_trace(sink_of_traces, trace)])
    described = event.body["enrichments"][0]["analysis"]["description"]
    assert len(described) > 10
    assert described not in text
    secret = [value for name, value in stack.items() if "SECRET" in name or "PASSWORD" in name or "CREDENTIAL" in name]
    assert secret
    assert not [value for value in secret if value and value in text]


async def test_a_post_without_a_producers_trace_begins_one_and_a_second_post_reuses_the_answer(
    pipe: Pipeline, sink_of_traces: Collector
) -> None:
    tenant, first, second = unique("plain"), unique("plain"), unique("plain")
    medium, since = await pipe.upload(tenant, picture()), await pipe.newest()
    for post in (first, second):
        await published(pipe, tenant, post, [medium])
        await pipe.announced([post], since)
    one, two = [await whole_trace(sink_of_traces, trace_of(traceparent_for(f"t-{post}"))) for post in (first, second)]

    assert root_in(one).parent == root_in(two).parent == ""
    assert len([span for span in one if span.name.startswith("chat ")]) == 1
    assert not [span for span in two if span.name.startswith("chat ")]
    assert [span.attributes["vision.stage"] for span in two if span.attributes.get("vision.cached")] == ["media"]


async def test_a_post_that_another_ones_end_lets_through_stays_in_its_own_trace(
    pipe: Pipeline, sink_of_traces: Collector
) -> None:
    """A tenant has three calls at once. The fourth post waits in the ledger until another one's call is over."""
    tenant, posts, since = unique("parked"), [unique("parked") for _ in range(6)], await pipe.newest()
    await pipe.faults({"endpoint": "chat", "fault": {"kind": "latency", "seconds": 2.0, "max_seconds": 2.0}})
    traces = {post: secrets.token_hex(16) for post in posts}
    for post in posts:
        medium = await pipe.upload(tenant, picture())
        await published(pipe, tenant, post, [medium], traceparent=f"00-{traces[post]}-{'c' * 16}-01")
    await pipe.announced(posts, since)
    waits = []
    for post in posts:
        spans = await whole_trace(sink_of_traces, traces[post])
        assert root_in(spans).parent == "c" * 16
        assert {str(s.attributes["vision.post_id"]) for s in spans if "vision.post_id" in s.attributes} == {post}
        (wait,) = [span for span in spans if span.name == "wait for the budget"]
        waits.append(wait.ended_ns - wait.began_ns)
    assert max(waits) > 1e9, "somebody waited for a place"


async def test_a_record_of_kafkas_console_producer_begins_its_trace_at_the_policy(
    pipe: Pipeline, sink_of_traces: Collector
) -> None:
    tenant, post, since = unique("console"), unique("console"), await pipe.newest()
    event = uploaded_event(tenant, post, [await pipe.upload(tenant, picture())], f"t-{post}")
    producer = AIOKafkaProducer(bootstrap_servers=pipe.settings.kafka_bootstrap_servers)
    await producer.start()
    try:
        await producer.send_and_wait(UPLOADED.name, orjson.dumps(event), key=f"{tenant}:{post}".encode())
    finally:
        await producer.stop()
    await pipe.announced([post], since)
    spans = await whole_trace(sink_of_traces, trace_of(traceparent_for(f"t-{post}")))
    root = root_in(spans)
    assert (root.attributes["vision.stage"], root.parent) == ("policy", "")
