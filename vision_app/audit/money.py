"""Compares bill and ledger, call by call. Pure: material in, counts and complaints out.

Every billed call names its grant (X-Request-ID). A grant is charged what was billed; one whose call was cut off
(`Lost`) is charged its estimate. So the ledger may exceed the bill only by that, and is never below it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vision_app import topics
from vision_app.stores.answers import BAD_ANSWER_LIFETIME
from vision_app.stores.keys import call_key
from vision_app.texts import say

from .figures import Difference
from .ledger import Ledgers
from .material import BilledCall, CallRecord, Closing, GrantGiven, Progress
from .tally import Tally

BAD_ANSWER_MS = round(BAD_ANSWER_LIFETIME.total_seconds() * 1000)
REPORTED = ("settle", "lost")


@dataclass(frozen=True)
class Spent:
    """Everything about money. `calls` are in the order of their times, `records` holds the call records that were read.

    `call_keys`: keys of all call records in S3. `tenants`: the known ones; if `restricted`, calls of others do not
    count.
    """

    calls: Sequence[BilledCall] = ()
    grants: Mapping[str, GrantGiven] = field(default_factory=dict)
    closings: Sequence[Closing] = ()
    ledgers: Ledgers = field(default_factory=Ledgers)
    records: Mapping[str, CallRecord] = field(default_factory=dict)
    call_keys: Collection[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    restricted: bool = False
    progress: Progress = field(default_factory=Progress)
    since_ms: int = 0
    objects_from_ms: int = 0


@dataclass
class Grant:
    """One grant with its calls, closings and records."""

    id: str
    tenant_id: str
    given: GrantGiven | None = None
    calls: list[BilledCall] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)

    @property
    def billed(self) -> int:
        return sum(call.tokens for call in self.calls)

    @property
    def lost(self) -> bool:
        return any(closing.kind == "lost" for closing in self.closings)

    @property
    def reported(self) -> int:
        """The highest charge that was reported to the ledger."""
        return max((closing.tokens for closing in self.closings if closing.kind in REPORTED), default=0)

    def since(self, since_ms: int) -> bool:
        """Whether the grant belongs to the account: closed in its time, or still open and given or billed in it."""
        if self.closings:
            return any(closing.at_ms >= since_ms for closing in self.closings)
        given = self.given is not None and self.given.at_ms >= since_ms
        return given or any(call.at_ms >= since_ms for call in self.calls)


def grants_of(material: Spent) -> list[Grant]:
    """Every grant of the account's time, from all sources."""
    tenants = {prefix_of(tenant): tenant for tenant in material.tenants}
    grants: dict[str, Grant] = {}

    def grant(grant_id: str, tenant_id: str | None = None) -> Grant:
        tenant = tenant_id if tenant_id is not None else tenants.get(grant_id.partition("-")[0], "")
        return grants.setdefault(grant_id, Grant(grant_id, tenant))

    for given in material.grants.values():
        grant(given.id, given.tenant_id).given = given
    for closing in material.closings:
        grant(closing.grant_id, closing.tenant_id).closings.append(closing)
    for call in material.calls:
        grant(call.grant_id).calls.append(call)
    ours = (
        grants.values() if not material.restricted else (g for g in grants.values() if g.tenant_id in material.tenants)
    )
    return [one for one in ours if one.since(material.since_ms)]


def prefix_of(tenant_id: str) -> str:
    """The prefix of the ids of a tenant's grants: it names the tenant even if the grant itself is unknown."""
    return hashlib.sha256(tenant_id.encode()).hexdigest()[:8]


def to_look_up(material: Spent) -> list[tuple[str, str]]:
    """(tenant, grant) of the calls whose records in S3 must be read to explain them."""
    grants = grants_of(material)
    doubtful = {
        (one.tenant_id, one.id) for one in grants if _charge(one, material) != one.billed and not one.lost and one.calls
    }
    doubtful |= {(one.tenant_id, one.id) for one in grants if _charge(one, material) and not one.calls}
    for calls in _by_picture(grants).values():
        if len(calls) > 1:
            doubtful |= {(one.tenant_id, one.id) for one, _ in calls}
    return sorted(doubtful)


def judge_money(material: Spent, tally: Tally) -> None:
    """Count calls and tokens, and complain about each difference without a reason."""
    grants = grants_of(material)
    for one in grants:
        _grant(one, material, tally)
    for (tenant_id, sha256), calls in _by_picture(grants).items():
        _picture(tenant_id, sha256, calls, material, tally)
    for tenant_id in material.ledgers:
        book, tenant = material.ledgers[tenant_id], tally.of(tenant_id)
        tenant.peak = book.peak
        tenant.counts["overspend"] += book.overspend
        for fault in book.faults:
            tally.complain(
                say("faults of ledgers"), say("ledger of {tenant_id}: {fault}", tenant_id=tenant_id, fault=fault)
            )
        if book.older:
            tally.notes.append(
                say(
                    "ledger of {tenant_id}: {older} versions came after a newer one and do not count",
                    tenant_id=tenant_id,
                    older=book.older,
                )
            )
        if book.gaps:
            tally.notes.append(
                say(
                    "ledger of {tenant_id}: compaction removed versions at {gaps} places, so its highest state "
                    "may have been higher, and steps across them were not checked",
                    tenant_id=tenant_id,
                    gaps=book.gaps,
                )
            )


# --- grants -----------------------------------------------------------------------------------------------------------


def _charge(one: Grant, material: Spent) -> int:
    """What the ledger charged; if its versions were compacted away, what was reported to it."""
    book = material.ledgers[one.tenant_id]
    seen = book.total(one.id)
    if seen is None and one.id not in book.released and (book.gaps or not book.versions):
        return one.reported
    return seen or 0


def _grant(one: Grant, material: Spent, tally: Tally) -> None:
    counts = tally.of(one.tenant_id).counts
    charge = _charge(one, material)
    counts["calls"] += len(one.calls)
    counts["tokens_billed"] += one.billed
    counts["tokens_ledger"] += charge
    if one.calls and one.given is None and not one.closings:
        whose = one.tenant_id or "nobody"
        tally.complain(
            say("calls nobody granted"),
            say(
                "{whose} is billed {billed} tokens under {id}, never granted", whose=whose, billed=one.billed, id=one.id
            ),
        )
    if not one.closings and one.given is not None:
        counts["grants_open"] += 1
        if not material.progress.busy(topics.ANALYSIS.name, topics.BUDGET.name):
            tally.complain(
                say("open grants"),
                say("grant {id} of {tenant_id} is open and nobody works on it", id=one.id, tenant_id=one.tenant_id),
            )
    _record(one, material, tally)
    if charge != one.billed and not _being_closed(one, material):
        _difference(one, charge, _because_of(one, material) if charge > one.billed else "", tally)


def _difference(one: Grant, charge: int, because: str, tally: Tally) -> None:
    """Note a grant whose charge differs from its bill; complain if there is no reason."""
    counts, difference = tally.of(one.tenant_id).counts, charge - one.billed
    found = Difference(one.id, one.tenant_id, one.billed, charge, because or "unexplained")
    tally.differences.append(found)
    if because:
        counts["tokens_lost"] += difference
        return
    counts["tokens_unexplained"] += abs(difference)
    if difference > 0:
        kind, what = (
            say("grants charged without reason"),
            say("billed {billed}, and was not cut off", billed=one.billed),
        )
    else:
        kind, what = (
            say("calls the ledger does not cover"),
            say("but billed {billed} in {calls} call(s)", billed=one.billed, calls=len(one.calls)),
        )
    tally.complain(
        kind,
        say(
            "grant {id} of {tenant_id} is charged {charge} tokens, {what}",
            id=one.id,
            tenant_id=one.tenant_id or "nobody",
            charge=charge,
            what=what,
        ),
    )


def _being_closed(one: Grant, material: Spent) -> bool:
    """Whether the settlement of the grant may still be on its way."""
    return bool(one.given and not one.closings and material.progress.busy(topics.ANALYSIS.name, topics.BUDGET.name))


def _because_of(one: Grant, material: Spent) -> str:
    """Why the cost of the call was unknown, so that more was charged; empty if it was known."""
    book, record = material.ledgers[one.tenant_id], material.records.get(one.id)
    if one.lost:
        return "lost"
    if one.id in book.charged and one.id in book.before_loss:
        return "ledger lost"
    return "given up" if record is not None and not record.done else ""


def _record(one: Grant, material: Spent, tally: Tally) -> None:
    if not one.calls or not one.tenant_id or one.calls[-1].at_ms < material.objects_from_ms:
        return
    if call_key(one.tenant_id, one.id) not in material.call_keys:
        tally.of(one.tenant_id).counts["records_missing"] += 1
        tally.complain(
            say("calls without a record"),
            say("the billed call of grant {id} ({tenant_id}) has no record in S3", id=one.id, tenant_id=one.tenant_id),
        )


# --- pictures ---------------------------------------------------------------------------------------------------------

Calls = list[tuple[Grant, BilledCall]]


def _by_picture(grants: Iterable[Grant]) -> dict[tuple[str, str], Calls]:
    """Billed calls by tenant and picture, in order. A repair sends no picture; it counts for its grant's picture."""
    found: dict[tuple[str, str], Calls] = defaultdict(list)
    for one in grants:
        if one.given is not None:
            found[one.tenant_id, one.given.sha256] += [(one, call) for call in one.calls]
    return {picture: sorted(calls, key=lambda pair: pair[1].at_ms) for picture, calls in found.items() if calls}


def _picture(tenant_id: str, sha256: str, calls: Calls, material: Spent, tally: Tally) -> None:
    tenant = tally.of(tenant_id)
    for number, (one, call) in enumerate(calls):
        if not number or (reason := _because(calls[:number], one, call, material)) == "another version":
            continue
        tenant.counts["extra_calls"] += 1
        tenant.counts["extra_tokens"] += call.tokens
        tenant.extra_because[reason or "unexplained"] += 1
        if not reason:
            tenant.counts["extra_unexplained"] += 1
            tally.complain(
                say("pictures paid for again"),
                say(
                    "picture {sha256} of {tenant_id} was paid for again under grant {id}; nothing explains it",
                    sha256=sha256[:12],
                    tenant_id=tenant_id,
                    id=one.id,
                ),
            )


def _because(before: Calls, one: Grant, call: BilledCall, material: Spent) -> str:
    """Why a picture was asked about again; empty if there is no reason."""
    if any(earlier.id == one.id for earlier, _ in before):
        return ""  # one grant, two calls: never right
    if one.given is not None and one.given.purpose == "repair":
        return "repair"
    records = [material.records.get(earlier.id) for earlier, _ in before]
    if _because_of(before[-1][0], material):
        return "lost"
    if one.given is not None and one.given.force:
        return "force"
    own = material.records.get(one.id)
    versions = {record.version for record in records if record and record.version}
    if own is not None and own.version and versions and own.version not in versions:
        return "another version"
    if any(r and r.done and r.verdict != "ok" and call.at_ms - r.at_ms >= BAD_ANSWER_MS for r in records):
        return "expired"
    return ""
