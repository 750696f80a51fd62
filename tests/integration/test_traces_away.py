"""Traces while the collector is away: posts go on, and what is lost is counted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx

from tests.collector import collector
from tests.integration.pipeline import DEADLINE_SECONDS, Worker, free_port, picture, pipeline, unique
from tests.integration.traces import until, whole_trace
from vision_app.settings import Settings
from vision_app.telemetry.tracing import trace_of, traceparent_for


async def test_without_a_collector_posts_are_finished_and_spans_are_counted(
    stack: dict[str, str], stack_settings: Settings, tmp_path: Path
) -> None:
    port = free_port()
    worker = Worker(stack, tmp_path, 2, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", NO_PROXY="127.0.0.1")
    worker.start()
    try:
        await worker.ready()
        async with pipeline(stack_settings) as pipe:
            tenant, posts, since = unique("away"), [unique("away") for _ in range(4)], await pipe.newest()
            for post in posts:
                await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
            await pipe.announced(posts, since)

            async def lost() -> float:
                async with httpx.AsyncClient(trust_env=False) as client:
                    page = (await client.get(f"{worker.metrics_url}/metrics")).text
                return sum(
                    float(line.rpartition(" ")[2])
                    for line in page.splitlines()
                    if line.startswith(('vision_spans_total{result="failed"}', 'vision_spans_total{result="dropped"}'))
                )

            deadline = time.monotonic() + DEADLINE_SECONDS
            while not await lost():
                assert time.monotonic() < deadline, "no span was counted as lost"
                await asyncio.sleep(0.2)
            with collector(port) as back:  # it comes back: spans go on, and the log has one line for each change
                post, since = unique("back"), await pipe.newest()
                await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
                await pipe.announced([post], since)
                await whole_trace(back, trace_of(traceparent_for(f"t-{post}")))
                await until(lambda: "spans_exported_again" in worker.log(), lambda: "the log does not say so")
        assert worker.log().count('"spans_not_exported"') == 1
        assert worker.stop() < 30
    finally:
        worker.end()
