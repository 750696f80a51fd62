"""The guards before the API's pages: host names, tokens, rates, bodies, times, connections. Needs no service."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_budget import TENANT
from tests.unit.test_web import BUDGET, Worker
from tests.web_app import application
from vision_app.hosts import allowed_names, host_allowed
from vision_app.settings import load_settings
from vision_app.telemetry.metrics import REGISTRY
from vision_app.web.rate import Buckets
from vision_app.web.routes import ROUTES
from vision_app.web.server import BoundedRunner

LONG = "a-token-of-some-length"
STATS = "/api/v1/vision/stats"


@asynccontextmanager
async def served(worker: Worker | None = None, **settings: Any) -> AsyncIterator[TestClient[Any, Any]]:
    """The pages with all their guards, except the limits on connections."""
    worker = worker or Worker()
    worker.settings = load_settings(**settings)
    app = application(worker.settings, worker)
    async with TestClient(TestServer(app)) as client:
        yield client


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("vision_web_refused_total", {"reason": reason}) or 0


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "10.0.0.7", "worker", "worker:8000"],
)
def test_addresses_and_names_without_a_dot_cannot_be_taken_over(header: str) -> None:
    assert host_allowed(header)


@pytest.mark.parametrize(
    "header",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        ":8000",
        "evil.example.",
    ],
)
def test_other_names_are_refused_unless_listed(header: str) -> None:
    assert not host_allowed(header)
    assert host_allowed(header, {"*"})


def test_listed_names_are_taken_in_any_spelling() -> None:
    allowed = allowed_names(" Vision.Example. ,other.example")
    assert host_allowed("vision.example:443", allowed)
    assert host_allowed("VISION.example.", allowed)
    assert not host_allowed("sub.vision.example", allowed)


@given(st.text(max_size=60))
def test_no_header_breaks_the_check(header: str) -> None:
    assert host_allowed(header) in (True, False)


async def test_an_open_api_is_not_asked_under_a_foreign_name() -> None:
    foreign = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}
    async with served() as client:
        for path in ("/api/v1/vision/posts", "/healthz", "/nothing/here"):
            async with client.get(path, headers=foreign) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (421, "foreign_host")
        async with client.post(f"{BUDGET}/pause", headers=foreign) as answer:
            assert answer.status == 421
    async with served(vision_allowed_hosts="evil.example") as client, client.get("/healthz", headers=foreign) as answer:
        assert answer.status == 200


async def test_with_tokens_any_name_will_do() -> None:
    async with served(vision_api_tokens=f"{LONG}=*") as client:
        headers = {"Host": "vision.example", "Authorization": f"Bearer {LONG}"}
        async with client.get("/api/v1/vision/posts", headers=headers) as answer:
            assert answer.status == 200


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return genuine(one, other)

    genuine = hmac.compare_digest
    # patched: the library's, to see what is compared
    monkeypatch.setattr("vision_app.web.auth.hmac.compare_digest", compare)
    async with served(vision_api_tokens="first=a,second-and-longer=b,third=c") as client:
        for token in ("first", "x", "third", "y" * 500):
            await client.get("/api/v1/vision/posts", headers={"Authorization": f"Bearer {token}"})
    assert compared == [(32, 32)] * 12, "whichever fits, and however long the guess is"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Basic {LONG}", LONG, "Bearer wrong", "Bearer \xff\xfe", f"Bearer {LONG}x", "Bearer *"],
)
async def test_an_unknown_token_is_401(header: str) -> None:
    headers = {"Authorization": header} if header else {}
    async with served(vision_api_tokens=f"{LONG}=*") as client, client.get(STATS, headers=headers) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert LONG not in await answer.text()


async def test_guessing_is_slowed_down_while_the_owner_gets_through() -> None:
    async with served(vision_api_tokens=f"{LONG}=*") as client:
        guesses = [await client.get("/api/v1/vision/posts", headers={"Authorization": "Bearer no"}) for _ in range(30)]
        assert {guess.status for guess in guesses[:15]} == {401}
        assert guesses[-1].status == 429
        async with client.get("/api/v1/vision/posts", headers={"Authorization": f"Bearer {LONG}"}) as answer:
            assert answer.status == 200


# --- rates ------------------------------------------------------------------------------------------------------------


async def test_a_supervisor_tells_who_asks_and_nobody_else_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_SUPERVISOR_KEY", "known to the supervisor")
    async with served(vision_api_rate_per_second=0.5) as client:

        async def status(address: str, key: str) -> int:
            told = {"X-Vision-Client": address, "X-Vision-Supervisor": key}
            return (await client.get(STATS, headers=told)).status

        from_supervisor = [await status(address, "known to the supervisor") for address in ("10.0.0.1", "10.0.0.2") * 2]
        assert from_supervisor == [200, 200, 429, 429], "each address counts for itself"
        guessed = [await status(f"10.0.0.{number}", key) for number, key in ((3, "guess"), (4, ""), (5, "guess"))]
        assert guessed == [200, 429, 429], "all count as the address that they come from"


async def test_a_caller_that_asks_too_often_gets_retry_after() -> None:
    async with served(vision_api_tokens="one-token=a,another=b", vision_api_rate_per_second=0.5) as client:

        async def ask(token: str) -> Any:
            return await client.get("/api/v1/vision/stats", headers={"Authorization": f"Bearer {token}"})

        assert (await ask("one-token")).status == 200
        answer = await ask("one-token")
        assert (answer.status, (await answer.json())["error"]["code"]) == (429, "rate_limited")
        assert 1 <= int(answer.headers["Retry-After"]) <= 2
        assert (await ask("another")).status == 200, "each token has a bucket of its own"
        assert [(await client.get("/healthz")).status for _ in range(20)] == [200] * 20


async def test_without_tokens_it_is_the_address_that_is_limited() -> None:
    async with served(vision_api_rate_per_second=1) as client:
        answers = [(await client.get("/api/v1/vision/stats")).status for _ in range(5)]
    assert answers == [200, 200, 200, 429, 429]


@given(st.lists(st.floats(0, 10), max_size=60), st.floats(0.1, 50), st.floats(1, 100))
def test_no_series_of_requests_gets_more_than_the_rate_allows(
    pauses: list[float], per_second: float, burst: float
) -> None:
    now = 0.0
    buckets = Buckets(per_second, burst, clock=lambda: now)
    granted = 0
    for pause in pauses:
        now += pause
        wait = buckets.take("caller")
        granted += not wait
        assert wait == 0 or wait <= 1 / per_second + 1e-6
        assert granted <= burst + now * per_second + 1e-6


def test_the_number_of_buckets_is_bounded() -> None:
    buckets = Buckets(1, 1, clock=lambda: 0.0, max_callers=10)
    for number in range(1000):
        buckets.take(f"caller-{number}")
    assert len(buckets._left) == 10
    assert buckets.take("caller-999") > 0


# --- bodies and times -------------------------------------------------------------------------------------------------


async def test_the_size_of_a_body_is_a_setting() -> None:
    async with served(vision_api_max_body_bytes=20) as client, client.put(BUDGET, data=b'{"limit":       5}') as small:
        assert small.status == 202
        async with client.put(BUDGET, data=b'{"limit":' + b" " * 20 + b"5}") as large:
            assert large.status == 413


async def test_a_body_that_does_not_arrive_is_a_408() -> None:
    never = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    async with served(vision_api_timeout_seconds=0.2) as client:
        async with client.put(BUDGET, data=body()) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (408, "request_timeout")
        never.set()


class Silent(Worker):
    async def stats(self, tenant_id: str | None) -> Any:
        await asyncio.Event().wait()


async def test_an_answer_that_does_not_come_is_a_503() -> None:
    async with served(Silent(), vision_api_timeout_seconds=0.1) as client, client.get("/api/v1/vision/stats") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "timeout")


async def test_a_timeout_names_the_services_that_the_worker_waits_for() -> None:
    worker = Silent()
    worker.away = {"kafka": "no answer for 11 s"}
    async with served(worker, vision_api_timeout_seconds=0.1) as client, client.get("/api/v1/vision/stats") as answer:
        assert "kafka (no answer for 11 s); see `vision doctor`" in (await answer.json())["detail"]


class Broken(Worker):
    async def stats(self, tenant_id: str | None) -> Any:
        raise RuntimeError("the canary")


async def test_errors_say_nothing_of_the_exception() -> None:
    async with served(Broken()) as client, client.get("/api/v1/vision/stats") as answer:
        assert answer.status == 500
        assert "canary" not in await answer.text()


async def test_no_cross_site_access_and_security_headers_on_every_answer() -> None:
    origin = {"Origin": "http://elsewhere.example"}
    preflight = {**origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-operator"}
    async with served() as client:
        for method, url, headers in (
            ("GET", "/api/v1/vision/posts", origin),
            ("OPTIONS", BUDGET, preflight),
            ("GET", "/nothing", origin),
            ("PUT", BUDGET, origin),
        ):
            async with client.request(method, url, headers=headers) as answer:
                assert not [name for name in answer.headers if name.lower().startswith("access-control")]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["X-Frame-Options"] == "DENY"
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["Referrer-Policy"] == "no-referrer"


# --- connections ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(
    max_connections: int, idle_seconds: float, worker: Worker | None = None, **settings: Any
) -> AsyncIterator[BoundedRunner]:
    """The pages on a port, with the limits on connections."""
    worker = worker or Worker()
    worker.settings = load_settings(**settings)
    routes = {path: ROUTES[path] for path in ("/healthz", "/api/v1/budget/{tenant}")}
    app = application(worker.settings, worker, routes)
    runner = BoundedRunner(app, max_connections=max_connections, idle_seconds=idle_seconds, shutdown_seconds=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner
    await runner.cleanup()


async def ask(runner: BoundedRunner, raw: bytes) -> bytes:
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(raw)
        answer = await reader.read()
        writer.close()
        return answer


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
WHOLE = (
    f"PUT /api/v1/budget/{TENANT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\n\r\n".encode() + b'{"limit":5}'
)
ENDLESS = f"PUT /api/v1/budget/{TENANT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n".encode()


async def test_the_longest_idle_connection_is_closed_for_a_new_one() -> None:
    before = refused("connection_replaced")
    async with listening(max_connections=5, idle_seconds=60) as runner:
        silent = [await asyncio.open_connection(*runner.addresses[0]) for _ in range(5)]
        await asyncio.sleep(0)
        assert b"200 OK" in await ask(runner, HEALTH)
        async with asyncio.timeout(10):
            assert await silent[0][0].read() == b"", "the oldest was closed"
        assert refused("connection_replaced") == before + 1
        for _, writer in silent:
            writer.close()


class Slow(Worker):
    """Its Postgres answers when `answered` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = asyncio.Event()

    async def record_action(self, *action: Any) -> int:
        await self.answered.wait()
        return await super().record_action(*action)


async def test_if_all_connections_are_busy_a_new_one_gets_503() -> None:
    worker = Slow()
    async with listening(max_connections=2, idle_seconds=60, worker=worker, vision_api_timeout_seconds=60) as runner:
        writers = []
        for _ in range(2):
            _, writer = await asyncio.open_connection(*runner.addresses[0])
            writer.write(WHOLE)
            writers.append(writer)
        async with asyncio.timeout(10):
            while sum(held.busy for held in runner.connections) < 2:
                await asyncio.sleep(0.01)
        assert b"503 Service Unavailable" in await ask(runner, HEALTH)
        worker.answered.set()
        for writer in writers:
            writer.close()
        async with asyncio.timeout(10):
            while b"200 OK" not in await ask(runner, HEALTH):
                await asyncio.sleep(0.01)


async def test_three_hundred_slow_bodies_of_one_caller_leave_the_others_alone() -> None:
    settings: dict[str, Any] = {"vision_api_tokens": "hog=a,honest=*", "vision_api_timeout_seconds": 60}
    authorized = b"\r\nAuthorization: Bearer %b\r\n"
    slow = ENDLESS.replace(b"\r\n", authorized % b"hog", 1)
    whole = WHOLE.replace(b"\r\n", authorized % b"honest" + b"Connection: close\r\n", 1)
    before = refused("caller_share")
    async with listening(max_connections=256, idle_seconds=60, **settings) as runner:
        writers = []
        for _ in range(300):
            _, writer = await asyncio.open_connection(*runner.addresses[0])
            writer.write(slow)
            writers.append(writer)
        async with asyncio.timeout(10):
            while refused("caller_share") - before < 100:
                await asyncio.sleep(0.01)
        assert sum(held.handling is not None for held in runner.connections) <= 64
        for raw, status in ((HEALTH, b"200 OK"), (whole, b"202 Accepted")):
            answers = [await ask(runner, raw) for _ in range(20)]
            assert {status in answer for answer in answers} == {True}, answers[0][:200]
        for writer in writers:
            writer.close()


async def test_bodies_under_way_are_counted_in_bytes_by_caller() -> None:
    slow = ENDLESS.replace(b"Content-Length: 100", b"Content-Length: 600")
    many: dict[str, Any] = {
        "vision_api_max_body_bytes": 1000,
        "vision_api_caller_bytes": 1500,
        "vision_api_timeout_seconds": 60,
    }
    async with listening(max_connections=10, idle_seconds=60, **many) as runner:
        writers = []
        for _ in range(2):
            _, writer = await asyncio.open_connection(*runner.addresses[0])
            writer.write(slow)
            writers.append(writer)
        async with asyncio.timeout(10):
            while sum(held.handling is not None for held in runner.connections) < 2:
                await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(slow)
        async with asyncio.timeout(10):
            assert b"429" in await reader.read(100)
        assert b"200 OK" in await ask(runner, HEALTH)
        for each in (*writers, writer):
            each.close()


async def test_headers_that_never_end_are_not_waited_for() -> None:
    async with listening(max_connections=5, idle_seconds=0.3) as runner:
        reader, writer = await asyncio.open_connection(*runner.addresses[0])

        async def drip() -> None:
            writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        dripping.cancel()
        writer.close()


async def test_what_is_not_http_gets_our_error_and_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    before = refused("not_http")
    async with listening(max_connections=5, idle_seconds=60) as runner:
        for garbage in (b"\x16\x03\x01\x02\x00\x01 canary\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET canary\r\n\r\n"):
            answer = await ask(runner, garbage)
            assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
            assert b'"code":"bad_request"' in answer
            assert b"X-Content-Type-Options: nosniff" in answer
            assert b"canary" not in answer
    assert refused("not_http") == before + 3
    assert not caplog.records


async def test_a_caller_that_hangs_up_in_the_middle_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    errors, before = {"where": "web"}, refused("hung_up")
    unexpected = REGISTRY.get_sample_value("vision_unexpected_errors_total", errors)
    async with listening(max_connections=5, idle_seconds=60) as runner:
        _, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(ENDLESS)
        await writer.drain()
        assert b"200 OK" in await ask(runner, HEALTH)
        writer.close()
        async with asyncio.timeout(10):
            while refused("hung_up") == before:
                await asyncio.sleep(0.01)
    assert REGISTRY.get_sample_value("vision_unexpected_errors_total", errors) == unexpected
    assert not caplog.records
