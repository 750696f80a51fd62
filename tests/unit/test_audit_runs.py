"""Accounts on request: the child process under its limits, and what is recorded however it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from asyncpg import ConnectionDoesNotExistError
from structlog.testing import capture_logs

from vision_app.audit.child import reply
from vision_app.audit.figures import Account
from vision_app.audit.summary import MOST_SENTENCES, SENTENCE_CHARS, AccountSummary
from vision_app.settings import Settings, load_settings
from vision_app.stores.audits import AuditRecord, RunState
from vision_app.telemetry import metrics
from vision_app.web.audit_child import AuditChild, AuditFailed, AuditScope
from vision_app.web.audit_runs import AuditRuns, WorkerStops

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
STAND_IN = "tests.audit_stand_in"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


async def start(settings: Settings, scope: AuditScope) -> AuditChild:
    return await AuditChild.start(settings, scope, STAND_IN)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


# --- the process ------------------------------------------------------------------------------------------------------


async def test_the_process_gets_its_limits_and_the_scope_and_answers() -> None:
    settings = load_settings(vision_audit_memory_mb=300)
    child = await start(settings, AuditScope("acme & co", NOW))
    found = await child.summary()
    assert found.notes == [str(300 * 1024**2), str(round(NOW.timestamp() * 1000)), "acme & co", str(os.getpid())]
    assert found.clean
    assert is_gone(child.pid)


async def test_without_a_scope_it_is_asked_for_everything() -> None:
    child = await start(load_settings(), AuditScope())
    assert (await child.summary()).notes[1:3] == ["0", "clean"]


FAILURES = [
    ("killed", "ended by signal 9"),
    ("garbage", "it printed something else: Traceback, or whatever"),
    ("nothing", "it printed nothing"),
    ("much", "it printed more than 1048576 bytes"),
    ("much and hang", "it printed more than 1048576 bytes"),
    ("errors", "it ended with status 7: the last line"),
    ("memory", "it ended with status 1: MemoryError"),
    ("failure", "Redis: no answer; check REDIS_URL"),
]


@pytest.mark.parametrize(("tenant", "told"), FAILURES, ids=[tenant for tenant, _ in FAILURES])
async def test_a_process_that_fails_says_why(tenant: str, told: str) -> None:
    child = await start(load_settings(), AuditScope(tenant))
    with pytest.raises(AuditFailed) as failed:
        await child.summary()
    assert told in str(failed.value)
    assert not failed.value.late
    assert is_gone(child.pid)


async def test_a_process_that_takes_too_long_is_ended() -> None:
    child = await start(load_settings(vision_audit_timeout_seconds=0.5), AuditScope("hang"))
    with pytest.raises(AuditFailed, match="VISION_AUDIT_TIMEOUT_SECONDS") as failed:
        await child.summary()
    assert failed.value.late
    assert is_gone(child.pid)


# --- what the process prints ------------------------------------------------------------------------------------------


def test_a_service_that_is_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("GIGACHAT_BASE_URL", "https://gigachat.example")
    found = reply(0, [], 100)
    assert found.summary is None
    assert "Redis" in found.failure
    assert "vision doctor" in found.failure


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METRICS_PORT", "many")
    assert "METRICS_PORT" in reply(0, [], 100).failure


def test_memory_that_does_not_suffice_is_named() -> None:
    async def take(*_: Any, **__: Any) -> Account:
        raise MemoryError

    assert "more memory than 100 MiB" in reply(0, [], 100, take).failure


def test_the_scope_is_handed_on() -> None:
    asked: dict[str, Any] = {}

    async def take(_: Settings, **scope: Any) -> Account:
        asked.update(scope)
        return Account(inputs=2, taken_ms=5)

    found = reply(17, ["acme"], 100, take).summary
    assert asked == {"since_ms": 17, "tenants": ["acme"]}
    assert found is not None
    assert (found.clean, found.figures.inputs, found.since) == (True, 2, None)


def test_a_summary_is_bounded_and_can_be_stored() -> None:
    sentences = [f"{number} \ud800 \0 " + "x" * 3000 for number in range(500)]
    account = Account(discrepancies=sentences, discrepancies_total=9000, notes=sentences, since_ms=1000, missing=2**80)
    found = AccountSummary.of(account)
    assert (len(found.discrepancies), found.discrepancies_total) == (MOST_SENTENCES, 9000)
    assert {len(one) for one in found.discrepancies} == {SENTENCE_CHARS}
    assert found.discrepancies[3].startswith("3 ?  x")
    assert found.figures.missing == 2**63 - 1
    assert found.since == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    text = found.model_dump_json()
    assert "\\u0000" not in text
    assert AccountSummary.model_validate_json(text) == found


# --- what is recorded -------------------------------------------------------------------------------------------------


class Store:
    """`Audits` in memory. `away`: how many calls fail; `lost`: another worker took the account for dead."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.renewed = self.away = 0
        self.lost = False

    async def __call__(self) -> Any:
        if self.away:
            self.away -= 1
            raise ConnectionDoesNotExistError("gone")
        return self

    async def begin(self, tenant_id: str, since: datetime | None, operator: str, worker: str) -> AuditRecord | None:
        if any(one.state == "running" for one in self.records):
            return None
        one = AuditRecord(
            tenant_id, len(self.records) + 1, since, "running", operator, worker, NOW, None, reason=None, summary=None
        )
        self.records.append(one)
        return one

    async def renew(self, one: AuditRecord) -> bool:
        self.renewed += 1
        return not self.lost

    async def end(self, one: AuditRecord, state: RunState, reason: str | None, summary: str | None) -> bool:
        assert not self.lost
        self.records[one.id - 1] = replace(one, state=state, reason=reason, summary=summary, ended_at=NOW)
        return True


class Started:
    """Starts stand-ins, and keeps them."""

    def __init__(self) -> None:
        self.children: list[AuditChild] = []

    async def __call__(self, settings: Settings, scope: AuditScope) -> AuditChild:
        if scope.tenant_id == "no process":
            raise OSError("no memory left")
        if scope.tenant_id == "our own error":
            raise ZeroDivisionError
        self.children.append(await start(settings, scope))
        return self.children[-1]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def started() -> Started:
    return Started()


@pytest.fixture
async def runs(store: Store, started: Started) -> AsyncIterator[AuditRuns]:
    settings = load_settings(vision_audit_timeout_seconds=20)
    runs = AuditRuns(settings, store, "worker-1", start_child=started, renew_seconds=0.02, pause_seconds=0.01)
    await runs.open()
    yield runs
    await runs.close()
    assert all(is_gone(child.pid) for child in started.children)


def counted(result: str) -> float:
    return float(metrics.AUDITS.labels(result=result)._value.get())


async def test_an_account_is_taken_and_recorded(runs: AuditRuns, store: Store) -> None:
    before = counted("clean"), counted("discrepancies")
    with capture_logs() as logs:
        begun = await runs.start(AuditScope("acme", NOW), "anna")
        assert begun is not None
        assert (begun.state, begun.operator, begun.worker, begun.since) == ("running", "anna", "worker-1", NOW)
        await until(lambda: store.records[0].state == "taken")
        await runs.start(AuditScope("wrong"), "anna")
        await until(lambda: store.records[1].state == "taken")
    assert [AccountSummary.model_validate_json(one.summary or "").clean for one in store.records] == [True, False]
    assert (counted("clean"), counted("discrepancies")) == (before[0] + 1, before[1] + 1)
    assert [one["event"] for one in logs] == [
        *("audit_started", "audit_taken"),
        *("audit_started", "audit_found_discrepancies"),
    ]


async def test_one_at_a_time(runs: AuditRuns, store: Store, started: Started) -> None:
    await runs.start(AuditScope("hang"), "anna")
    assert await runs.start(AuditScope(), "boris") is None
    await until(lambda: len(started.children) == 1 and store.renewed > 2)
    assert len(store.records) == 1


ENDS = [
    ("killed", "failed", "ended by signal 9"),
    ("garbage", "failed", "vision audit"),
    ("no process", "failed", "free memory"),
    ("our own error", "failed", "the log of worker worker-1"),
]


@pytest.mark.parametrize(("tenant", "result", "told"), ENDS, ids=[tenant for tenant, *_ in ENDS])
async def test_a_failure_is_recorded_with_its_reason(
    runs: AuditRuns, store: Store, tenant: str, result: str, told: str
) -> None:
    before = counted(result)
    with capture_logs() as logs:
        await runs.start(AuditScope(tenant), "anna")
        await until(lambda: store.records[0].state == "failed")
    assert told in (store.records[0].reason or "")
    assert counted(result) == before + 1
    assert logs[-1]["event"] == "audit_failed"
    assert logs[-1]["reason"] == store.records[0].reason


async def test_the_time_limit_is_recorded_and_counted(store: Store, started: Started) -> None:
    before = counted("timeout")
    settings = load_settings(vision_audit_timeout_seconds=0.3)
    runs = AuditRuns(settings, store, "worker-1", start_child=started)
    await runs.start(AuditScope("hang"), "anna")
    await until(lambda: store.records[0].state == "failed")
    assert "not done after 0 s" in (store.records[0].reason or "")
    assert counted("timeout") == before + 1
    assert is_gone(started.children[0].pid)


async def test_the_workers_stop_ends_the_process_and_records_it(
    runs: AuditRuns, store: Store, started: Started
) -> None:
    await runs.start(AuditScope("hang"), "anna")
    await until(lambda: bool(started.children))
    assert not is_gone(started.children[0].pid)
    await runs.close()
    assert is_gone(started.children[0].pid)
    assert store.records[0].state == "cut_off"
    assert "start it again" in (store.records[0].reason or "")
    with pytest.raises(WorkerStops):
        await runs.start(AuditScope(), "anna")


async def test_a_worker_that_was_taken_for_dead_ends_its_process_and_records_nothing(
    runs: AuditRuns, store: Store, started: Started
) -> None:
    await runs.start(AuditScope("hang"), "anna")
    await until(lambda: bool(started.children))
    with capture_logs() as logs:
        store.lost = True
        await until(lambda: is_gone(started.children[0].pid))
        await until(lambda: any(one["event"] == "audit_cut_off" for one in logs))
    assert store.records[0].state == "running"


async def test_the_end_is_recorded_when_postgres_is_back(runs: AuditRuns, store: Store, started: Started) -> None:
    with capture_logs() as logs:
        await runs.start(AuditScope("clean"), "anna")
        store.away = 3
        await until(lambda: store.records[0].state == "taken")
    assert {"audit_not_renewed", "audit_not_recorded"} & {one["event"] for one in logs}


async def test_without_postgres_nothing_is_started(runs: AuditRuns, store: Store, started: Started) -> None:
    store.away = 1
    with pytest.raises(ConnectionDoesNotExistError):
        await runs.start(AuditScope(), "anna")
    assert not started.children
