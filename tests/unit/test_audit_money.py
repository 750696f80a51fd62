"""`vision audit` on bill and ledger: every difference is explained call by call, or reported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_app.audit.figures import Account
from vision_app.audit.ledger import Ledgers
from vision_app.audit.material import BilledCall, CallRecord, Closing, GrantGiven, LedgerVersion, Progress
from vision_app.audit.money import BAD_ANSWER_MS, Spent, grants_of, judge_money, prefix_of, to_look_up
from vision_app.audit.tally import Tally
from vision_app.stores.keys import call_key
from vision_app.topics import ANALYSIS, BUDGET

ESTIMATE = 1000


def judged(material: Spent) -> Account:
    tally = Tally()
    judge_money(material, tally)
    return tally.account()


def grant(number: int, *, sha256: str | None = None, **changes: Any) -> GrantGiven:
    given_at = GrantGiven(
        f"{prefix_of('t')}-1-{number}", "t", "p", sha256 or f"sha{number}", "gigachat", "answer", ESTIMATE, False, 1,
        at_ms=number * 100,
    )  # fmt: skip
    return replace(given_at, **changes)


def ledgers(charges: dict[str, int | None]) -> Ledgers:
    book = Ledgers()
    spent = 0
    for number, (name, charge) in enumerate(charges.items()):
        spent += charge or 0
        book.add(LedgerVersion("t", f"c-0-{number}", number, "1/a", "d", 10**9, spent, True, {}, {name: charge}))
    return book


KINDS = st.lists(
    st.tuples(
        st.sampled_from(["settled", "cached", "lost, billed", "lost, not billed", "given up", "released", "ocr"]),
        st.integers(1, ESTIMATE),
    ),
    max_size=12,
)


@st.composite
def worlds(draw: st.DrawFn) -> Spent:
    """Grants that ended in every correct way."""
    calls, grants, closings, charges, records = [], {}, [], {}, {}
    for number, (kind, tokens) in enumerate(draw(KINDS)):
        given_now = grant(number, provider="ocr_fallback" if kind == "ocr" else "gigachat")
        name, at_ms = given_now.id, given_now.at_ms
        grants[name] = given_now
        if kind in ("settled", "lost, billed"):
            calls.append(BilledCall(name, at_ms + 1, tokens, (), "ok"))
        closing, charge = {
            "settled": ("settle", tokens), "cached": ("settle", 0), "lost, billed": ("lost", ESTIMATE),
            "lost, not billed": ("lost", ESTIMATE), "given up": ("settle", ESTIMATE), "released": ("release", None),
            "ocr": ("release", None),
        }[kind]  # fmt: skip
        closings.append(Closing(name, "t", closing, charge or 0, at_ms + 2))  # type: ignore[arg-type]  # one of the three kinds of a closing
        charges[name] = charge
        if kind != "released":
            records[name] = CallRecord(name, "t", done=kind in ("settled", "cached"), tokens=tokens)
    return Spent(
        calls=calls,
        grants=grants,
        closings=closings,
        ledgers=ledgers(charges),
        records=records,
        call_keys={call_key("t", name) for name in records},
        tenants=frozenset({"t"}),
    )


@settings(max_examples=60)
@given(worlds())
def test_the_ledger_exceeds_the_bill_by_what_was_cut_off_and_nothing_else(world: Spent) -> None:
    account = judged(world)
    assert account.discrepancies == []
    assert account.tokens_billed == sum(call.tokens for call in world.calls)
    assert account.tokens_ledger == account.tokens_billed + account.tokens_lost
    assert (account.calls, account.extra_calls, account.tokens_unexplained) == (len(world.calls), 0, 0)


@settings(max_examples=60)
@given(worlds())
def test_only_unexplained_grants_are_looked_up(world: Spent) -> None:
    wanted = {name for _, name in to_look_up(world)}
    charged = {c.grant_id for c in world.closings if c.kind != "release" and c.tokens} - {
        c.grant_id for c in world.calls
    }
    assert wanted == charged


@settings(max_examples=60)
@given(worlds(), st.data())
def test_a_call_that_is_billed_higher_is_noticed(world: Spent, data: st.DataObject) -> None:
    if world.calls:
        at = data.draw(st.integers(0, len(world.calls) - 1))
        calls = [*world.calls]
        calls[at] = replace(calls[at], tokens=calls[at].tokens + ESTIMATE)
        account = judged(replace(world, calls=calls))
        assert any(calls[at].grant_id in sentence for sentence in account.discrepancies)
        assert account.tokens_unexplained > 0


@settings(max_examples=60)
@given(worlds(), st.data())
def test_a_call_that_was_never_billed_is_noticed(world: Spent, data: st.DataObject) -> None:
    settled = [call for call in world.calls if world.records[call.grant_id].done]
    if settled:
        gone = data.draw(st.sampled_from(settled))
        account = judged(replace(world, calls=[call for call in world.calls if call is not gone]))
        assert account.tokens_unexplained == gone.tokens
        assert "was not cut off" in account.discrepancies[0]


def one_call(**changes: Any) -> Spent:
    given_once = grant(1)
    world = Spent(
        calls=[BilledCall(given_once.id, 101, 300, (), "ok")],
        grants={given_once.id: given_once},
        closings=[Closing(given_once.id, "t", "settle", 300, 102)],
        ledgers=ledgers({given_once.id: 300}),
        call_keys={call_key("t", given_once.id)},
        tenants=frozenset({"t"}),
    )
    return replace(world, **changes)


def test_a_call_without_grant_is_assigned_by_its_tenants_prefix() -> None:
    stray = BilledCall(f"{prefix_of('t')}-9-9", 50, 7, (), "ok")
    other = BilledCall("feedbeef-9-9", 50, 7, (), "ok")
    account = judged(one_call(calls=[*one_call().calls, stray, other], restricted=True))
    assert account.calls == 2
    assert sum("never granted" in sentence for sentence in account.discrepancies) == 1
    everybody = judged(one_call(calls=[*one_call().calls, stray, other]))
    assert sum("never granted" in sentence for sentence in everybody.discrepancies) == 2


def test_a_grant_without_closing_is_open() -> None:
    left = one_call(calls=[], closings=[], ledgers=Ledgers())
    assert judged(left).grants_open == 1
    assert "is open and nobody works on it" in judged(left).discrepancies[0]
    for topic in (ANALYSIS, BUDGET):
        assert judged(replace(left, progress=Progress({topic.name: 1}))).clean


def test_a_billed_call_without_a_record_is_noticed_unless_it_is_old() -> None:
    assert judged(one_call(call_keys=set())).records_missing == 1
    assert judged(one_call(call_keys=set(), objects_from_ms=1000)).clean


def test_without_the_ledgers_versions_its_commands_count() -> None:
    assert judged(one_call(ledgers=Ledgers())).tokens_ledger == 300


def test_what_was_closed_before_the_time_is_not_in_the_account() -> None:
    assert [one.id for one in grants_of(one_call(since_ms=102))] == [grant(1).id]
    assert grants_of(one_call(since_ms=103)) == []


def again(first: dict[str, Any], second: dict[str, Any], *, later_ms: int = 10, **changes: Any) -> Account:
    """Two billed calls about one picture. `first`, `second`: how their records and grants differ from a good answer."""
    one = grant(1, sha256="sha", **first.pop("grant", {}))
    two = grant(2, sha256="sha", **second.pop("grant", {}))
    lost = first.pop("lost", False)
    calls = [BilledCall(one.id, 101, 300, ("sha",), "ok"), BilledCall(two.id, 101 + later_ms, 300, ("sha",), "ok")]
    record = CallRecord(one.id, "t", done=True, tokens=300, verdict="ok", version="v", at_ms=101)
    records = {one.id: replace(record, **first), two.id: replace(record, grant_id=two.id, **second)}
    closings = [
        Closing(one.id, "t", "lost" if lost else "settle", 300, 102),
        Closing(two.id, "t", "settle", 300, 103 + later_ms),
    ]
    return judged(
        Spent(
            calls=calls,
            grants={one.id: one, two.id: two},
            closings=closings,
            ledgers=ledgers({one.id: 300, two.id: 300}),
            records=records,
            call_keys={call_key("t", one.id), call_key("t", two.id)},
        )
    )


@pytest.mark.parametrize(
    ("first", "second", "later_ms", "because"),
    [
        ({}, {"grant": {"purpose": "repair"}}, 10, "repair"),
        ({"lost": True, "done": False, "verdict": ""}, {}, 10, "lost"),
        ({}, {"grant": {"force": True}}, 10, "force"),
        ({"verdict": "partial"}, {}, BAD_ANSWER_MS, "expired"),
    ],
)
def test_a_second_call_about_a_picture_is_explained(
    first: dict[str, Any], second: dict[str, Any], later_ms: int, because: str
) -> None:
    account = again(dict(first), dict(second), later_ms=later_ms)
    assert (account.extra_because, account.discrepancies) == ({because: 1}, [])


def test_another_version_is_no_second_call() -> None:
    assert again({}, {"version": "w"}).extra_calls == 0


@pytest.mark.parametrize("first", [{}, {"verdict": "partial"}])
def test_a_second_call_that_nothing_explains_is_complained_about(first: dict[str, Any]) -> None:
    account = again(dict(first), {})
    assert (account.extra_because, account.extra_unexplained) == ({"unexplained": 1}, 1)
    assert "nothing explains it" in account.discrepancies[0]
