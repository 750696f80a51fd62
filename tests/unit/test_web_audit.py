"""The account over the API and its card on the page, without a process and without Postgres."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import CookieJar
from aiohttp.test_utils import TestClient, TestServer

from tests.audit_stand_in import summary
from tests.unit.test_ui_views import HOSTILE, shown
from tests.unit.test_web import TOKENS, Client, Worker, served
from tests.web_app import application
from vision_app.settings import load_settings
from vision_app.stores.audits import AuditRecord, RunState
from vision_app.web.audit import AuditAnswer, AuditRun
from vision_app.web.audit_child import AuditScope
from vision_app.web.audit_runs import WorkerStops
from vision_app.web.errors import ApiError
from vision_app.web.ui.audit import FIGURES, PERIOD_TEXTS, AuditPart, AuditView, _in_russian
from vision_app.web.ui.entry import LoginView
from vision_app.web.ui.texts import RUSSIAN

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
AUDIT = "/api/v1/audit"


def record(number: int, state: RunState, tenant: str = "", **more: Any) -> AuditRecord:
    known: dict[str, Any] = {"since": None, "operator": "anna", "worker": "worker-2", "started_at": NOW}
    known |= {"ended_at": None if state == "running" else NOW, "reason": None, "summary": None, **more}
    return AuditRecord(tenant_id=tenant, id=number, state=state, **known)


class Accounts:
    """The store of accounts and the worker's runs."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.asked: list[tuple[AuditScope, str]] = []
        self.stops = False

    async def last(self, tenant_id: str) -> AuditRecord | None:
        return next((one for one in reversed(self.records) if one.tenant_id == tenant_id), None)

    async def last_taken(self, tenant_id: str) -> AuditRecord | None:
        taken = [one for one in self.records if (one.tenant_id, one.state) == (tenant_id, "taken")]
        return taken[-1] if taken else None

    async def running(self) -> AuditRecord | None:
        return next((one for one in self.records if one.state == "running"), None)

    async def start(self, scope: AuditScope, operator: str) -> AuditRecord | None:
        if self.stops:
            raise WorkerStops
        if await self.running():
            return None
        self.asked.append((scope, operator))
        self.records.append(record(9, "running", scope.tenant_id, since=scope.since, operator=operator))
        return self.records[-1]


@pytest.fixture
def accounts() -> Accounts:
    return Accounts()


@pytest.fixture
def worker(accounts: Accounts) -> Any:
    worker: Any = Worker()

    @asynccontextmanager
    async def audits_for_page() -> AsyncIterator[Accounts]:
        if not worker.postgres:
            raise ApiError(503, "store_unavailable", "away")
        yield accounts

    worker.audits_for_page, worker.audits = audits_for_page, accounts
    return worker


@pytest.fixture
async def client(worker: Any) -> AsyncIterator[Client]:
    async with served(worker) as client:
        yield client


async def test_no_account_was_ever_asked_for(client: Client) -> None:
    status, body = await client.ask("GET", AUDIT)
    assert status == 200
    assert (body["state"], body["audit"], body["running"], body["summary"]) == ("never", None, None, None)


async def test_an_account_that_was_taken(client: Client, accounts: Accounts) -> None:
    accounts.records = [record(1, "taken", summary=summary("p-1 has no end").model_dump_json())]
    status, body = await client.ask("GET", AUDIT)
    assert status == 200
    assert (body["state"], body["audit"]["worker"], body["running"]) == ("taken", "worker-2", None)
    found = body["summary"]
    assert (found["clean"], found["discrepancies"], found["figures"]["missing"]) == (False, ["p-1 has no end"], 1)


async def test_the_last_summary_stays_while_another_account_is_taken_or_has_failed(
    client: Client, accounts: Accounts
) -> None:
    taken = record(1, "taken", summary=summary().model_dump_json())
    accounts.records = [taken, record(2, "running")]
    _, body = await client.ask("GET", AUDIT)
    assert (body["state"], body["running"]["id"], body["summary"]["clean"]) == ("running", 2, True)
    accounts.records = [taken, record(2, "failed", reason="Redis: no answer")]
    _, body = await client.ask("GET", AUDIT)
    assert (body["state"], body["audit"]["reason"], body["summary"]["clean"]) == ("failed", "Redis: no answer", True)
    accounts.records = [record(2, "cut_off")]
    _, body = await client.ask("GET", AUDIT)
    assert body["state"] == "cut_off"
    assert "start it again" in body["audit"]["reason"]


async def test_an_account_of_a_tenant_is_kept_apart(client: Client, accounts: Accounts) -> None:
    accounts.records = [record(1, "taken", "acme", summary=summary().model_dump_json()), record(2, "running", "acme")]
    _, body = await client.ask("GET", AUDIT)
    assert (body["state"], body["summary"], body["running"]["tenant_id"]) == ("never", None, "acme")
    _, body = await client.ask("GET", f"{AUDIT}?tenant_id=acme")
    assert (body["state"], body["audit"]["tenant_id"], body["summary"]["clean"]) == ("running", "acme", True)


async def test_a_summary_in_another_form_is_not_shown(client: Client, accounts: Accounts) -> None:
    accounts.records = [record(1, "taken", summary='{"clean": "perhaps"}')]
    status, body = await client.ask("GET", AUDIT)
    assert (status, body["state"], body["summary"]) == (200, "taken", None)


async def test_an_account_is_begun(client: Client, accounts: Accounts) -> None:
    status, body = await client.ask("POST", AUDIT, headers={"X-Operator": "boris"})
    assert status == 202
    assert (body["audit"]["state"], body["audit"]["operator"], body["see"]) == ("running", "boris", AUDIT)
    assert accounts.asked == [(AuditScope("", None), "boris")]


async def test_a_scope_is_handed_on(client: Client, accounts: Accounts) -> None:
    asked = {"since": "2026-11-27T14:00:00+02:00", "tenant_id": "a&b"}
    status, body = await client.ask("POST", AUDIT, json=asked)
    assert status == 202
    assert body["see"] == f"{AUDIT}?tenant_id=a%26b"
    assert accounts.asked == [(AuditScope("a&b", NOW), "api")]


async def test_while_one_is_taken_the_answer_names_it(client: Client, accounts: Accounts) -> None:
    accounts.records = [record(4, "running", "acme")]
    status, body = await client.ask("POST", AUDIT)
    assert (status, body["error"]["code"]) == (409, "audit_running")
    assert body["error"]["details"]["running"]["id"] == 4
    assert AUDIT in body["detail"]


WRONG = [
    ({"since": "yesterday"}, "since"),
    ({"since": 5}, "since"),
    ({"since": "2999-01-01T00:00:00Z"}, "since"),
    ({"tenant_id": ""}, "tenant_id"),
    ({"tenant": "acme"}, "tenant"),
]


@pytest.mark.parametrize(("body", "name"), WRONG, ids=str)
async def test_what_is_refused(client: Client, accounts: Accounts, body: Any, name: str) -> None:
    status, answer = await client.ask("POST", AUDIT, json=body)
    assert status == 422
    assert [fault["name"] for fault in answer["error"]["details"]["faults"]] == [name]
    assert not accounts.asked


async def test_without_postgres_and_while_the_worker_stops(worker: Any, client: Client, accounts: Accounts) -> None:
    accounts.stops = True
    status, body = await client.ask("POST", AUDIT)
    assert (status, body["error"]["code"]) == (503, "not_serving")
    worker.postgres = False
    for method in ("GET", "POST"):
        assert (await client.ask(method, AUDIT))[0] == 503


async def test_only_operators_may(worker: Any, accounts: Accounts) -> None:
    async with served(worker, vision_api_tokens="every=*,mine=mine") as client:
        for method in ("GET", "POST"):
            assert (await client.ask(method, AUDIT, headers=TOKENS["own"]))[0] == 403
        assert (await client.ask("GET", f"{AUDIT}?tenant_id=mine", headers=TOKENS["own"]))[0] == 403
        assert (await client.ask("GET", f"{AUDIT}?tenant_id=theirs", headers=TOKENS["own"]))[0] == 404
        assert (await client.ask("POST", AUDIT, headers=TOKENS["own"], json={"tenant_id": "theirs"}))[0] == 404
        assert not accounts.asked
        assert (await client.ask("POST", AUDIT, headers=TOKENS["all"]))[0] == 202


async def test_the_same_content_is_not_sent_again(worker: Any, accounts: Accounts) -> None:
    accounts.records = [record(1, "taken", summary=summary().model_dump_json()), record(2, "running")]
    async with TestClient(TestServer(application(load_settings(), worker))) as client:
        first = await client.get(AUDIT)
        tag = {"If-None-Match": first.headers["ETag"]}
        assert (await client.get(AUDIT, headers=tag)).status == 304
        accounts.records.pop()
        assert (await client.get(AUDIT, headers=tag)).status == 200


# --- the page ---------------------------------------------------------------------------------------------------------


def card(language: str, **of: Any) -> str:
    audit = AuditAnswer.model_validate({"state": "never", "audit": None, "running": None, "summary": None, **of})
    values: dict[str, Any] = {"audit": audit, "every": 30, "figures": FIGURES, "periods": PERIOD_TEXTS}
    spoken = _in_russian if language == "ru" else str
    return shown("audit_part.html", language=language, spoken=spoken, **values)


def run(state: RunState, **more: Any) -> AuditRun:
    known: dict[str, Any] = {"id": 1, "tenant_id": None, "since": None, "operator": HOSTILE, "worker": HOSTILE}
    known |= {"started_at": NOW, "ended_at": None, "reason": None}
    return AuditRun.model_validate({**known, "state": state, **more})


@pytest.mark.parametrize("language", ["en", "ru"])
def test_the_card_says_each_state(language: str) -> None:
    def t(text: str) -> str:
        return RUSSIAN[text] if language == "ru" else text

    assert t("No account was taken yet.") in card(language)
    assert t("Take an account") in card(language)
    clean = card(language, state="taken", audit=run("taken"), summary=summary(notes=2))
    assert t("nothing is wrong") in clean
    assert t("Tokens billed") in clean
    assert "note 1" in clean
    assert t("All data that is kept.") in clean
    wrong = card(language, state="taken", audit=run("taken"), summary=summary(HOSTILE, "b"))
    assert t("discrepancies: {n}").format(n=2) in wrong
    running = card(language, state="running", audit=run("running"), running=run("running"), summary=summary())
    assert t("An account is being taken since {time} UTC, by worker {worker}.").partition("{")[0] in running
    assert "<form" not in running
    reason = "the worker that took it stopped before the end; start it again"
    failed = card(language, state="cut_off", audit=run("cut_off", reason=reason), summary=summary())
    assert ("воркер, который её вёл" if language == "ru" else reason) in failed
    assert "<form" in failed
    shown_without = shown("audit_part.html", language=language, audit=None, every=30)
    assert t("Not known while Postgres does not answer.") in shown_without


def test_sentences_of_the_account_are_in_russian() -> None:
    note = "3 records on Kafka could not be read and were passed over"
    found = summary().model_copy(update={"notes": [note]})
    assert "3 записи в Kafka не читаются" in card("ru", state="taken", audit=run("taken"), summary=found)


def test_more_discrepancies_than_are_listed_are_said() -> None:
    found = summary("one").model_copy(update={"discrepancies_total": 90})
    assert "shows the rest" in card("en", state="taken", audit=run("taken"), summary=found)
    assert "shows the rest" not in card("en", state="taken", audit=run("taken"), summary=summary("one"))


@pytest.fixture
async def page(worker: Any) -> AsyncIterator[TestClient[Any, Any]]:
    routes: Mapping[str, Any] = {"/ui/audit": AuditView, "/ui/audit/part": AuditPart, "/ui/login": LoginView}
    settings = worker.settings = load_settings(vision_api_tokens="every=*,mine=mine")
    app = application(settings, worker, routes)
    async with TestClient(TestServer(app), cookie_jar=CookieJar(unsafe=True)) as client:
        yield client


async def test_the_button_has_an_account_taken_and_leads_to_the_card(
    page: TestClient[Any, Any], accounts: Accounts
) -> None:
    await page.post("/ui/login", data={"token": "every"}, allow_redirects=False)
    text = await (await page.get("/ui/audit/part")).text()
    token = re.search(r'name="form_token" value="([^"]+)"', text)
    assert token is not None
    assert (await page.post("/ui/audit", data={"period": "day"}, allow_redirects=False)).status == 403
    assert not accounts.asked
    form = {"period": "day", "form_token": token[1]}
    for _ in range(2):  # the second while the first is under way
        answer = await page.post("/ui/audit", data=form, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/ui/health#audit")
    (scope, operator), *more = accounts.asked
    assert (scope.tenant_id, operator, more) == ("", "page", [])
    assert scope.since is not None
    assert abs(datetime.now(UTC) - timedelta(days=1) - scope.since) < timedelta(minutes=1)
    assert "worker-2" in await (await page.get("/ui/audit/part")).text()


async def test_a_tenant_has_no_card(page: TestClient[Any, Any], accounts: Accounts) -> None:
    for method, path in (("GET", "/ui/audit/part"), ("GET", "/ui/audit"), ("POST", "/ui/audit")):
        answer = await page.request(method, path, headers=TOKENS["own"], allow_redirects=False)
        assert answer.status == 403
    assert not accounts.asked
