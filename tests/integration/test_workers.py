"""Several workers, workers that die, inputs that are played again: nothing lost, nothing paid twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.pipeline import Pipeline, Worker, pair_of_workers, picture, pipeline, unique
from vision_app.settings import Settings

LATENCY = {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 0.5, "max_seconds": 1.5}}


@pytest.fixture
def workers(stack: Mapping[str, str], tmp_path: Path) -> Iterator[list[Worker]]:
    with pair_of_workers(stack, tmp_path) as pair:
        yield pair


@pytest.fixture
async def pipe(stack_settings: Settings) -> AsyncIterator[Pipeline]:
    async with pipeline(stack_settings) as opened:
        yield opened


async def test_two_workers_share_the_work_and_answer_for_each_other(pipe: Pipeline, workers: list[Worker]) -> None:
    workers[0].start("python")
    workers[1].start("faust")
    await asyncio.gather(*(worker.ready() for worker in workers))
    tag = unique("shared")
    tenants = [f"{tag}-{number}" for number in range(6)]
    posts = [f"{tag}-post-{number}" for number in range(24)]
    since = await pipe.newest()
    for number, post in enumerate(posts):
        tenant = tenants[number % len(tenants)]
        await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await pipe.announced(posts, since)
    await pipe.idle()

    for tenant in tenants:
        shown = [await pipe.budget(worker, tenant) for worker in workers]
        assert shown[0] | {"trace_id": ""} == shown[1] | {"trace_id": ""}, "a lookup on either worker answers the same"
        billed = [call["total_tokens"] for call in await pipe.billed(tag) if _post_of(call, posts, tenants, tenant)]
        assert shown[0]["spent"] == sum(billed) > 0
    done = ["analysis_completed" in worker.log() for worker in workers]
    assert done == [True, True], "both worked"
    assert max(worker.stop() for worker in workers) < 30


async def test_killed_workers_lose_nothing_and_the_ledger_covers_the_bill(
    pipe: Pipeline, workers: list[Worker]
) -> None:
    for worker in workers:
        worker.start()
    await asyncio.gather(*(worker.ready() for worker in workers))
    await pipe.faults(LATENCY)
    tag = unique("killed")
    tenants = [f"{tag}-{number}" for number in range(3)]
    posts = [f"{tag}-post-{number}" for number in range(30)]
    since = await pipe.newest()
    for number, post in enumerate(posts):
        tenant = tenants[number % len(tenants)]
        await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])

    for worker, share in ((workers[1], 6), (workers[0], 15)):
        await _until_announced(pipe, posts, since, share)
        worker.kill()
        worker.start()
        await worker.ready()
    await pipe.announced(posts, since)
    await pipe.idle()

    events = await pipe.all_announced(posts, since)
    assert {post: len(entries) for post, entries in events.items()} == dict.fromkeys(posts, 1)
    assert {entries[0].event_type for entries in events.values()} == {"posts.vision.analyzed"}
    budgets = [await pipe.budget(workers[0], tenant) for tenant in tenants]
    assert sum(budget["open_grants"] + budget["waiting"] for budget in budgets) == 0
    bill = sum(call["total_tokens"] for call in await pipe.billed(tag))
    assert sum(budget["spent"] for budget in budgets) >= bill


async def test_a_recorded_input_can_be_played_again_without_being_paid_again(
    pipe: Pipeline, workers: list[Worker], stack: Mapping[str, str]
) -> None:
    workers[0].start()
    await workers[0].ready()
    tenant, post = unique("again"), unique("again")
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await pipe.announced([post], since)
    await pipe.idle()

    consumed = _vision(stack, "kafka", "consume", "--topic", "posts.vision.uploaded", "--from-beginning")
    [line] = [line for line in consumed.splitlines() if f'"{post}"' in line]
    _vision(stack, "kafka", "produce", "--topic", "posts.vision.uploaded", given=line + "\n")
    await pipe.idle()
    assert len((await pipe.all_announced([post], since))[post]) == 1
    assert len(await pipe.billed(post)) == 1


async def test_sigterm_lets_a_paid_call_end_and_its_answer_is_used(pipe: Pipeline, workers: list[Worker]) -> None:
    workers[0].start()
    await workers[0].ready()
    tenant, post = unique("drained"), unique("drained")
    await pipe.faults({"endpoint": "chat", "session": f"t-{post}", "fault": {"kind": "latency", "seconds": 3}})
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await _until_called(pipe, post)
    await asyncio.to_thread(workers[0].stop)
    [call] = await pipe.billed(post)

    workers[0].start()
    await workers[0].ready()
    await pipe.announced([post], since)
    await pipe.idle()
    assert len(await pipe.billed(post)) == 1, "the answer was stored before the worker stopped"
    assert (await pipe.budget(workers[0], tenant))["spent"] == call["total_tokens"]


async def _until_announced(pipe: Pipeline, posts: list[str], since: str, count: int) -> None:
    async with asyncio.timeout(120):
        while sum(bool(found) for found in (await pipe.all_announced(posts, since)).values()) < count:
            await asyncio.sleep(0.1)


async def _until_called(pipe: Pipeline, post: str) -> None:
    """Wait until the simulator has the call: S3 holds the record that it was begun."""
    async with asyncio.timeout(60):
        while not (await pipe.simulator.get("/admin/bill")).json() or not await _in_flight(pipe):
            await asyncio.sleep(0.05)


async def _in_flight(pipe: Pipeline) -> bool:
    bill = (await pipe.simulator.get("/admin/bill", params={"entries": 0})).json()
    return any(client["in_flight"] for client in bill.values())


def _post_of(call: dict[str, str], posts: list[str], tenants: list[str], tenant: str) -> bool:
    number = posts.index(call["session_id"].removeprefix("t-"))
    return tenants[number % len(tenants)] == tenant


def _vision(stack: Mapping[str, str], *arguments: str, given: str | None = None) -> str:
    command = [str(Path(sys.executable).with_name("vision")), *arguments]
    timeout = ["--timeout-ms", "5000"] if "consume" in arguments else []
    ran = subprocess.run(
        [*command, *timeout], env={**os.environ, **stack}, input=given, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
