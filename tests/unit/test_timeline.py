"""A post's stages from the times in its row, and why a medium has no result."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import analyzed, missing, post
from tests.unit.test_budget import TENANT
from tests.unit.test_web import TOKENS, Worker, served
from vision_app.domain.moment import Applied
from vision_app.domain.posts import MediumState, PostRow
from vision_app.messages import Deferred, Failed, Medium, Pause, PolicyVerdict, Skipped, key_of
from vision_app.operations.rows import event_of
from vision_app.operations.timeline import Surroundings, explain, stages_of
from vision_app.providers.decoding import REASONS
from vision_app.stores.rows import enrichment_row

T = 1_700_000_000_000
RESET = datetime(2026, 11, 23, tzinfo=UTC)
DEFERRED = Deferred(reason="budget", retry_at=RESET, details={"spent": 9, "limit": 10, "estimated_tokens": 5})


def row(times: dict[str, int], media: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"data": {"times": times, "media": media}, "in_work_since": None, "updated_at": None, **more}


def item(outcome: Any) -> dict[str, Any]:
    """A medium as `stores/rows.py` writes it."""
    found: dict[str, Any] = enrichment_row(post([outcome]))["data"]["media"][0]
    return found


def test_stages_follow_one_another_from_the_publication_to_the_row() -> None:
    post_times = {"published": T, "relayed": T + 10, "judged": T + 30, "opened": T + 60}
    own = {"checked": T + 100, "granted": T + 150, "answered": T + 1150, "collected": T + 1200}
    medium = {"sha256": "a", "times": {**post_times, **own}, "duration_ms": 900, "cached": False}
    written = datetime.fromtimestamp((T + 1300) / 1000, UTC)
    found = stages_of(row({**post_times, "completed": T + 1210}, [medium, medium], updated_at=written))
    assert [(one.stage, one.started_ms - T, one.duration_ms, one.medium) for one in found] == [
        ("way_in", 0, 10, None),
        ("policy", 10, 20, None),
        ("posts", 30, 30, None),
        ("preflight", 60, 40, "a"),
        ("budget", 100, 50, "a"),
        ("call", 150, 100, "a"),
        ("answer", 250, 900, "a"),
        ("collect", 1150, 50, "a"),
        ("complete", 1200, 10, None),
        ("store", 1210, 90, None),
    ]


def test_a_cached_answer_has_no_call_of_its_own() -> None:
    times = {"checked": T + 5, "granted": T + 6, "answered": T + 1000}
    medium = {"sha256": "a", "times": times, "duration_ms": 900, "cached": True}
    stages = [one.stage for one in stages_of(row({"published": T, "opened": T + 1}, [medium])) if one.medium]
    assert stages == ["preflight", "budget", "answer"]


POST_TIMES = st.sampled_from(["published", "relayed", "judged", "opened", "completed", "x"])
MEDIUM_TIMES = st.sampled_from(["checked", "granted", "answered", "collected", "y"])


@given(st.dictionaries(POST_TIMES, st.integers()), st.dictionaries(MEDIUM_TIMES, st.integers()))
def test_no_times_break_it_and_no_stage_is_negative(times: dict[str, int], own: dict[str, int]) -> None:
    found = stages_of(row(times, [{"sha256": "a", "times": own}, {}]))
    assert all(one.duration_ms >= 0 for one in found)
    assert [one.started_ms for one in found] == sorted(one.started_ms for one in found)


def test_a_row_without_data_has_no_stages() -> None:
    assert stages_of({"data": None}) == []


NOW = Surroundings()
CASES = [
    (missing(), NOW, "object_missing"),
    (Skipped(reason="policy", details={"policy_name": "unsupported_mime"}), NOW, "policy"),
    (DEFERRED, NOW, "deferred"),
    (DEFERRED, Surroundings(paused=True), "tenant_paused"),
    (None, Surroundings(paused=True), "tenant_paused"),
    (Failed(reason="exception", details={"error": "KeyError"}, dead_letter_id="l-1"), NOW, "dead_letter"),
    (None, Surroundings(away={"gigachat": "open: 503"}), "provider_away"),
    (None, Surroundings(away={"s3": "refused"}), "store_away"),
    (None, Surroundings(away={"neo4j": "refused"}), "in_work"),
    (None, Surroundings(feature_on=False), "feature_off"),
    (None, NOW, "in_work"),
    (Failed(reason="undecodable", details={}), NOW, "undecodable"),
    (Failed(reason="refused", details={}), NOW, "refused"),
    (Skipped(reason="budget", details={"queue_full": True}), NOW, "budget"),
    (Skipped(reason="something_new", details={}), NOW, "other"),
]


@pytest.mark.parametrize(("outcome", "now", "cause"), CASES)
def test_a_medium_without_a_result_says_why(outcome: Any, now: Surroundings, cause: str) -> None:
    why = explain(item(outcome), now)
    assert why is not None
    assert why.cause == cause
    assert why.text


@pytest.mark.parametrize("reason", [*REASONS, "hash_mismatch"])
def test_every_reason_of_the_decoders_is_explained_as_an_unusable_picture(reason: str) -> None:
    why = explain(item(Failed(reason=reason, details={})), NOW)
    assert why is not None
    assert why.cause == "undecodable"


def test_an_explanation_names_rule_letter_and_time() -> None:
    policy = explain(item(CASES[1][0]), NOW)
    assert policy is not None
    assert policy.rule == "unsupported_mime"
    letter = explain(item(CASES[5][0]), NOW)
    assert letter is not None
    assert letter.dead_letter_id == "l-1"
    deferred = explain(item(DEFERRED), NOW)
    assert deferred is not None
    assert (deferred.deferred_until, deferred.budget) == (RESET, DEFERRED.details)


def test_a_medium_with_a_result_needs_no_explanation() -> None:
    assert explain(item(analyzed()), NOW) is None


def test_a_dead_letters_id_in_a_row_is_no_part_of_the_event() -> None:
    result = post([Failed(reason="exception", details={}, dead_letter_id="l-1")])
    stored = enrichment_row(result)
    assert stored["data"]["media"][0]["dead_letter_id"] == "l-1"
    assert event_of(stored) == result.event


# --- over the API -----------------------------------------------------------------------------------------------------


class Live(Worker):
    away: dict[str, str] = {}  # noqa: RUF012 - replaced as a whole by tests

    def waiting_for(self) -> dict[str, str]:
        return self.away


def stored(outcomes: list[Any], **more: Any) -> dict[str, Any]:
    found = enrichment_row(post(outcomes, tenant=TENANT, post_id="p", **more))
    return {**found, "in_work_since": None, "updated_at": RESET}


async def timeline(worker: Worker, caller: str = "own", query: str = "") -> tuple[int, Any]:
    async with served(worker, vision_api_tokens=f"every=*,mine={TENANT}") as client:
        return await client.ask("GET", f"/api/v1/posts/p/timeline{query}", headers=TOKENS[caller])


async def test_a_finished_post_is_shown_from_its_row_alone() -> None:
    worker = Live()
    worker.rows = [stored([analyzed(), missing()])]
    worker.budget_rules = None  # type: ignore[assignment,method-assign]  # must not be asked
    status, body = await timeline(worker)
    assert status == 200
    assert [medium["explanation"] and medium["explanation"]["cause"] for medium in body["media"]] == [
        None,
        "object_missing",
    ]
    assert body["media"][0]["kind"] == "photo"


async def test_a_deferred_post_of_a_paused_tenant_says_so() -> None:
    worker = Live()
    worker.rows = [stored([DEFERRED])]
    assert (await timeline(worker))[1]["media"][0]["explanation"]["cause"] == "deferred"
    worker.tenant.do(Pause(tenant_id=TENANT))
    _, body = await timeline(worker)
    assert (body["status"], body["media"][0]["explanation"]["cause"]) == ("deferred", "tenant_paused")


async def test_while_the_provider_is_away_a_post_in_work_waits_for_it() -> None:
    worker = Live()
    worker.rows = [stored([None], status="in_work")]
    worker.away = {"gigachat": "open: 503"}
    assert (await timeline(worker))[1]["media"][0]["explanation"]["cause"] == "provider_away"


async def test_the_budget_of_another_workers_tenant_is_asked_there_with_the_callers_token() -> None:
    worker = Live()
    worker.rows = [stored([DEFERRED])]
    asked: list[tuple[str, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers.get("Authorization")))
        async with served(worker_there) as there:
            _, body = await there.ask("GET", f"/api/v1/budget/{TENANT}")
        return web.json_response(body)

    worker_there = Live()
    worker_there.tenant.do(Pause(tenant_id=TENANT))
    owner = web.Application()
    owner.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(owner) as server, aiohttp.ClientSession() as worker.http_client:
        worker.owner = server.make_url("/")
        _, body = await timeline(worker)
    assert asked == [(f"/api/v1/budget/{TENANT}", "Bearer mine")]
    assert body["media"][0]["explanation"]["cause"] == "tenant_paused"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"error": 5}', '{"tenant_id": "t"}'])
async def test_an_answer_of_the_owner_that_is_none_only_leaves_the_budget_out(text: str) -> None:
    worker = Live()
    worker.rows = [stored([DEFERRED])]

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=text, status=200)

    owner = web.Application()
    owner.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(owner) as server, aiohttp.ClientSession() as worker.http_client:
        worker.owner = server.make_url("/")
        status, body = await timeline(worker)
    assert (status, body["media"][0]["explanation"]["cause"]) == (200, "deferred")


async def test_another_tenants_token_gets_nothing() -> None:
    worker = Live()
    worker.rows = [stored([missing()])]
    assert (await timeline(worker, query="?tenant_id=another"))[0] == 404
    asked: list[Any] = []

    async def get(post_id: str, tenant_id: str | None) -> list[Any]:
        asked.append(tenant_id)
        return []

    worker.get = get  # type: ignore[method-assign]  # records whose post is asked for
    worker.posts[key_of("another", "p")] = {}
    assert (await timeline(worker))[0] == 404
    assert asked == [TENANT]


async def test_several_tenants_with_such_a_post_must_be_told_apart() -> None:
    worker = Live()
    worker.rows = [stored([missing()]), stored([missing()])]
    assert (await timeline(worker, "all"))[0] == 409


async def test_an_unknown_post_says_whether_the_feature_is_off() -> None:
    worker = Live()
    worker.settings = worker.settings.model_copy(update={"feature_vision_enabled": False})
    status, body = await timeline(worker)
    assert (status, body["error"]["details"]) == (404, {"feature_vision_enabled": False})
    assert "FEATURE_VISION_ENABLED is false" in body["error"]["message"]


# --- a post without a row: only its worker knows it -------------------------------------------------------------------


def open_post(worker: Worker) -> PostRow:
    """A post in work in the worker's own table."""
    medium = Medium(sha256="a" * 64)
    event = post([None], tenant=TENANT, post_id="p", media=[medium]).event
    verdict = PolicyVerdict(analyze=True, reason="passed")
    state = MediumState(medium=medium, verdict=verdict, in_work=True, dispatch=1, dispatched_ms=T)
    row = PostRow(applied=Applied(), event=event, media={medium.sha256: state}, opened_ms=T)
    worker.posts[key_of(TENANT, "p")] = row
    return row


async def test_a_post_whose_row_is_not_written_yet_is_shown_from_its_worker() -> None:
    worker = Live()
    row = open_post(worker)
    status, body = await timeline(worker)
    assert (status, body["status"], body["stages"]) == (200, "in_work", [])
    assert body["post_trace_id"] == row.event.trace_id
    assert [medium["explanation"]["cause"] for medium in body["media"]] == ["in_work"]


async def test_and_from_the_worker_that_owns_it() -> None:
    here, there = Live(), Live()
    open_post(there)
    there.tenant.do(Pause(tenant_id=TENANT))
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        async with served(there) as client:
            status, body = await client.ask("GET", str(request.rel_url))
        return web.json_response(body, status=status)

    owner = web.Application()
    owner.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(owner) as server, aiohttp.ClientSession() as here.http_client:
        here.owner = server.make_url("/")
        status, body = await timeline(here)
        assert (status, body["media"][0]["explanation"]["cause"]) == (200, "tenant_paused")
        there.posts.clear()
        assert (await timeline(here))[0] == 404
    assert set(asked) == {"/api/v1/posts/p/live/own", f"/api/v1/budget/{TENANT}"}
