"""What a post and the ledger see of a provider that misbehaves: no fault loses a post, none is paid beyond the bill.

Each case makes the simulator misbehave towards one post only (its session), and says how the post must end.
The client's own behaviour towards each fault is tested in `tests/integration/test_gigachat_client.py`; what
befalls many calls together, in `test_provider_storms.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.integration.pipeline import Pipeline, Worker, picture, unique

STATUS = {"kind": "status"}
CASES: dict[str, tuple[dict[str, Any], set[str], int]] = {
    # name: (fault of the first call, how the post may end, calls billed)
    "429 with Retry-After": ({**STATUS, "status": 429, "retry_after": 1}, {"gigachat"}, 1),
    "500": ({**STATUS, "status": 500}, {"gigachat"}, 1),
    "503 as HTML": ({**STATUS, "status": 503, "html": True}, {"gigachat"}, 1),
    "429 in a 200": ({**STATUS, "status": 429, "in_200": True, "retry_after": 1}, {"gigachat"}, 1),
    "400": ({**STATUS, "status": 400}, {"ocr_fallback", "failed"}, 0),
    "413": ({**STATUS, "status": 413}, {"ocr_fallback", "failed"}, 0),
    "422": ({**STATUS, "status": 422}, {"ocr_fallback", "failed"}, 0),
    "token revoked": ({"kind": "revoke"}, {"gigachat"}, 1),
    "hang": ({"kind": "hang"}, {"gigachat"}, 1),
    "dropped connection": ({"kind": "drop"}, {"gigachat"}, 1),
    "dropped after the work": ({"kind": "drop", "after_work": True}, {"gigachat"}, 2),
    "reset in the answer": ({"kind": "reset"}, {"gigachat"}, 2),
    "502 after the work": ({**STATUS, "status": 502, "after_work": True}, {"gigachat"}, 2),
    "hang after the work": ({"kind": "hang", "after_work": True}, {"gigachat"}, 2),
    "slow drip": ({"kind": "drip", "chunk_bytes": 1, "interval": 0.2}, {"gigachat"}, 2),
    "refusal": ({"kind": "refusal", "name": "blacklist"}, {"ocr_fallback", "failed"}, 1),
    "cannot see": ({"kind": "refusal", "name": "cannot_see"}, {"ocr_fallback", "failed"}, 1),
    "truncated answer": ({"kind": "malformed", "name": "truncated"}, {"gigachat"}, 1),
    "empty answer": ({"kind": "malformed", "name": "empty"}, {"ocr_fallback", "failed"}, 1),
}


WORKER = {"GIGACHAT_VISION_TIMEOUT": "10", "GIGACHAT_CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000"}


async def test_every_fault_at_once_and_no_post_is_lost(pipe: Pipeline, worker: Worker) -> None:
    """All cases side by side, as faults come in life; then each post, the bill and the ledger are looked at."""
    tag = unique("matrix")
    posts = {case: f"{tag}-{number}" for number, case in enumerate(CASES)}
    rules = [
        {"endpoint": "chat", "session": f"t-{posts[case]}", "times": 1, "fault": fault}
        for case, (fault, _, _) in CASES.items()
    ]
    await pipe.faults(*rules)
    since = await pipe.newest()
    for case, post in posts.items():
        await pipe.publish(f"{tag}-{_name(case)}", post, [await pipe.upload(f"{tag}-{_name(case)}", picture())])
    events = await pipe.announced(list(posts.values()), since)
    await pipe.idle()

    seen = {}
    for case, post in posts.items():
        item = events[post].body["enrichments"][0]
        budget = await pipe.budget(worker, f"{tag}-{_name(case)}")
        billed = [call["total_tokens"] for call in await pipe.billed(tag) if call["session_id"] == f"t-{post}"]
        seen[case] = (item.get("provider") or item["status"], len(billed))
        assert budget["spent"] >= sum(billed), f"{case}: the ledger falls short of the bill"
        assert (budget["open_grants"], budget["reserved"], budget["waiting"]) == (0, 0, 0), case
    right = {case: seen[case][0] in ends and seen[case][1] == calls for case, (_, ends, calls) in CASES.items()}
    wrong = {case: seen[case] for case, fine in right.items() if not fine}
    assert not wrong, wrong


@pytest.mark.load
async def test_an_account_without_money_parks_the_work_and_spends_nothing(pipe: Pipeline, worker: Worker) -> None:
    """402: the gate asks once a minute whether the package was topped up; readiness names it; the post is answered."""
    tenant, post = unique("unpaid"), unique("unpaid")
    fault = {"kind": "status", "status": 402}
    await pipe.faults({"endpoint": "chat", "session": f"t-{post}", "times": 1, "fault": fault})
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client, asyncio.timeout(30):
        while "gigachat" not in (await client.get("/readyz")).json()["waiting_for"]:
            await asyncio.sleep(0.1)
    assert await pipe.billed(post) == []
    async with asyncio.timeout(40):
        while not await _sum(worker, 'vision_consumer_lag{topic="vision.analysis"}'):
            await asyncio.sleep(0.2)
    event = (await pipe.announced([post], since))[post]
    assert event.body["enrichments"][0]["provider"] == "gigachat"
    assert len(await pipe.billed(post)) == 1


async def _sum(worker: Worker, name: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{worker.metrics_url}/metrics")).text
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))


def _name(case: str) -> str:
    return case.replace(" ", "-").lower()
