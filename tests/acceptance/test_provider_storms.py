"""A provider that refuses many calls at once: every post is answered, none paid twice, the account not stormed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.integration.pipeline import Pipeline, Worker, picture, unique

pytestmark = pytest.mark.load

WAITING = 50
WORKER = {"VISION_PROVIDER_STREAMS": str(WAITING)}


@pytest.fixture(autouse=True)
async def streams(pipe: Pipeline) -> AsyncIterator[None]:
    """The account has as many streams as the worker thinks, while this module runs."""
    before = (await pipe.simulator.get("/admin/limits")).json()
    (await pipe.simulator.put("/admin/limits", json={**before, "streams": WAITING})).raise_for_status()
    yield
    (await pipe.simulator.put("/admin/limits", json=before)).raise_for_status()


async def test_a_storm_of_429_delays_every_post_and_costs_none_anything(pipe: Pipeline, worker: Worker) -> None:
    """Each of twelve posts is refused three times, once all together; none is paid twice, none is dead-lettered."""
    tag = unique("storm")
    posts = {f"{tag}-{number}": f"{tag}-{number % 4}" for number in range(12)}
    refusal = {"kind": "status", "status": 429, "retry_after": 1}
    await pipe.faults(*({"endpoint": "chat", "session": f"t-{post}", "times": 3, "fault": refusal} for post in posts))
    letters, since = await _sum(worker, "events_dlq_total"), await pipe.newest()
    media = [await pipe.upload(tenant, picture()) for tenant in posts.values()]
    for (post, tenant), medium in zip(posts.items(), media, strict=True):
        await pipe.publish(tenant, post, [medium])
    events = await pipe.announced(list(posts), since)
    await pipe.idle()
    assert {event.body["enrichments"][0]["provider"] for event in events.values()} == {"gigachat"}
    rules = (await pipe.simulator.get("/admin/faults")).json()
    assert sum(rule["fired"] for rule in rules) == 3 * len(posts)
    billed = await pipe.billed(tag)
    assert sorted(call["session_id"] for call in billed) == sorted(f"t-{post}" for post in posts)
    spent = [(await pipe.budget(worker, tenant))["spent"] for tenant in set(posts.values())]
    assert sum(spent) == sum(call["total_tokens"] for call in billed)
    assert await _sum(worker, "events_dlq_total") == letters


async def test_a_revoked_token_with_fifty_calls_waiting_is_renewed_once(pipe: Pipeline, worker: Worker) -> None:
    tag = unique("revoked")
    tenants = [f"{tag}-{number}" for number in range(WAITING // 2)]
    warm = unique("warm")
    since = await pipe.newest()
    await pipe.publish(warm, warm, [await pipe.upload(warm, picture())])  # the token of the module's first call
    await pipe.announced([warm], since)
    media = {tenant: [await pipe.upload(tenant, picture()) for _ in range(2)] for tenant in tenants}
    await pipe.faults(
        {"endpoint": "upload", "fault": {"kind": "latency", "seconds": 1}},
        {"endpoint": "chat", "times": 1, "fault": {"kind": "revoke"}},
        {"endpoint": "oauth", "fault": {"kind": "latency", "seconds": 2}},
    )
    renewed, since = await _tokens_given(pipe), await pipe.newest()
    posts = [
        (tenant, f"{tenant}-{number}", medium) for tenant in tenants for number, medium in enumerate(media[tenant])
    ]
    await asyncio.gather(*(pipe.publish(tenant, post, [medium]) for tenant, post, medium in posts))
    events = await pipe.announced([post for _, post, _ in posts], since)
    assert {event.body["enrichments"][0]["provider"] for event in events.values()} == {"gigachat"}
    assert await _tokens_given(pipe) - renewed == 1
    assert len(await pipe.billed(tag)) == len(posts)


async def _sum(worker: Worker, name: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{worker.metrics_url}/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))


async def _tokens_given(pipe: Pipeline) -> int:
    bill = (await pipe.simulator.get("/admin/bill?entries=0")).json()
    return sum(int(client["oauth_calls"]) for client in bill.values())
