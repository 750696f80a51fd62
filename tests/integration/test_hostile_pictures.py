"""The corpus of hostile pictures through the whole pipeline: every post ends explained, and the worker lives on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psutil

from tests.hostile_pictures import CASES, SENT, Case
from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.operations.neighbours import upload

MEMORY_MB = 512
WORKER = {"VISION_DECODING_TIMEOUT": "4", "VISION_DECODING_MEMORY_MB": str(MEMORY_MB)}
UNWANTED = ("image/webp", "image/gif", "image/jp2", "image/svg+xml")
"""The policy passes these over; declared as something else they reach the decoders."""


async def test_every_hostile_post_ends_explained(pipe: Pipeline, worker: Worker) -> None:
    tenant, tag = unique("bombs"), unique("bombs")
    since = await pipe.newest()
    posts = {f"{tag}-{number}": case for number, case in enumerate(CASES)}
    good = f"{tag}-good"
    async with watched(worker) as peaks:
        for post, case in posts.items():
            await pipe.publish(tenant, post, [await upload(pipe.s3, tenant, case.content(), declared(case))])
        await pipe.publish(tenant, good, [await pipe.upload(tenant, picture())])
        events = await pipe.announced([*posts, good], since)
        await pipe.idle()

    ended = {post: events[post].body["enrichments"][0] for post in posts}
    for post, case in posts.items():
        item = ended[post]
        if item.get("reason") == "policy":
            assert item["details"]["policy_name"] == "image_too_large", case.name
            continue
        if case.expected == SENT:
            assert item["status"] in ("analyzed", "partial"), (case.name, item)
        else:
            assert (item["status"], item["reason"]) == ("failed", case.expected), (case.name, item)
            assert item["details"], case.name
    assert sum(item.get("reason") != "policy" for item in ended.values()) >= len(CASES) - 2
    assert events[good].event_type == "posts.vision.analyzed"
    assert worker.alive
    assert 0 < peaks["decoder"] < MEMORY_MB * 1024**2
    assert peaks["worker"] < 800 * 1024**2
    print({name: f"{size / 1e6:.0f} MB at most" for name, size in peaks.items()})


def declared(case: Case) -> str:
    return "image/jpeg" if case.declared in UNWANTED else case.declared


async def test_bytes_that_are_not_those_announced(pipe: Pipeline) -> None:
    tenant, post = unique("forged"), unique("forged")
    medium = await pipe.upload(tenant, picture())
    await pipe.s3.put(medium.s3_key, picture(), "image/png")
    since = await pipe.newest()
    await pipe.publish(tenant, post, [medium])
    item = (await pipe.announced([post], since))[post].body["enrichments"][0]
    assert (item["status"], item["reason"]) == ("failed", "hash_mismatch")
    assert item["details"]["expected"] == medium.sha256
    assert await pipe.billed(post) == []


@contextlib.asynccontextmanager
async def watched(worker: Worker) -> AsyncIterator[dict[str, int]]:
    """The largest resident memory seen meanwhile, of the worker and of its decoders, in bytes."""
    assert worker._process
    process = psutil.Process(worker._process.pid)
    peaks = {"worker": 0, "decoder": 0}

    async def look() -> None:
        while True:
            with contextlib.suppress(psutil.NoSuchProcess):
                peaks["worker"] = max(peaks["worker"], process.memory_info().rss)
                for child in process.children():
                    if "decoder_child" in " ".join(child.cmdline()):
                        peaks["decoder"] = max(peaks["decoder"], child.memory_info().rss)
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look())
    try:
        yield peaks
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
