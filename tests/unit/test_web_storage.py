"""The pages about storage without Postgres or S3: what they accept, whom they serve, their answers in an outage."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.test_web import Client, Worker, served
from vision_app.domain.storage import Aim
from vision_app.retention.accounts import Usage
from vision_app.retention.cleanup import Report
from vision_app.retention.limits import GIB
from vision_app.retention.lock import StorageBusy
from vision_app.retention.quota import QuotaVerdict
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.s3 import S3Error
from vision_app.telemetry import metrics
from vision_app.web.routes import ROUTES
from vision_app.web.storage import CleanupView
from vision_app.web.storage_answers import by_type

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
BASE = "/api/v1/storage"
TOKENS = {"all": {"Authorization": "Bearer every"}, "own": {"Authorization": "Bearer mine"}}


class Keeper:
    """`StorageKeeper` as the pages see it: two tenants, and the requests it got."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.asked: list[tuple[Aim, bool]] = []
        self.checked: list[tuple[Any, ...]] = []
        self.seconds = 0.0

    async def held(self) -> dict[str, Usage]:
        self._may()
        return {
            "mine": Usage({"media": GIB, "vision": GIB // 2}, {"media": 3, "vision": 2}, AT),
            "a/b": Usage({"media": 3 * GIB, "album": GIB}, {"media": 1, "album": 1}, None),
        }

    async def status(self) -> dict[str, Any]:
        times = {"counted_at": AT, "cleaned_at": None, "requested_at": None}
        return {**times, "pending": True, "drift_bytes": GIB // 4}

    async def check(self, *asked: Any) -> QuotaVerdict:
        self._may()
        self.checked.append(asked)
        return QuotaVerdict(False, "media_limit", GIB, 2 * GIB, 9 * GIB)

    def start_clean_up(self, aim: Aim, *, dry_run: bool) -> asyncio.Task[Report]:
        self.asked.append((aim, dry_run))
        return asyncio.create_task(self._clean_up(aim, dry_run))

    async def _clean_up(self, aim: Aim, dry_run: bool) -> Report:
        await asyncio.sleep(self.seconds)
        self._may()
        deleted = {("media", "emergency"): 2, ("crawl", "ttl"): 1}
        freed = {("media", "emergency"): GIB, ("crawl", "ttl"): GIB // 2}
        return Report(
            *(aim, dry_run),
            deleted=Counter(deleted),
            freed=Counter(freed),
            protected=Counter({"needed": GIB}),
            left_bytes=12 * GIB,
            total_bytes=14 * GIB,
        )

    def give_up(self) -> None:
        raise AssertionError("Postgres answers")

    def _may(self) -> None:
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def worker(keeper: Keeper) -> Any:
    worker: Any = Worker()
    worker.keeper = keeper
    return worker


@pytest.fixture
async def client(worker: Any) -> AsyncIterator[Client]:
    async with served(worker) as client:
        yield client


@pytest.fixture
async def guarded(worker: Any) -> AsyncIterator[Client]:
    async with served(worker, vision_api_tokens="every=*,mine=mine") as client:
        yield client


async def test_quota(client: Client) -> None:
    status, body = await client.ask("GET", f"{BASE}/quota")
    assert status == 200
    assert (body["total_gb"], body["limit_gb"], body["usage_percent"]) == (5.5, 15, 36.67)
    assert body["by_type"] == {"media": 4, "vision": 0.5, "crawl": 0, "album": 1, "other": 0}
    assert (body["emergency_threshold_gb"], body["last_updated"]) == (14, "2026-11-22T12:00:00Z")


async def test_stats(client: Client) -> None:
    status, body = await client.ask("GET", f"{BASE}/stats")
    assert status == 200
    assert (body["current"]["total_gb"], body["limits"]["total_bucket_gb"]) == (5.5, 15)
    assert body["limits"]["per_tenant_max_gb"] == 2
    assert body["policies"] == {
        "media_ttl_days": 30,
        "vision_ttl_days": 14,
        "crawl_ttl_days": 7,
        "compression_required": False,
    }
    assert [share["tenant_id"] for share in body["largest_tenants"]] == ["a/b", "mine"]
    assert (body["cleanup_due"], body["drift_gb"]) == (True, 0.25)


async def test_usage_of_a_tenant(client: Client) -> None:
    _, body = await client.ask("GET", f"{BASE}/usage/mine")
    assert (body["usage_gb"], body["limit_gb"], body["usage_percent"], body["objects"]) == (1.5, 2, 75, 5)
    _, body = await client.ask("GET", f"{BASE}/usage/a%2Fb")
    assert (body["tenant_id"], body["usage_gb"]) == ("a/b", 4)
    _, body = await client.ask("GET", f"{BASE}/usage/nobody")
    assert (body["usage_gb"], body["last_updated"]) == (0, None)


async def test_a_check_says_why_not(client: Client, keeper: Keeper) -> None:
    asked = {"tenant_id": "mine", "size_bytes": 5, "content_type": "media"}
    status, body = await client.ask("POST", f"{BASE}/quota/check", json=asked)
    assert (status, body["allowed"], body["reason"]) == (200, False, "media_limit")
    assert (body["current_usage_gb"], body["tenant_limit_gb"], body["bucket_usage_gb"]) == (1, 2, 9)
    assert keeper.checked == [("mine", 5, "media")]


@pytest.mark.parametrize(
    "wrong", [{"size_bytes": 0}, {"size_bytes": -1}, {"content_type": "album"}, {"tenant_id": ""}, {"more": 1}]
)
async def test_a_check_of_nonsense_is_refused(client: Client, keeper: Keeper, wrong: dict[str, Any]) -> None:
    asked = {"tenant_id": "mine", "size_bytes": 5, "content_type": "media", **wrong}
    status, body = await client.ask("POST", f"{BASE}/quota/check", json=asked)
    assert (status, keeper.checked) == (422, [])
    assert [fault["name"] for fault in body["error"]["details"]["faults"]] == list(wrong)


@pytest.mark.parametrize("more", [{}, {"data": b""}, {"json": {}}], ids=["no body", "empty", "object"])
async def test_a_clean_up_needs_no_body(client: Client, keeper: Keeper, more: dict[str, Any]) -> None:
    status, body = await client.ask("POST", f"{BASE}/cleanup", **more)
    assert (status, body["deleted_count"], body["freed_gb"], body["total_gb"]) == (200, 3, 1.5, 12)
    assert {"content_type": "media", "reason": "emergency", "count": 2, "gb": 1.0} in body["freed"]
    assert body["protected_gb"] == {"needed": 1}
    assert keeper.asked == [(Aim("manual"), False)]


async def test_a_clean_up_as_asked(client: Client, keeper: Keeper) -> None:
    asked = {"target_free_gb": 5, "content_type": "media", "dry_run": True}
    status, body = await client.ask("POST", f"{BASE}/cleanup", json=asked)
    assert (status, body["dry_run"], body["total_gb"]) == (200, True, 14)
    await client.ask("POST", f"{BASE}/cleanup?dry_run=true")
    assert keeper.asked == [(Aim("manual", "media", 10 * GIB), True), (Aim("manual"), True)]


@pytest.mark.parametrize(
    "wrong", [{"target_free_gb": -1}, {"target_free_gb": 16}, {"content_type": "album"}, {"target": 5}]
)
async def test_a_wrong_clean_up_does_nothing(client: Client, keeper: Keeper, wrong: dict[str, Any]) -> None:
    status, body = await client.ask("POST", f"{BASE}/cleanup", json=wrong)
    assert (status, keeper.asked) == (422, [])
    assert [fault["name"] for fault in body["error"]["details"]["faults"]] == list(wrong)


class ImpatientView(CleanupView):
    answer_seconds = 0.01


async def test_a_long_clean_up_goes_on_after_the_request(worker: Any, keeper: Keeper) -> None:
    keeper.seconds = 600
    async with served(worker, {**ROUTES, f"{BASE}/cleanup": ImpatientView}) as client:
        status, body = await client.ask("POST", f"{BASE}/cleanup")
    assert (status, body["running"], body["see"]) == (202, True, f"{BASE}/stats")


async def test_one_clean_up_at_a_time(client: Client, keeper: Keeper) -> None:
    keeper.fault = StorageBusy("under way")
    status, body = await client.ask("POST", f"{BASE}/cleanup")
    assert (status, body["error"]["code"]) == (409, "cleanup_running")


@pytest.mark.parametrize("page", ["quota", "stats", "usage/mine", "cleanup"])
async def test_while_postgres_is_away(client: Client, keeper: Keeper, page: str) -> None:
    keeper.fault = SinkUnavailable("postgres://secret")
    status, body = await client.ask("POST" if page == "cleanup" else "GET", f"{BASE}/{page}")
    assert (status, body["error"]["code"]) == (503, "store_unavailable")
    assert "secret" not in str(body)
    assert body["detail"].startswith("Postgres does not answer")


async def test_while_s3_is_away_it_is_s3_that_is_named(client: Client, keeper: Keeper) -> None:
    keeper.fault = S3Error("a secret place")
    status, body = await client.ask("POST", f"{BASE}/cleanup")
    assert (status, body["detail"]) == (503, "S3 does not answer; see `vision doctor`")


@pytest.mark.parametrize("page", ["quota", "stats"])
async def test_the_usage_of_the_bucket_is_not_shown_to_a_tenant(guarded: Client, page: str) -> None:
    assert (await guarded.ask("GET", f"{BASE}/{page}", headers=TOKENS["own"]))[0] == 403
    assert (await guarded.ask("GET", f"{BASE}/{page}", headers=TOKENS["all"]))[0] == 200
    assert (await guarded.ask("GET", f"{BASE}/{page}"))[0] == 401


async def test_a_tenant_sees_its_own_usage_only(guarded: Client) -> None:
    assert (await guarded.ask("GET", f"{BASE}/usage/mine", headers=TOKENS["own"]))[0] == 200
    assert (await guarded.ask("GET", f"{BASE}/usage/a%2Fb", headers=TOKENS["own"]))[0] == 404
    assert (await guarded.ask("GET", f"{BASE}/usage/a%2Fb", headers=TOKENS["all"]))[0] == 200


async def test_a_tenant_checks_for_itself_and_learns_nothing_of_others(guarded: Client, keeper: Keeper) -> None:
    asked = {"tenant_id": "mine", "size_bytes": 5, "content_type": "media"}
    status, body = await guarded.ask("POST", f"{BASE}/quota/check", json=asked, headers=TOKENS["own"])
    assert (status, body["bucket_usage_gb"]) == (200, None)
    status, _ = await guarded.ask(
        "POST", f"{BASE}/quota/check", json={**asked, "tenant_id": "a/b"}, headers=TOKENS["own"]
    )
    assert (status, len(keeper.checked)) == (404, 1)


async def test_only_an_operator_cleans_up(guarded: Client, keeper: Keeper) -> None:
    assert (await guarded.ask("POST", f"{BASE}/cleanup", headers=TOKENS["own"]))[0] == 403
    assert (await guarded.ask("POST", f"{BASE}/cleanup"))[0] == 401
    assert keeper.asked == []
    assert (await guarded.ask("POST", f"{BASE}/cleanup", headers=TOKENS["all"]))[0] == 200


def test_the_pages_name_every_type_that_is_counted() -> None:
    assert set(by_type(None)) == set(metrics.CONTENT_TYPES)
    assert CleanupView.__doc__
