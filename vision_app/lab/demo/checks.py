"""Checks what must be true after a run. Pure: findings in, verdicts out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .evidence import Evidence, Findings, TenantBalance
from .plan import MISSING_REASON, Picture, calls_expected

GUIDE_COLUMNS = (
    "vision_analyzed_at",
    "vision_provider",
    "vision_model",
    "vision_is_meme",
    "vision_classification",
    "vision_tokens_used",
    "s3_vision_keys",
    "s3_media_keys",
)
"""The columns of the acceptance guide's SQL; each must have a value if a medium was analyzed."""

SEEN = ("analyzed", "partial")


@dataclass(frozen=True)
class Check:
    """One expectation. `faults` lists the deviations, post by post; `remedy` says what to do."""

    name: str
    faults: tuple[str, ...]
    remedy: str

    @property
    def ok(self) -> bool:
        return not self.faults


Judge = Callable[[Findings], Iterator[str]]


def judge(findings: Findings) -> list[Check]:
    """All checks that apply to this run."""
    checks = [*_CHECKS]
    if findings.simulated:
        checks += _SIMULATED
    if any(evidence.images is not None for evidence in findings.posts):
        checks.append(_GRAPH)
    if findings.killed:
        checks.append(_KILLED)
    return [Check(name, tuple(find(findings)), remedy) for name, find, remedy in checks]


# --- posts ------------------------------------------------------------------------------------------------------------


def _announced(findings: Findings) -> Iterator[str]:
    for evidence in findings.posts:
        post, events = evidence.post, evidence.announced
        if len(events) != 1:
            yield f"{post.name}: {len(events)} events, expected one"
        for event in events:
            if event.event_type != post.event_type:
                yield f"{post.name}: announced as {event.event_type}, expected {post.event_type}"
            if event.body.get("trace_id") not in post.trace_ids:
                yield f"{post.name}: the event's trace_id {event.body.get('trace_id')} was never published"
            if len(event.body.get("enrichments", ())) != len(post.pictures):
                yield f"{post.name}: {len(event.body.get('enrichments', ()))} enrichments of {len(post.pictures)}"


def _rows(findings: Findings) -> Iterator[str]:
    for evidence in findings.posts:
        post, row = evidence.post, evidence.row
        if row is None:
            yield f"{post.name}: no row"
            continue
        allowed = {post.status} if findings.simulated or not post.found else {"ok", "partial"}
        if row["status"] not in allowed:
            yield f"{post.name}: status {row['status']}, expected {post.status}; {row['error'] or 'no error noted'}"
        empty = [name for name in GUIDE_COLUMNS if row[name] in (None, [], {}, "")]
        if post.found and empty:
            yield f"{post.name}: empty columns {', '.join(empty)}"


def _media(findings: Findings) -> Iterator[str]:
    for evidence in findings.posts:
        items = evidence.enrichments
        if len(items) != len(evidence.post.pictures):
            yield f"{evidence.post.name}: {len(items)} media in the row, {len(evidence.post.pictures)} were published"
            continue
        for number, (picture, item) in enumerate(zip(evidence.post.pictures, items, strict=True), start=1):
            if fault := _medium(picture, item):
                yield f"{evidence.post.name}, medium {number}: {fault}"


def _medium(picture: Picture, item: Any) -> str:
    ended = f"{item['status']} {item.get('reason', '')} {item.get('details') or ''}".strip()
    if not picture.is_uploaded:
        expected = item["status"] == "skipped" and item.get("reason") == MISSING_REASON
        return "" if expected else f"{ended}, expected skipped {MISSING_REASON}"
    return "" if item["status"] in SEEN else f"{ended}, expected an analysis"


def _objects(findings: Findings) -> Iterator[str]:
    for evidence in findings.posts:
        if evidence.document is None:
            yield f"{evidence.post.name}: no post document"
        for key in (evidence.row or {}).get("s3_vision_keys") or ():
            if key not in evidence.answers:
                yield f"{evidence.post.name}: no object {key}"


def _graph(findings: Findings) -> Iterator[str]:
    for evidence in findings.posts:
        drawn = set(evidence.images or ())
        uploaded = (
            medium.sha256
            for picture, medium in zip(evidence.post.pictures, evidence.published.media, strict=True)
            if picture.is_uploaded
        )
        if drawn != (expected := set(uploaded)):
            others = len(drawn - expected)
            yield f"{evidence.post.name}: {len(drawn & expected)} of {len(expected)} pictures, {others} others"


def _api(findings: Findings) -> Iterator[str]:
    for evidence in findings.posts:
        name = evidence.post.name
        if evidence.api_status != 200:
            yield f"{name}: HTTP {evidence.api_status}"
        elif evidence.row is None or evidence.api.get("status") != evidence.row["status"]:
            yield f"{name}: the API says {evidence.api.get('status')}, the row {(evidence.row or {}).get('status')}"


def _idle(findings: Findings) -> Iterator[str]:
    if findings.backlog:
        yield f"left: {findings.backlog}"


def _repeated(findings: Findings) -> Iterator[str]:
    for evidence in findings.posts:
        times, events = len(evidence.post.trace_ids), len(evidence.announced)
        if times > 1 and events != 1:
            yield f"{evidence.post.name}: published {times} times, {events} events"


# --- money ------------------------------------------------------------------------------------------------------------


def _calls(findings: Findings) -> Iterator[str]:
    expected = calls_expected(evidence.post for evidence in findings.posts)
    for account in findings.accounts:
        pictures = expected[account.tenant_id]
        if not pictures <= account.billed_calls <= pictures + account.cut_off:
            lost = f", {account.cut_off} cut off" if account.cut_off else ""
            yield f"{account.tenant_id}: {account.billed_calls} calls for {pictures} pictures{lost}"
        repeated = Counter(entry["client_request_id"] for entry in account.bill or ())
        yield from (f"grant {grant} was used for {times} calls" for grant, times in repeated.items() if times > 1)


def _twins(findings: Findings) -> Iterator[str]:
    accounts = {account.tenant_id: account for account in findings.accounts}
    for evidence in findings.posts:
        for sha256 in _twice_listed(evidence):
            analyses = [item.get("analysis") for item in evidence.enrichments if item["sha256"] == sha256]
            if any(analysis != analyses[0] for analysis in analyses):
                yield f"{evidence.post.name}: the twins were answered differently"
            account = accounts[evidence.post.tenant_id]
            if not 1 <= (calls := _calls_for(account, evidence, sha256)) <= 1 + account.cut_off:
                yield f"{evidence.post.name}: {calls} calls for one picture"


def _twice_listed(evidence: Evidence) -> list[str]:
    listed = Counter(medium.sha256 for medium in evidence.published.media)
    return [sha256 for sha256, times in listed.items() if times > 1]


def _calls_for(account: TenantBalance, evidence: Evidence, sha256: str) -> int:
    """Calls about one picture: those that stored its answer and, according to the bill, others with the same file."""
    grants = {stored.grant_id for stored in evidence.answers.values() if stored.sha256 == sha256}
    if account.bill is None:
        return len(grants)
    files = {file for entry in account.bill if entry["client_request_id"] in grants for file in entry["sha256"]}
    return sum(not files.isdisjoint(entry["sha256"]) for entry in account.bill)


def _ledger(findings: Findings) -> Iterator[str]:
    for account in findings.accounts:
        budget, billed = account.budget, account.billed_tokens
        exact = budget["spent"] == billed
        if not (exact or (account.cut_off and budget["spent"] > billed)):
            yield f"{account.tenant_id}: the ledger says {budget['spent']} tokens, the provider {billed}"
        if open_now := {name: budget[name] for name in ("reserved", "open_grants", "waiting") if budget[name]}:
            yield f"{account.tenant_id}: not settled: {open_now}"


# --- the simulator ----------------------------------------------------------------------------------------------------


def _marked_as_simulated(findings: Findings) -> Iterator[str]:
    for evidence in findings.posts:
        if not evidence.post.found:
            continue
        places = {
            "row": (evidence.row or {}).get("data", {}).get("simulated"),
            "API": evidence.api.get("simulated"),
            "event": all(_simulated(event.body["enrichments"]) for event in evidence.announced),
            "graph": evidence.images is None or all(image["simulated"] for image in evidence.images.values()),
            "S3 answer": all(stored.answer.simulated for stored in evidence.answers.values()),
        }
        if unmarked := [place for place, marked in places.items() if not marked]:
            yield f"{evidence.post.name}: not marked as simulated: {', '.join(unmarked)}"


def _simulated(enrichments: Sequence[Any]) -> bool:
    return all(item.get("simulated") for item in enrichments if "analysis" in item)


def _kinds(findings: Findings) -> Iterator[str]:
    for evidence in findings.posts:
        for picture, item in zip(evidence.post.pictures, evidence.enrichments, strict=False):
            seen = (item.get("analysis") or {}).get("classification")
            if seen != picture.kind:
                yield f"{evidence.post.name}: {picture.file} was taken for {seen}, it is {picture.kind}"


def _restarted(findings: Findings) -> Iterator[str]:
    if findings.killed_restarts < 1:
        yield f"{findings.killed} was not started again"


_LOGS = "read `vision logs worker-1`; what could not be processed is in the topic vision.dlq"
_CHECKS: tuple[tuple[str, Judge, str], ...] = (
    ("every post was announced on Redis, once, as it should be", _announced, _LOGS),
    ("every post has its row in Postgres, with all columns of the guide's SQL", _rows, _LOGS),
    ("every medium was analyzed, or skipped because its object is missing", _media, _LOGS),
    ("the answers and the post documents are in S3", _objects, "read `vision logs s3` and `vision logs worker-1`"),
    ("the API answers 200 for every post", _api, "see `vision status`; the body of the answer has a trace_id"),
    (
        "nothing is left unread, pending or waiting in Redis and Kafka",
        _idle,
        "`vision kafka groups --describe --group vision` shows which part is behind",
    ),
    ("the repeated post was announced exactly once", _repeated, _LOGS),
    ("one provider call per picture and tenant, none paid twice", _calls, "compare with /admin/bill of the simulator"),
    ("twins in one post cost one call and have one answer", _twins, "compare with /admin/bill of the simulator"),
    ("the budget was charged what the provider billed", _ledger, "see GET /api/v1/budget/{tenant} and /admin/bill"),
)
_GRAPH: tuple[str, Judge, str] = (
    "the pictures are in the graph, linked to their posts",
    _graph,
    "read `vision logs neo4j` and `vision logs worker-1`",
)
_SIMULATED: tuple[tuple[str, Judge, str], ...] = (
    (
        "every answer says that it is simulated",
        _marked_as_simulated,
        "GIGACHAT_SIMULATED did not reach the worker; see `vision config`",
    ),
    ("every picture got its own answer", _kinds, "read `vision logs simulator`"),
)
_KILLED: tuple[str, Judge, str] = (
    "the killed worker was started again",
    _restarted,
    "read `vision logs supervisor`",
)
