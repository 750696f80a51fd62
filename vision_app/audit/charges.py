"""Compares the charges in Postgres (`token_charges`) with those of the ledgers, charge by charge. Pure.

A ledger's charges are known from its versions in the changelog. Compaction removes old versions; then what was reported
to the ledger (settled or lost) shows that a row is right, and only a charge without any row is a discrepancy. The
results are grouped by tenant and UTC day, as the owner's accounts are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from vision_app import topics
from vision_app.stores.text import storable_text
from vision_app.texts import say

from .figures import ChargesOfDay
from .ledger import Ledgers, SeenCharge
from .material import ChargeRow, Closing, Progress
from .money import REPORTED
from .tally import Tally

GRANTS_NAMED = 3
ON_THE_WAY = (topics.ANALYSIS.name, topics.BUDGET.name, topics.SINK_POSTGRES.name)
"""Work in these topics may still charge something, or write a charge to Postgres."""

Verdict = Literal["equal", "missing", "extra", "under_way", "not_judged"]
Key = tuple[str, str, str]
"""Tenant, ledger and grant, as in the table's primary key."""


@dataclass(frozen=True)
class Recorded:
    """The charges from all sources. Times in milliseconds since the epoch.

    `rows`: those charged within the account's time, and those of the charges that the ledgers know. `table_from_ms`:
    when the table was made; None if it was not made yet. `table_missing`: it was made, and is not there any more.
    `reported_from_ms`: since then every report to the ledgers is in `closings`.
    """

    rows: Sequence[ChargeRow] = ()
    ledgers: Ledgers = field(default_factory=Ledgers)
    closings: Sequence[Closing] = ()
    progress: Progress = field(default_factory=Progress)
    since_ms: int = 0
    until_ms: int = 2**63
    table_from_ms: int | None = 0
    table_missing: bool = False
    reported_from_ms: int = 0

    def within(self, at_ms: int) -> bool:
        return max(self.since_ms, self.table_from_ms or 0) <= at_ms < self.until_ms


@dataclass(frozen=True)
class _Judged:
    """One charge: `ledger` and `postgres` are what each side has charged, in tokens."""

    tenant_id: str
    grant_id: str
    at_ms: int
    ledger: int
    postgres: int
    verdict: Verdict


def known_charges(ledgers: Ledgers) -> list[Key]:
    """The rows that the table must have by the ledgers' versions."""
    return [
        (storable_text(tenant), ledger, grant)
        for tenant in ledgers
        for (ledger, grant), seen in ledgers[tenant].by_ledger.items()
        if seen.tokens
    ]


def judge_charges(material: Recorded, tally: Tally) -> None:
    """Count the tokens in Postgres, and complain about each day of a tenant on which they are not the ledger's."""
    if material.table_from_ms is None:
        tally.notes.append(
            say("Postgres has no table token_charges yet: a worker of this version makes it at its start")
        )
        return
    if material.table_missing:
        tally.complain(
            say("lost tables"),
            say(
                "table token_charges was dropped, so `vision cost` knows nothing: `vision migrate repair` makes it "
                "again, `vision migrate refill` writes the charges that Kafka still has"
            ),
        )
        return
    for row in material.rows:
        if material.within(row.at_ms):
            tally.of(row.tenant_id).counts["tokens_postgres"] += row.tokens
    days: dict[tuple[str, str], list[_Judged]] = defaultdict(list)
    for one in _judged(material):
        days[one.tenant_id, _day(one.at_ms)].append(one)
    for (tenant_id, day), charges in sorted(days.items()):
        _judge_day(tenant_id, day, charges, tally)
    _note([one for charges in days.values() for one in charges], tally)


def _judge_day(tenant_id: str, day: str, charges: Sequence[_Judged], tally: Tally) -> None:
    by: Mapping[Verdict, list[_Judged]] = {
        verdict: [one for one in charges if one.verdict == verdict] for verdict in ("missing", "extra", "under_way")
    }
    counts = tally.of(tenant_id).counts
    for verdict, found in by.items():
        counts[f"charges_{verdict}"] += len(found)
    if not any(by.values()):
        return
    judged = [one for one in charges if one.verdict != "not_judged"]
    tally.charges.append(
        ChargesOfDay(
            tenant_id=tenant_id,
            day=day,
            tokens_ledger=sum(one.ledger for one in judged),
            tokens_postgres=sum(one.postgres for one in judged),
            **{verdict: len(found) for verdict, found in by.items()},
        )
    )
    if missing := by["missing"]:
        tally.complain(
            say("days with charges that are missing in Postgres"),
            say(
                "{day}: {tokens} that the ledger of {tenant_id} charged are not in token_charges, so `vision cost` "
                "shows too little ({grants}): `vision dlq ls --origin {origin}` shows charges that were refused, "
                "`vision migrate refill` writes those that Kafka still has",
                day=day,
                tokens=_tokens(missing),
                tenant_id=tenant_id,
                grants=_grants(missing),
                origin=topics.SINK_POSTGRES.name,
            ),
        )
    if extra := by["extra"]:
        tally.complain(
            say("days with charges in Postgres that no ledger made"),
            say(
                "{day}: token_charges has {tokens} that no ledger of {tenant_id} charged, so `vision cost` shows too "
                "much ({grants}): find out who else writes to the table, then correct these rows by hand",
                day=day,
                tokens=_tokens(extra),
                tenant_id=tenant_id,
                grants=_grants(extra),
            ),
        )


def _judged(material: Recorded) -> Iterator[_Judged]:
    """Every charge of the account's time, each once."""
    rows = {(row.tenant_id, row.ledger, row.grant_id): row for row in material.rows}
    reports = _reports(material)
    known: set[Key] = set()
    of_grants = {(row.tenant_id, row.grant_id) for row in material.rows}
    for name in material.ledgers:
        tenant = storable_text(name)
        for (ledger, grant), seen in material.ledgers[name].by_ledger.items():
            key = (tenant, ledger, grant)
            known.add(key)
            of_grants.add((tenant, grant))
            if judged := _seen(key, seen, rows.get(key), reports.get((tenant, grant), ()), material):
                yield judged
    for key, row in rows.items():
        if key not in known and material.within(row.at_ms):
            yield _unseen(row, reports.get((row.tenant_id, row.grant_id), ()), material)
    for (tenant, grant), found in reports.items():
        if (tenant, grant) not in of_grants and (judged := _only_reported(tenant, grant, found, material)):
            yield judged


def _seen(
    key: Key, seen: SeenCharge, row: ChargeRow | None, reports: Sequence[Closing], material: Recorded
) -> _Judged | None:
    """A charge that the ledger's versions show. None if it is not of the account's time, or it is not known."""
    tenant, _, grant = key
    at_ms = row.at_ms if row is not None else _time_of(seen, reports, material)
    if at_ms is None or not material.within(at_ms):
        return None
    found = row.tokens if row is not None else 0
    verdict: Verdict = "equal"
    if found != seen.tokens and material.progress.busy(*ON_THE_WAY):
        verdict = "under_way"
    elif found < seen.tokens:
        verdict = "missing"
    elif row is not None and found > seen.tokens:
        verdict = _of_more(row, reports, complete=not _compacted(tenant, material), material=material)
    return _Judged(tenant, grant, at_ms, seen.tokens, found, verdict)


def _unseen(row: ChargeRow, reports: Sequence[Closing], material: Recorded) -> _Judged:
    """A row that no version of a ledger shows: right if it was reported and the version was compacted away."""
    book = material.ledgers[row.tenant_id]
    verdict: Verdict = "under_way"
    if not material.progress.busy(*ON_THE_WAY):
        complete = not book.gaps and row.ledger in book.names
        verdict = _of_more(row, reports, complete=complete, material=material)
    return _Judged(row.tenant_id, row.grant_id, row.at_ms, row.tokens * (verdict == "equal"), row.tokens, verdict)


def _of_more(row: ChargeRow, reports: Sequence[Closing], *, complete: bool, material: Recorded) -> Verdict:
    """The verdict on a row with more than the ledger's versions show; `complete`: none of them is gone."""
    if complete:
        return "extra"
    if row.tokens <= _most(reports):
        return "equal"
    if row.cut_off or row.at_ms < material.reported_from_ms:
        return "not_judged"  # a grant that was open for a day is charged without a report
    return "extra"


def _only_reported(tenant: str, grant: str, reports: Sequence[Closing], material: Recorded) -> _Judged | None:
    """A charge that was reported, and that neither a version of the ledger nor Postgres shows; None if there is none.

    Where all versions are there, the ledger did not charge it: then bill and ledger differ, which is said elsewhere.
    """
    at_ms, tokens = min(one.at_ms for one in reports), _most(reports)
    book = material.ledgers[tenant]
    of_a_lost_ledger = book.born_ms is not None and at_ms < book.born_ms
    if not tokens or grant in book.released or not (_compacted(tenant, material) or of_a_lost_ledger):
        return None
    if not material.within(at_ms):
        return None
    on_the_way = material.progress.busy(*ON_THE_WAY)
    return _Judged(tenant, grant, at_ms, tokens, 0, "under_way" if on_the_way else "missing")


def _reports(material: Recorded) -> dict[tuple[str, str], list[Closing]]:
    """What was reported to the ledgers as a charge, by tenant and grant."""
    found: dict[tuple[str, str], list[Closing]] = defaultdict(list)
    for closing in material.closings:
        if closing.kind in REPORTED:
            found[storable_text(closing.tenant_id), closing.grant_id].append(closing)
    return found


def _time_of(seen: SeenCharge, reports: Sequence[Closing], material: Recorded) -> int | None:
    """When a charge without a row was made; None if that is not known and it may be older than the account."""
    if seen.exact:
        return seen.at_ms
    if reports:
        return min(one.at_ms for one in reports)
    return None if material.since_ms or material.table_from_ms else seen.at_ms


def _compacted(tenant: str, material: Recorded) -> bool:
    """Whether versions of the ledger may be gone, so that not every charge is seen in them."""
    book = material.ledgers[tenant]
    return bool(book.gaps or not book.versions)


def _most(reports: Sequence[Closing]) -> int:
    return max((one.tokens for one in reports), default=0)


def _note(charges: Sequence[_Judged], tally: Tally) -> None:
    if under_way := sum(one.verdict == "under_way" for one in charges):
        tally.notes.append(
            say("{charges} charges may still be on their way to Postgres (or from the ledger to it)", charges=under_way)
        )
    if unknown := sum(one.verdict == "not_judged" for one in charges):
        tally.notes.append(
            say(
                "{charges} charges in Postgres are not compared: Kafka no longer has what was reported then",
                charges=unknown,
            )
        )


def _tokens(charges: Sequence[_Judged]) -> str:
    tokens = sum(abs(one.ledger - one.postgres) for one in charges)
    return say("{tokens} tokens in {charges} charge(s)", tokens=tokens, charges=len(charges))


def _grants(charges: Sequence[_Judged]) -> str:
    named = ", ".join(sorted(one.grant_id for one in charges)[:GRANTS_NAMED])
    more = len(charges) - GRANTS_NAMED
    return (
        f"grants {named} and {more} more" if more > 0 else f"grants {named}" if len(charges) > 1 else f"grant {named}"
    )


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")
