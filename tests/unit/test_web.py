"""The API's pages without a broker or a store: refusals, rights of callers, work while Postgres is away."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from tests.api_document import faults
from tests.unit.test_budget import TENANT, Tenant
from tests.web_app import application
from vision_app.domain.budget import BudgetRules
from vision_app.messages import Drop, Pause, Reset, Resume, SetLimit
from vision_app.settings import load_settings
from vision_app.streams.ownership import LeftUnacked
from vision_app.web.errors import ApiError
from vision_app.web.openapi import document
from vision_app.web.page import Page
from vision_app.web.readers import Readers
from vision_app.web.routes import ROUTES

DOCUMENT = document(ROUTES)
TOKENS = {"all": {"Authorization": "Bearer every"}, "own": {"Authorization": "Bearer mine"}}
BUDGET = f"/api/v1/budget/{TENANT}"


HERE = URL("http://127.0.0.1:8000")


class Table(dict[bytes, Any]):
    """A table of the worker, as the pages read it."""

    def __init__(self, name: str, rows: Mapping[bytes, Any] | None = None) -> None:
        super().__init__(rows or {})
        self.name = name
        self.changelog_topic = SimpleNamespace(get_topic_name=lambda: f"vision-{name}-changelog")

    def row(self, key: bytes) -> Any:
        return self.get(key)


class Worker:
    """The worker as the pages see it: one tenant's ledger, its queue, Postgres and Kafka."""

    def __init__(self) -> None:
        tenant = self.tenant = Tenant(limit=250_000)
        tenant.reserve("spender", 1000)
        assert tenant.row is not None
        self.sent: list[Any] = []
        self.recorded: list[tuple[Any, ...]] = []
        self.postgres = self.kafka = True
        self.started, self.should_stop = True, False
        self.posts = Table("posts")
        self.parked = Table("parked")
        self.readers, self.outbox, self.sensors = self, self, self
        self.settings = load_settings()
        self.away: dict[str, str] = {}
        self.rows: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []
        self.owner = HERE  # of every key
        self.conf = SimpleNamespace(canonical_url=HERE)
        self.router = SimpleNamespace(key_store=lambda table, key: self.owner)
        client = SimpleNamespace(add_topic=self._add_topic)
        self.producer = SimpleNamespace(_producer=SimpleNamespace(client=client))
        self.http_client: aiohttp.ClientSession | None = None

    async def _add_topic(self, topic: str) -> None:
        """As aiokafka's client: it fetches the topic's partitions."""

    def park(self, *names: str) -> None:
        """Park these tasks: the tenant is paused."""
        self.tenant.do(Pause(tenant_id=TENANT))
        for name in names:
            self.tenant.reserve(name, 10)
        entries = {f"{TENANT}|{n}".encode(): task for n, task in self.tenant.parked.items()}
        self.parked = Table("parked", entries)

    @property
    def budgets(self) -> Table:
        return Table("budget", {TENANT.encode(): self.tenant.ledger})

    def budget_rules(self) -> BudgetRules:
        return self.tenant.rules

    def serving(self) -> bool:
        return True

    def waiting_for(self) -> dict[str, str]:
        return self.away

    @property
    def pulse(self) -> Any:
        return self

    @asynccontextmanager
    async def watched(self, give_up: Callable[[], None]) -> AsyncIterator[None]:
        yield

    def not_ready(self) -> str | None:
        return None

    @asynccontextmanager
    async def for_page(self) -> AsyncIterator[Any]:
        if not self.postgres:
            raise ApiError(503, "store_unavailable", "away")
        yield self

    async def record_action(self, *action: Any) -> int:
        self.recorded.append(action)
        return 1

    async def get(self, post_id: str, tenant_id: str | None) -> list[dict[str, Any]]:
        return self.rows

    async def medium(self, sha256: str, tenant_id: str | None) -> list[dict[str, Any]]:
        return [row for row in self.rows if tenant_id in (None, row["tenant_id"])]

    async def stats(self, tenant_id: str | None) -> dict[str, Any]:
        return {"total_analyzed": 0, "memes_count": 0, "gigachat": 0, "ocr": 0, "cached": 0, "tokens": 0, "by_type": {}}

    async def analyzed(self, wanted: Any, **_: Any) -> tuple[list[Any], int]:
        self.wanted = wanted
        return [], 0

    async def search(self, *wanted: Any) -> list[Any]:
        self.searched = wanted
        return self.found

    async def send(self, messages: Any, *, keep_trying: Any) -> None:
        if not self.kafka:
            raise LeftUnacked
        self.sent += messages

    def on_web_request_start(self, *_: Any, **__: Any) -> None: ...

    def on_web_request_end(self, *_: Any, **__: Any) -> None: ...


@pytest.fixture
def worker() -> Worker:
    return Worker()


class Client:
    """Sends requests, and checks every answer against the OpenAPI document."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self._client = client

    async def ask(self, method: str, url: str, **more: Any) -> tuple[int, Any]:
        async with self._client.request(method, url, **more) as answer:
            body = await answer.json()
            assert answer.headers["X-Trace-ID"] == body["trace_id"]
            path = next((p for p in ROUTES if re.fullmatch(re.sub(r"{\w+}", "[^/]+", p), url.partition("?")[0])), None)
            if path is not None and method.lower() in DOCUMENT["paths"][path]:
                assert faults(DOCUMENT, path, method, answer.status, body) == []
            return answer.status, body


@asynccontextmanager
async def served(worker: Worker, routes: Mapping[str, type[Page]] = ROUTES, **settings: Any) -> AsyncIterator[Client]:
    app = application(load_settings(**settings), worker, routes)
    async with TestClient(TestServer(app)) as client:
        yield Client(client)


@pytest.fixture
async def client(worker: Worker) -> AsyncIterator[Client]:
    async with served(worker) as client:
        yield client


@pytest.fixture
async def guarded(worker: Worker) -> AsyncIterator[Client]:
    async with served(worker, vision_api_tokens=f"every=*,mine={TENANT}") as client:
        yield client


# --- what is refused --------------------------------------------------------------------------------------------------

WRONG = [
    ("/api/v1/vision/posts?page=0", "page"),
    ("/api/v1/vision/posts?page=x", "page"),
    ("/api/v1/vision/posts?page=99999999999999999999", "page"),
    ("/api/v1/vision/posts?page_size=0", "page_size"),
    ("/api/v1/vision/posts?page_size=101", "page_size"),
    ("/api/v1/vision/posts?has_meme=perhaps", "has_meme"),
    ("/api/v1/vision/posts?provider=openai", "provider"),
    ("/api/v1/vision/posts?analyzed_after=yesterday", "analyzed_after"),
    ("/api/v1/vision/posts?analyzed_after=2026", "analyzed_after"),
    ("/api/v1/vision/posts?analyzed_after=0.5", "analyzed_after"),
    ("/api/v1/vision/posts?analyzed_after=9999-12-31T23:59:59-10:00", "analyzed_after"),
    ("/api/v1/vision/posts?analyzed_after=0001-01-01T00:00:00%2B10:00", "analyzed_after"),
    ("/api/v1/vision/posts?analyzed_after=99999-01-01T00:00:00Z", "analyzed_after"),
    ("/api/v1/vision/posts?analyzed_after=0000-01-01T00:00:00Z", "analyzed_after"),
    ("/api/v1/vision/posts?channel_id=a%00b", "channel_id"),
    ("/api/v1/vision/posts?channel_id=", "channel_id"),
    ("/api/v1/vision/posts?has_mem=true", "has_mem"),
    ("/api/v1/vision/posts?page=1&page=2", "page"),
    ("/api/v1/vision/posts/p%00", "post_id"),
    (f"/api/v1/vision/posts/{'p' * 257}", "post_id"),
    (f"/api/v1/vision/media/{'a' * 129}", "sha256"),
    ("/api/v1/vision/stats?tenant_id=%00", "tenant_id"),
    (f"{BUDGET}/parked?count=1001", "count"),
    (f"{BUDGET}/parked?start=-1", "start"),
    ("/healthz?deep=1", "deep"),
]


@pytest.mark.parametrize(("url", "name"), WRONG)
async def test_a_wrong_parameter_is_named(client: Client, url: str, name: str) -> None:
    status, body = await client.ask("GET", url)
    assert (status, body["error"]["code"]) == (422, "invalid_request")
    assert [fault["name"] for fault in body["error"]["details"]["faults"]] == [name]


BODIES = [b"", b"{", b"{}", b"5000", b'{"limit": -1}', b'{"limit": "5000"}', b'{"limit": true}', b'{"limit": 1.5}']


@pytest.mark.parametrize("body", [*BODIES, b'{"limit": 5, "day": 1}', b'{"limit": 1e99}', b"\xff"])
async def test_a_wrong_limit_changes_nothing(client: Client, worker: Worker, body: bytes) -> None:
    status, answer = await client.ask("PUT", BUDGET, data=body)
    assert status == 422
    assert answer["error"]["details"]["faults"]
    assert (worker.sent, worker.recorded) == ([], [])


async def test_a_body_beyond_the_bound_is_not_read(client: Client) -> None:
    status, body = await client.ask("PUT", "/api/v1/budget/t/unknown-page", data=b"x" * 100_000)
    assert (status, body["error"]["code"]) == (404, "not_found")
    async with client._client.put(BUDGET, data=b" " * 100_000) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["code"]


async def test_a_wrong_method_gets_the_allowed_ones(client: Client) -> None:
    async with client._client.put("/api/v1/vision/stats") as answer:
        assert answer.status == 405
        assert (await answer.json())["error"]["code"] == "method_not_allowed"


async def test_filters_reach_the_store_as_meant(client: Client, worker: Worker) -> None:
    url = "/api/v1/vision/posts?provider=ocr&has_meme=1&channel_id=c&analyzed_after=2026-11-22T10:00:00&tenant_id=x"
    assert (await client.ask("GET", url))[0] == 200
    wanted = worker.wanted
    assert (wanted.provider, wanted.has_meme, wanted.channel_id, wanted.tenant_id) == ("ocr_fallback", True, "c", "x")
    assert wanted.analyzed_after == datetime(2026, 11, 22, 10, tzinfo=UTC)


async def test_a_page_of_another_site_changes_nothing(client: Client, worker: Worker) -> None:
    for origin in ("http://elsewhere.example", "null", "http://127.0.0.1:1"):
        status, body = await client.ask("POST", f"{BUDGET}/pause", headers={"Origin": origin})
        assert (status, body["error"]["code"]) == (403, "foreign_origin")
    assert worker.sent == []
    own = str(client._client.make_url("/")).rstrip("/")
    assert (await client.ask("POST", f"{BUDGET}/pause", headers={"Origin": own}))[0] == 202


# --- who may do what --------------------------------------------------------------------------------------------------

CHANGES = [("POST", "/reset"), ("POST", "/pause"), ("POST", "/resume"), ("PUT", ""), ("DELETE", "/parked")]
CHANGES += [("DELETE", "/parked/3")]


@pytest.mark.parametrize(("method", "path"), CHANGES)
async def test_what_a_tenant_may_spend_is_for_operators(
    guarded: Client, worker: Worker, method: str, path: str
) -> None:
    worker.park("a", "b", "c")
    more: dict[str, Any] = {"json": {"limit": 5}} if method == "PUT" else {}
    assert (await guarded.ask(method, BUDGET + path, **more))[0] == 401
    assert (await guarded.ask(method, BUDGET + path, headers=TOKENS["own"], **more))[0] == 403
    assert (await guarded.ask(method, f"/api/v1/budget/other{path}", headers=TOKENS["own"], **more))[0] == 404
    assert (worker.sent, worker.recorded) == ([], [])
    assert (await guarded.ask(method, BUDGET + path, headers=TOKENS["all"], **more))[0] == 202


async def test_a_tenant_sees_only_its_own_posts(guarded: Client, worker: Worker) -> None:
    own = TOKENS["own"]
    assert (await guarded.ask("GET", BUDGET, headers=own))[0] == 200
    assert (await guarded.ask("GET", f"{BUDGET}/parked", headers=own))[0] == 200
    for url in ("/api/v1/budget/other", "/api/v1/budget/other/parked", "/api/v1/vision/posts?tenant_id=other"):
        assert (await guarded.ask("GET", url, headers=own))[0] == 404
    for url in ("/api/v1/vision/stats?tenant_id=other", "/api/v1/vision/media/a?tenant_id=other"):
        assert (await guarded.ask("GET", url, headers=own))[0] == 404
    assert (await guarded.ask("GET", "/api/v1/vision/posts", headers=own))[0] == 200
    assert worker.wanted.tenant_id == TENANT
    assert (await guarded.ask("GET", "/healthz"))[0] == 200


async def test_one_medium_of_several_tenants_is_not_guessed(client: Client, worker: Worker) -> None:
    shown = {"sha256": "a", "s3_key": "k", "mime_type": "image/png", "size_bytes": 1, "posts": ["p"]}
    names = ("vision_classification", "is_meme", "description", "provider", "analyzed_at", "expired_at")
    nothing = dict.fromkeys(names)
    worker.rows = [{**shown, **nothing, "tenant_id": tenant} for tenant in ("x", "y")]
    assert (await client.ask("GET", "/api/v1/vision/media/a"))[0] == 409
    status, body = await client.ask("GET", "/api/v1/vision/media/a?tenant_id=y")
    assert (status, body["tenant_id"]) == (200, "y")
    assert (await client.ask("GET", "/api/v1/vision/media/a?tenant_id=z"))[0] == 404


# --- commands ---------------------------------------------------------------------------------------------------------


async def test_commands_are_recorded_and_sent_under_the_operators_name(client: Client, worker: Worker) -> None:
    anna = {"X-Operator": "anna"}
    status, body = await client.ask("PUT", BUDGET, json={"limit": 5000}, headers=anna)
    assert status == 202
    assert (body["accepted"], body["recorded"], body["operator"], body["see"]) == (True, True, "anna", BUDGET)
    await client.ask("POST", f"{BUDGET}/reset", headers=anna)
    await client.ask("POST", f"{BUDGET}/pause")
    await client.ask("POST", f"{BUDGET}/resume", headers=anna)
    await client.ask("PUT", BUDGET, json={"limit": None})
    assert worker.recorded == [
        (TENANT, "set_limit", "anna", 5000, None),
        (TENANT, "reset", "anna", None, None),
        (TENANT, "pause", "api", None, None),
        (TENANT, "resume", "anna", None, None),
        (TENANT, "set_limit", "api", None, None),
    ]
    assert worker.sent == [
        SetLimit(tenant_id=TENANT, limit=5000),
        Reset(tenant_id=TENANT),
        Pause(tenant_id=TENANT),
        Resume(tenant_id=TENANT),
        SetLimit(tenant_id=TENANT, limit=None),
    ]


async def test_without_postgres_only_what_saves_money_is_accepted(client: Client, worker: Worker) -> None:
    worker.postgres = False
    for method, path, more in (
        ("POST", "/reset", {}),
        ("POST", "/resume", {}),
        ("PUT", "", {"json": {"limit": 250_001}}),
    ):
        status, body = await client.ask(method, BUDGET + path, **more)
        assert (status, body["error"]["code"]) == (503, "store_unavailable")
    assert worker.sent == []
    for method, path, more in (("POST", "/pause", {}), ("PUT", "", {"json": {"limit": 249_999}})):
        status, body = await client.ask(method, BUDGET + path, **more)
        assert (status, body["recorded"]) == (202, False)
    assert worker.sent == [Pause(tenant_id=TENANT), SetLimit(tenant_id=TENANT, limit=249_999)]


async def test_the_default_is_a_raise_where_an_operator_had_set_less(client: Client, worker: Worker) -> None:
    worker.tenant.do(SetLimit(tenant_id=TENANT, limit=10))
    worker.postgres = False
    assert (await client.ask("PUT", BUDGET, json={"limit": None}))[0] == 503
    assert (await client.ask("PUT", BUDGET, json={"limit": 10}))[0] == 202


async def test_a_limit_of_a_ledger_not_yet_loaded_needs_postgres(client: Client, worker: Worker) -> None:
    worker.tenant = Tenant(limit=250_000, loaded=False)
    worker.tenant.do(Pause(tenant_id=TENANT))
    worker.postgres = False
    assert (await client.ask("PUT", BUDGET, json={"limit": 1}))[0] == 503


async def test_a_command_that_kafka_does_not_take_is_not_called_accepted(client: Client, worker: Worker) -> None:
    worker.kafka = False
    status, body = await client.ask("POST", f"{BUDGET}/reset")
    assert (status, body["error"]["code"]) == (503, "not_sent")
    worker.started = False
    assert (await client.ask("POST", f"{BUDGET}/pause"))[1]["error"]["code"] == "not_ready"


async def test_the_queue_is_shown_in_pages_and_dropped_by_number_or_whole(client: Client, worker: Worker) -> None:
    worker.park("a", "b", "c")
    worker.tenant.do(Drop(tenant_id=TENANT, first=2, before=3))
    _, body = await client.ask("GET", f"{BUDGET}/parked?count=1")
    assert ([task["post_id"] for task in body["tasks"]], body["waiting"], body["next_start"]) == (["a"], 2, 3)
    _, body = await client.ask("GET", f"{BUDGET}/parked?start={body['next_start']}")
    assert ([task["post_id"] for task in body["tasks"]], body["next_start"]) == (["c"], None)
    await client.ask("DELETE", f"{BUDGET}/parked/3")
    await client.ask("DELETE", f"{BUDGET}/parked")
    assert worker.sent == [Drop(tenant_id=TENANT, first=3, before=4), Drop(tenant_id=TENANT)]
    _, body = await client.ask("GET", "/api/v1/budget/nobody/parked")
    assert (body["waiting"], body["tasks"], body["granted"]) == (0, [], [])
    _, body = await client.ask("GET", f"{BUDGET}/parked")
    assert body["granted"] == ["spender"], "whose task is granted is forgotten by no queue"


async def test_a_task_that_does_not_wait_cannot_be_dropped(client: Client, worker: Worker) -> None:
    worker.park("a", "b", "c")
    worker.tenant.do(Drop(tenant_id=TENANT, first=2, before=3))
    for number in (0, 2, 4, 2**53):
        status, body = await client.ask("DELETE", f"{BUDGET}/parked/{number}")
        assert (status, body["error"]["code"]) == (404, "not_found"), number
        assert "vision budget parked ls" in body["error"]["message"]
        assert (await client.ask("GET", f"{BUDGET}/parked/{number}"))[0] == 404
    assert (await client.ask("DELETE", "/api/v1/budget/nobody/parked/3"))[0] == 404
    assert worker.sent == []
    status, body = await client.ask("GET", f"{BUDGET}/parked/3")
    assert (status, body["task"]["post_id"]) == (200, "c")


@pytest.mark.parametrize(("status", "expected"), [(404, 404), (200, 202), (500, 503)])
async def test_a_task_of_another_worker_is_read_from_its_owner(
    client: Client, worker: Worker, status: int, expected: int
) -> None:
    asked: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.path))
        return web.json_response({}, status=status)

    owner = web.Application()
    owner.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(owner) as server, aiohttp.ClientSession() as worker.http_client:
        worker.owner = server.make_url("/")
        assert (await client.ask("DELETE", f"{BUDGET}/parked/3"))[0] == expected
    assert asked == [("GET", f"{BUDGET}/parked/3")]


async def test_an_operators_name_that_is_none_is_refused(client: Client) -> None:
    for name in ("", "x" * 65):
        assert (await client.ask("POST", f"{BUDGET}/pause", headers={"X-Operator": name}))[0] == 422


async def test_a_tenant_never_seen_has_spent_nothing(client: Client) -> None:
    status, body = await client.ask("GET", "/api/v1/budget/never%2Fseen")
    assert (status, body["tenant_id"], body["known"], body["spent"]) == (200, "never/seen", False, 0)


async def test_numbers_of_a_ledger_that_is_not_loaded_say_so(client: Client, worker: Worker) -> None:
    """After a lost ledger they are the defaults and not the real spending. The answer must say so."""
    _, body = await client.ask("GET", "/api/v1/budget/never%2Fseen")
    assert body["note"].startswith("not loaded yet")
    _, body = await client.ask("GET", BUDGET)
    assert body["note"] is None
    worker.tenant = Tenant(loaded=False)
    worker.tenant.reserve("first", 10)
    _, body = await client.ask("GET", BUDGET)
    assert body["note"].startswith("not loaded yet: waits for Postgres")


async def test_a_postgres_that_is_really_away_is_a_503(worker: Worker) -> None:
    away = Readers(load_settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    worker.readers = away  # type: ignore[assignment]  # the real ones, in the place of the fake
    async with served(worker) as client:
        for url in ("/api/v1/vision/posts", "/api/v1/vision/posts/p", "/api/v1/vision/media/a", "/api/v1/vision/stats"):
            status, body = await client.ask("GET", url)
            assert (status, body["error"]["code"]) == (503, "store_unavailable")
            assert "nobody" not in str(body)
        assert (await client.ask("POST", f"{BUDGET}/reset"))[0] == 503
        assert (await client.ask("POST", f"{BUDGET}/pause"))[0] == 202
    await away.close()
