"""What the tests of traces share: publishing with a producer's `traceparent`, and reading what the collector has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from tests.collector import Collector, Received
from tests.integration.pipeline import DEADLINE_SECONDS, Pipeline
from vision_app.operations.neighbours import uploaded_event

STORES = {"postgres", "s3", "neo4j", "redis"}


async def published(pipe: Pipeline, tenant: str, post: str, media: list[Any], **fields: str) -> None:
    event = uploaded_event(tenant, post, media, f"t-{post}")
    entry: dict[Any, Any] = {"event": "posts.vision.uploaded", "data": orjson.dumps(event), **fields}
    await pipe.redis.xadd(pipe.settings.input_streams[0], entry)


async def until(what: Callable[[], Any], missing: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not what():
        assert time.monotonic() < deadline, missing()
        await asyncio.sleep(0.1)


def stores_in(spans: list[Received]) -> set[str]:
    """The stores that the finished post was written to. Rows of the opened post and of charges are no end of it."""
    written = [span.attributes for span in spans if span.name.startswith("write ")]
    return {each["vision.sink"] for each in written if _is_an_end(each)}


def _is_an_end(write: Mapping[str, Any]) -> bool:
    return write["vision.sink"] == "redis" or write.get("vision.status") not in (None, "in_work")


async def whole_trace(found: Collector, trace: str) -> list[Received]:
    """Wait until the trace has arrived up to all of the stores."""

    def shown() -> str:
        return f"only these spans came: {[span.name for span in found.of(trace)]}"

    await until(lambda: stores_in(found.of(trace)) == STORES, shown)
    known: set[str] = set()
    while known != (known := {span.id for span in found.of(trace)}):
        await asyncio.sleep(1.5)  # the worker sends at least once a second
    return found.of(trace)


def tree(spans: list[Received]) -> Mapping[str, Received]:
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans), "every span has an id of its own"
    return by_id


def root_in(spans: list[Received]) -> Received:
    """The one span whose parent is not ours. All others lead up to it."""
    by_id = tree(spans)
    (root,) = [span for span in spans if span.parent not in by_id]
    for span in spans:
        seen = []
        while span.id != root.id:
            assert span.id not in seen, "a circle"
            seen.append(span.id)
            span = by_id[span.parent]
    return root
