"""Accounts over the API on two real workers: equal to `take_account`, the same on both, cut off with their worker."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.pipeline import Pipeline, Worker, pair_of_workers, picture, pipeline, unique
from vision_app.audit import take_account
from vision_app.audit.figures import Figures
from vision_app.operations.neighbours import never_uploaded
from vision_app.settings import Settings
from vision_app.stores.audits import LEASE

AUDIT = "/api/v1/audit"
OPERATOR = {"Authorization": "Bearer operator", "X-Operator": "anna"}
SECONDS = 120


@pytest.fixture
def workers(stack: Mapping[str, str], tmp_path: Path) -> Iterator[list[Worker]]:
    with pair_of_workers(stack, tmp_path, VISION_API_TOKENS="operator=*,mine=acme") as pair:
        yield pair


@pytest.fixture
async def pipe(stack_settings: Settings, workers: list[Worker]) -> AsyncIterator[Pipeline]:
    for worker in workers:
        worker.start()
    for worker in workers:
        await worker.ready()
    async with pipeline(stack_settings) as opened:
        yield opened


async def ask(worker: Worker, method: str, **more: Any) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, timeout=30, headers=OPERATOR) as client:
        answer = await client.request(method, f"{worker.url}{AUDIT}", **more)
    body: dict[str, Any] = answer.json()
    return answer.status_code, body


async def until_state(worker: Worker, state: str, **query: str) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while True:
        _, body = await ask(worker, "GET", params=query)
        if body["state"] == state:
            return body
        assert time.monotonic() < deadline, f"never {state}: {body}"
        await asyncio.sleep(0.2)


async def child_of(worker: Worker) -> psutil.Process:
    """The process that takes the account which the worker's log tells of last."""
    deadline = time.monotonic() + SECONDS
    while not (
        found := re.findall(
            r'"pid": ?(\d+)[^\n]*"event": ?"audit_started"|"audit_started"[^\n]*"pid": ?(\d+)', worker.log()
        )
    ):
        assert time.monotonic() < deadline, worker.log()[-3000:]
        await asyncio.sleep(0.05)
    return psutil.Process(int("".join(found[-1])))


async def until_gone(process: psutil.Process) -> None:
    deadline = time.monotonic() + 20
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"{process} still runs"
        await asyncio.sleep(0.05)


async def test_an_account_is_that_of_take_account_and_the_same_on_every_worker(
    pipe: Pipeline, workers: list[Worker], stack_settings: Settings
) -> None:
    tenant, since, newest = unique("audited"), datetime.now(UTC), await pipe.newest()
    posts = [unique("post") for _ in range(4)]
    for post in posts[:3]:
        await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await pipe.publish(tenant, posts[3], [never_uploaded(tenant, posts[3])])
    await pipe.announced(posts, newest)
    await pipe.idle()

    scope = {"tenant_id": tenant, "since": since.isoformat()}
    status, begun = await ask(workers[0], "POST", json=scope)
    assert status == 202, begun
    for worker in workers:
        status, refused = await ask(worker, "POST", json={})
        assert (status, refused["error"]["code"]) == (409, "audit_running"), refused
        assert refused["error"]["details"]["running"] == begun["audit"]
    child = await child_of(workers[0])
    assert child.nice() >= 10
    assert not {"operator=*", stack_settings.database_url.get_secret_value()} & set(child.cmdline())

    shown = [await until_state(worker, "taken", tenant_id=tenant) for worker in workers]
    assert [one["summary"] for one in shown] == [shown[0]["summary"]] * 2
    found = shown[0]["summary"]
    account = await take_account(stack_settings, since_ms=round(since.timestamp() * 1000), tenants=[tenant])
    assert found["figures"] == {one.name: getattr(account, one.name) for one in fields(Figures)}
    assert found["waits"]["count"] == account.waits.count == 4
    assert (found["clean"], found["discrepancies"]) == (account.clean, account.discrepancies) == (True, [])
    assert (found["figures"]["inputs"], found["figures"]["analyzed"], found["figures"]["skipped"]) == (4, 3, 1)
    assert found["figures"]["tokens_billed"] == found["figures"]["tokens_postgres"] > 0
    await until_gone(child)
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{workers[0].metrics_url}/metrics")).text
    assert 'vision_audits_total{result="clean"} 1.0' in page


async def test_an_account_ends_with_its_worker(pipe: Pipeline, workers: list[Worker]) -> None:
    """Stopped: recorded at once. Killed: shown as cut off after the lease, and another one may begin."""
    tenant = unique("stopped")
    assert (await ask(workers[0], "POST", json={"tenant_id": tenant}))[0] == 202
    child = await child_of(workers[0])
    await asyncio.to_thread(workers[0].stop)
    await until_gone(child)
    stopped = await until_state(workers[1], "cut_off", tenant_id=tenant)
    assert "start it again" in stopped["audit"]["reason"]
    assert stopped["audit"]["ended_at"] is not None

    tenant, before = unique("killed"), time.monotonic()
    assert (await ask(workers[1], "POST", json={"tenant_id": tenant}))[0] == 202
    child = await child_of(workers[1])
    workers[1].kill()
    await until_gone(child)
    workers[0].start()
    await workers[0].ready()
    if time.monotonic() - before < LEASE.total_seconds() - 5:
        _, body = await ask(workers[0], "GET", params={"tenant_id": tenant})
        assert body["state"] == "running"
    killed = await until_state(workers[0], "cut_off", tenant_id=tenant)
    assert "start it again" in killed["audit"]["reason"]
    assert killed["running"] is None
    status, begun = await ask(workers[0], "POST", json={"tenant_id": tenant})
    assert status == 202, begun
    assert (await until_state(workers[0], "taken", tenant_id=tenant))["audit"]["id"] == begun["audit"]["id"]
