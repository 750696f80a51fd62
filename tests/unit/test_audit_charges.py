"""`vision audit` on token_charges: whatever the budget's rules charge is found there, and any other row is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_audit_ledger import LIMIT, START_MS, STEPS, Steps, command_of
from vision_app.audit.charges import Recorded, judge_charges, known_charges
from vision_app.audit.figures import Account
from vision_app.audit.kafka_reader import ledger_version
from vision_app.audit.ledger import Ledgers
from vision_app.audit.material import ChargeRow, Closing, LedgerVersion, Progress
from vision_app.audit.tally import Tally
from vision_app.domain import budget as core
from vision_app.domain.moment import Moment
from vision_app.messages import Charged, Grant, Lost, Settle
from vision_app.operations.kafka_log import Record
from vision_app.stores.rows import charge_rows
from vision_app.topics import BUDGET, SINK_POSTGRES

DAY_MS = 24 * 60 * 60 * 1000
UNKNOWN_SINCE = 2**62
"""Kafka has no reports to the ledgers from before this time: that is, none at all."""


def judged(material: Recorded) -> Account:
    tally = Tally()
    judge_charges(material, tally)
    return tally.account()


@dataclass
class World:
    """What the budget's rules leave behind: versions of the ledgers, reports on Kafka, rows in Postgres."""

    versions: list[LedgerVersion] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
    rows: list[ChargeRow] = field(default_factory=list)

    def material(self, **changes: Any) -> Recorded:
        ledgers = Ledgers()
        for version in self.versions:
            ledgers.add(version)
        return Recorded(rows=self.rows, ledgers=ledgers, closings=self.closings, **changes)


def world_of(steps: Steps) -> World:
    world, charged = World(), list[Charged]()
    row: core.BudgetRow | None = None
    grants: list[Grant] = []
    now_ms, born = START_MS, 0
    for offset, (step, pick, number) in enumerate([("load", 0, 0), *steps]):
        now_ms += 3_600_000 * number if step == "hours" else 7
        if step == "loss":
            row, born = None, born + 1
        command = command_of(step, grants, pick, number, now_ms)
        if command is None:
            continue
        if isinstance(command, Settle | Lost):
            tokens = command.tokens if isinstance(command, Settle) else command.estimate
            kind: Any = "settle" if isinstance(command, Settle) else "lost"
            world.closings.append(Closing(command.grant_id, "t", kind, tokens, now_ms))
        at, rules = Moment(time_ms=now_ms, offset=offset), core.BudgetRules(limit=LIMIT, max_queue=3)
        decision = core.decide(row, command, at, rules, lambda _: None, str(born))
        grants += [message for message in decision.send if isinstance(message, Grant)]
        charged += decision.charges
        if decision.row is not None:
            row = decision.row
            record = Record("changelog", 0, offset, now_ms, b"t", b"")
            world.versions.append(ledger_version(record, row.model_dump(mode="json"), LIMIT, gap=False))
    names = ("tenant_id", "ledger", "grant_id", "tokens", "at_ms", "cut_off")
    world.rows = [ChargeRow(**{name: made[name] for name in names}) for made in charge_rows(charged)]
    return world


def compacted(world: World, kept: Sequence[bool]) -> World:
    """The world after versions were removed from the changelog; the last one always stays."""
    left, gap = list[LedgerVersion](), True
    for version, keep in zip(world.versions, [*kept[:-1], True], strict=True):
        if keep:
            left.append(replace(version, gap=gap))
        gap = not keep
    return replace(world, versions=left)


WORLDS = STEPS.map(world_of)


@st.composite
def worlds_after_compaction(draw: st.DrawFn) -> World:
    world = draw(WORLDS)
    size = len(world.versions)
    return compacted(world, draw(st.lists(st.booleans(), min_size=size, max_size=size)))


@settings(max_examples=80)
@given(WORLDS)
def test_the_rules_charges_are_in_postgres(world: World) -> None:
    account = judged(world.material())
    assert (account.discrepancies, account.charges) == ([], [])
    assert account.tokens_postgres == sum(row.tokens for row in world.rows)


@settings(max_examples=120)
@given(worlds_after_compaction(), st.booleans())
def test_after_compaction_nothing_false_is_said(world: World, reports_are_gone: bool) -> None:
    if reports_are_gone:
        world = replace(world, closings=[])
    reported_from_ms = UNKNOWN_SINCE if reports_are_gone else 0
    assert judged(world.material(reported_from_ms=reported_from_ms)).discrepancies == []


@settings(max_examples=80)
@given(st.one_of(WORLDS, worlds_after_compaction()), st.data())
def test_a_row_that_is_gone_is_missed(world: World, data: st.DataObject) -> None:
    reported = {closing.grant_id for closing in world.closings if closing.tokens}
    world.rows = [row for row in world.rows if row.grant_id in reported]
    if not world.rows:
        return
    gone = data.draw(st.sampled_from(world.rows))
    if sum(row.grant_id == gone.grant_id for row in world.rows) > 1:
        return  # a lost ledger has charged it, too: which of both is missing is not known after compaction
    if gone.ledger != world.versions[-1].ledger:
        return  # of a lost ledger the last version may be gone, and with it what it charged last
    if sum(closing.grant_id == gone.grant_id for closing in world.closings) > 1:
        return  # which of several reports the ledger charged, and so on which day, is not known after compaction
    world.rows.remove(gone)
    account = judged(world.material())
    day = datetime.fromtimestamp(gone.at_ms / 1000, UTC).date().isoformat()
    assert account.charges_missing >= 1
    assert any(gone.grant_id in sentence and sentence.startswith(day) for sentence in account.discrepancies) or (
        account.charges_missing > 3  # only some grants are named
    )
    [found] = [one for one in account.charges if one.day == day]
    assert found.tokens_ledger - found.tokens_postgres >= gone.tokens


@settings(max_examples=80)
@given(WORLDS, st.data())
def test_a_row_that_is_too_high_or_of_nobody_is_noticed(world: World, data: st.DataObject) -> None:
    if not world.rows:
        return
    at = data.draw(st.integers(0, len(world.rows) - 1))
    changed: dict[str, Any] = data.draw(
        st.sampled_from([{"tokens": world.rows[at].tokens + 1}, {"grant_id": "nobodys"}])
    )
    if "tokens" in changed:
        world.rows[at] = replace(world.rows[at], **changed)
    else:
        world.rows.append(replace(world.rows[at], **changed))
    account = judged(world.material())
    assert (account.charges_extra, account.charges_missing) == (1, 0)
    assert "that no ledger of t charged" in account.discrepancies[0]


def version(number: int, closed: dict[str, int | None], **changes: Any) -> LedgerVersion:
    made = LedgerVersion(
        "t", f"c-0-{number}", START_MS + number, "1/a", "2026-11-22", 1000, 0, True, {}, closed, gap=number == 0
    )
    return replace(made, **changes)


def of(*versions: LedgerVersion, **more: Any) -> Recorded:
    ledgers = Ledgers()
    for one in versions:
        ledgers.add(one)
    return Recorded(ledgers=ledgers, **more)


ROW = ChargeRow("t", "a", "g", 7, START_MS + 1)
CHARGED = (version(0, {}), version(1, {"g": 7}))


def test_a_second_charge_of_one_grant_by_another_ledger_is_extra() -> None:
    rows = [ROW, replace(ROW, ledger="b", at_ms=ROW.at_ms + 1)]
    account = judged(of(*CHARGED, rows=rows, reported_from_ms=UNKNOWN_SINCE))
    assert account.charges_extra == 0, "the other ledger is unknown, and Kafka may have lost its versions"
    again = version(2, {}, birth="2/b", spent=0)
    account = judged(of(*CHARGED, again, rows=rows))
    assert account.charges_extra == 1


@pytest.mark.parametrize("topic", [BUDGET.name, SINK_POSTGRES.name])
@pytest.mark.parametrize("rows", [[], [replace(ROW, tokens=8)], [ROW, replace(ROW, grant_id="h")]])
def test_while_work_goes_on_differences_are_no_discrepancy_and_are_counted(topic: str, rows: list[ChargeRow]) -> None:
    account = judged(of(*CHARGED, rows=rows, progress=Progress({topic: 1})))
    assert (account.discrepancies, account.charges_under_way) == ([], 1)
    assert "1 charges may still be on their way" in account.notes[0]
    assert judged(of(*CHARGED, rows=rows)).discrepancies


def test_charges_of_another_time_are_not_judged() -> None:
    late = START_MS + 2
    assert judged(of(*CHARGED)).charges_missing == 1
    assert judged(of(*CHARGED, since_ms=late)).discrepancies == [], "before the account's time"
    assert judged(of(*CHARGED, until_ms=START_MS)).discrepancies == [], "after the account was begun"
    assert judged(of(*CHARGED, table_from_ms=late)).discrepancies == [], "before there was a table"
    alone = of(rows=[ROW], since_ms=late)
    assert (judged(alone).discrepancies, judged(alone).tokens_postgres) == ([], 0)


def test_a_charge_of_unknown_time_is_only_judged_if_everything_is() -> None:
    """The first version after a gap shows charges that may be of any time before it."""
    first = version(0, {"g": 7})
    assert judged(of(first)).charges_missing == 1
    assert judged(of(first, since_ms=1)).discrepancies == []
    told = Closing("g", "t", "settle", 7, START_MS)
    assert judged(of(first, since_ms=1, closings=[told])).charges_missing == 1
    assert judged(of(first, since_ms=START_MS + 1, closings=[told])).discrepancies == []


def test_a_charge_reported_before_the_ledger_was_born_is_missed() -> None:
    """The tenant's ledger was lost, and no version of it is left: only the report tells that it charged something."""
    told = Closing("g", "t", "settle", 7, START_MS)
    born = START_MS + 5
    account = judged(of(version(1, {}, birth=f"{born}/b", at_ms=born, gap=True), closings=[told]))
    assert (account.charges_missing, account.charges_extra) == (1, 0)
    older = of(version(1, {}, birth=f"{START_MS - 1}/b", gap=True), closings=[told])
    assert judged(older).discrepancies == [], "the ledger did not charge it: said where bill and ledger are compared"


def test_days_are_told_apart() -> None:
    versions = [*CHARGED, version(2, {"g": 7, "h": 5}, at_ms=START_MS + DAY_MS)]
    account = judged(of(*versions))
    assert [(one.day, one.tokens_ledger, one.tokens_postgres, one.missing) for one in account.charges] == [
        ("2026-11-22", 7, 0, 1),
        ("2026-11-23", 5, 0, 1),
    ]
    assert [sentence[:28] for sentence in account.discrepancies] == [
        "2026-11-22: 7 tokens in 1 ch",
        "2026-11-23: 5 tokens in 1 ch",
    ]


def test_a_row_without_any_evidence_is_counted_in_a_note() -> None:
    gap = version(3, {}, gap=True)
    account = judged(of(version(0, {"x": 1}), gap, rows=[replace(ROW, grant_id="old")], reported_from_ms=START_MS + 2))
    assert account.charges_extra == 0
    assert any("1 charges in Postgres are not compared" in note for note in account.notes)


def test_a_table_that_was_dropped_is_a_discrepancy_and_one_that_was_never_made_a_note() -> None:
    dropped = judged(of(*CHARGED, table_missing=True))
    assert "`vision migrate repair`" in dropped.discrepancies[0]
    young = judged(of(*CHARGED, table_from_ms=None))
    assert (young.discrepancies, len(young.notes)) == ([], 1)


def test_the_rows_to_look_up_are_the_ledgers_charges() -> None:
    assert known_charges(of(*CHARGED, version(2, {"g": 7, "free": 0, "back": None})).ledgers) == [("t", "a", "g")]
