"""`vision audit` on ledgers: no complaint about steps by the budget's rules, a complaint about any other step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vision_app.audit.kafka_reader import ledger_version
from vision_app.audit.ledger import LedgerBook, Ledgers
from vision_app.audit.material import LedgerVersion
from vision_app.domain import budget as core
from vision_app.domain.moment import Moment
from vision_app.messages import Grant, Load, Lost, MediaTask, Medium, Release, Reserve, Reset, SetLimit, Settle, Wake
from vision_app.operations.kafka_log import Record

LIMIT = 100
START_MS = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000

Steps = list[tuple[str, int, int]]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["reserve", "reserve", "settle", "settle", "lost", "release", "reset", "limit", "load", "hours", "loss"]
        ),
        st.integers(0, 5),
        st.sampled_from([0, 1, 20, 60, 95, 130]),
    ),
    max_size=25,
)


def versions_of(steps: Steps) -> tuple[list[LedgerVersion], int]:
    """Every version of the ledger that the budget's rules make from the steps, and the total they charged."""
    row: core.BudgetRow | None = None
    grants: list[Grant] = []
    found, charged, now_ms = [], 0, START_MS
    for offset, (step, pick, number) in enumerate([("load", 0, 0), *steps]):
        now_ms += HOUR_MS * number if step == "hours" else 7
        if step == "loss":
            row = None
        command = command_of(step, grants, pick, number, now_ms)
        if command is None:
            continue
        at = Moment(time_ms=now_ms, offset=offset)
        decision = core.decide(row, command, at, core.BudgetRules(limit=LIMIT, max_queue=3), lambda _: None)
        grants += [message for message in decision.send if isinstance(message, Grant)]
        if decision.row is not None:
            before = row.spent if row is not None and row.day == decision.row.day else 0
            charged += max(0, decision.row.spent - before) if not isinstance(command, Load) else 0
            row = decision.row
            record = Record("changelog", 0, offset, now_ms, b"t", b"")
            found.append(ledger_version(record, row.model_dump(mode="json"), LIMIT, gap=False))
    return found, charged


def command_of(step: str, grants: list[Grant], pick: int, number: int, now_ms: int) -> Any:
    day = Moment(time_ms=now_ms, offset=0).day
    match step:
        case "reserve":
            task = MediaTask(tenant_id="t", post_id="p", trace_id="x", medium=Medium(sha256="s"), dispatch=1)
            return Reserve(tenant_id="t", task=task, estimate=max(1, number))
        case "reset":
            return Reset(tenant_id="t")
        case "limit":
            return SetLimit(tenant_id="t", limit=None if pick else number)
        case "load" | "loss":
            return Load(tenant_id="t", day=day, spent=number if step == "loss" else 0)
        case "hours":
            return Wake(tenant_id="t")
    if not grants:
        return None
    grant = grants[-1 - pick % len(grants)]
    if step == "settle":
        return Settle(tenant_id="t", grant_id=grant.id, tokens=number)
    if step == "release":
        return Release(tenant_id="t", grant_id=grant.id)
    return Lost(tenant_id="t", grant_id=grant.id, estimate=grant.estimate, task=grant.task)


def book_of(versions: Iterable[LedgerVersion], since_ms: int = 0) -> LedgerBook:
    ledgers = Ledgers(since_ms)
    for version in versions:
        ledgers.add(version)
    return ledgers["t"]


@settings(max_examples=40)
@given(STEPS)
def test_every_sequence_allowed_by_the_rules_has_no_fault(steps: Steps) -> None:
    versions, charged = versions_of(steps)
    book = book_of(versions)
    assert (book.faults, book.overspend, book.gaps) == ([], 0, 0)
    assert sum(book.total(grant) or 0 for grant in {*book.charged, *book.before_loss}) == charged
    assert book.peak is not None
    over = max(version.spent + version.reserved - version.limit for version in versions)
    assert book.peak.total - book.peak.limit == over


@settings(max_examples=40)
@given(STEPS, st.data())
def test_after_compaction_fewer_faults_are_found_and_none_is_false(steps: Steps, data: st.DataObject) -> None:
    versions, _ = versions_of(steps)
    kept = data.draw(st.lists(st.booleans(), min_size=len(versions), max_size=len(versions)))
    left, gap = [], True
    for version, keep in zip(versions, kept, strict=True):
        if keep:
            left.append(replace(version, gap=gap))
        gap = not keep
    book = book_of(left)
    assert (book.faults, book.overspend) == ([], 0)
    assert book.gaps == sum(version.gap and bool(number or version.closed) for number, version in enumerate(left))


@settings(max_examples=40)
@given(STEPS, st.data())
def test_any_other_step_is_noticed(steps: Steps, data: st.DataObject) -> None:
    versions, _ = versions_of([*steps, ("reserve", 0, 1), ("settle", 0, 1)])
    place = data.draw(st.integers(1, len(versions) - 1))
    by = data.draw(st.integers(1000, 2000))
    falsified = [*versions]
    falsified[place] = replace(versions[place], spent=versions[place].spent + by)
    same = versions[place].birth == versions[place - 1].birth and (versions[place].loaded == versions[place - 1].loaded)
    book = book_of(falsified)
    assert not same or book.faults
    assert not same or book.overspend >= by - LIMIT - 130


def test_a_version_that_comes_late_does_not_count() -> None:
    first = LedgerVersion("t", "c-0-0", 1, "1/a", "2026-11-22", 100, 10, True, {}, {"g1": 10}, applied=(5, 50))
    newer = replace(first, spent=30, closed={"g1": 10, "g2": 20}, applied=(6, 60))
    book = book_of([first, newer, first, replace(newer, spent=40, closed={"g3": 10}, applied=(7, 60))])
    assert (book.faults, book.older, book.charged) == ([], 1, {"g1": 10, "g2": 20, "g3": 10})


def test_a_grant_that_does_not_fit_is_overspending_but_a_lowered_limit_is_not() -> None:
    first = LedgerVersion("t", "c-0-0", 1, "1/a", "2026-11-22", 100, 60, True, {"g1": 40}, {})
    lowered = replace(first, limit=50)
    dearer = replace(lowered, spent=110, open={}, closed={"g1": 50})
    assert book_of([first, lowered, dearer]).overspend == 0
    granted = replace(dearer, open={"g2": 10})
    book = book_of([first, lowered, dearer, granted])
    assert book.overspend == 70
    assert "10 tokens were granted although 120 of 50" in book.faults[0]


def test_faults_before_the_account_begins_do_not_count() -> None:
    first = LedgerVersion("t", "c-0-0", 10, "1/a", "2026-11-22", 100, 60, True, {}, {})
    leap = replace(first, at_ms=20, spent=500)
    dearer = replace(leap, at_ms=40, open={"g1": 10})
    assert book_of([first, leap]).overspend == 400
    assert (book_of([first, leap], since_ms=30).faults, book_of([first, leap], since_ms=30).peak) == ([], None)
    later = book_of([first, leap, dearer], since_ms=30)
    assert (later.overspend, len(later.faults)) == (410, 1)
