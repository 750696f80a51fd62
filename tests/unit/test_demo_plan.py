"""What the demo plans to send, how its report reads the times, and what its checks find if something is wrong."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import pytest
from rich.console import Console

from vision_app.domain.calls import CallRecord, StoredAnswer
from vision_app.events import ANALYZED_EVENT, SKIPPED_EVENT
from vision_app.lab.demo.checks import GUIDE_COLUMNS, Check, judge
from vision_app.lab.demo.evidence import Evidence, Findings, TenantBalance
from vision_app.lab.demo.plan import ACT, CHAT, LOST, MISSING_REASON, PlannedPost, calls_expected, plan, tenants
from vision_app.lab.demo.progress import Board, live_text
from vision_app.lab.demo.publish import Published
from vision_app.lab.demo.report import as_json, budget_table, post_view, stages, tokens_text
from vision_app.lab.demo.run import Outcome
from vision_app.messages import Answer, Medium
from vision_app.operations import neighbours
from vision_app.operations.api import token_for_all
from vision_app.operations.backlog import Backlog
from vision_app.operations.neighbours import Announced

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
AT_MS = int(AT.timestamp() * 1000)
COST = 1000


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_the_plan_has_every_case_of_the_issue() -> None:
    posts = {post.name: post for post in plan("r")}
    assert len(tenants(posts.values())) == 2
    assert len(posts["album"].pictures) == 3
    five = posts["five"].pictures
    assert (len(five), five.count(CHAT), five.count(LOST)) == (5, 2, 1)
    assert posts["missing"].pictures == (LOST,)
    assert len(set(posts["repeated"].trace_ids)) == 2


def test_every_uploaded_picture_is_shipped_and_all_shipped_pictures_are_used() -> None:
    used = {picture.file for post in plan("r") for picture in post.found}
    shipped = {file.name for file in resources.files("vision_app").joinpath("demo_media").iterdir()}
    assert used == shipped - {"README.md"}


def test_two_runs_share_no_tenant_post_or_trace() -> None:
    names = [
        {name for post in plan(run) for name in (post.tenant_id, post.post_id, *post.trace_ids)} for run in ("1", "2")
    ]
    assert names[0].isdisjoint(names[1])


def test_what_is_expected_follows_from_the_pictures() -> None:
    posts = {post.name: post for post in plan("r")}
    assert (posts["photo"].status, posts["photo"].event_type) == ("ok", ANALYZED_EVENT)
    assert (posts["five"].status, posts["five"].event_type) == ("partial", ANALYZED_EVENT)
    assert (posts["missing"].status, posts["missing"].event_type) == ("skipped", SKIPPED_EVENT)


def test_a_picture_is_paid_once_per_tenant_however_often_it_is_posted() -> None:
    post = PlannedPost("p", "t", "1", (ACT, ACT, LOST), ("a",))
    other = PlannedPost("q", "t", "2", (ACT, CHAT), ("b", "c"))
    elsewhere = PlannedPost("r", "u", "3", (ACT,), ("d",))
    assert calls_expected([post, other, elsewhere]) == {"t": 2, "u": 1}


# --- checks: a correct run, and each way in which a run can fail ------------------------------------------------------


def found(post: PlannedPost) -> Evidence:
    """The traces of a post that a correct system leaves."""
    media = [_medium(post.tenant_id, picture.file) for picture in post.pictures]
    items = [_enrichment(picture, medium) for picture, medium in zip(post.pictures, media, strict=True)]
    keys = [f"answer/{medium.sha256}" for picture, medium in zip(post.pictures, media, strict=True) if picture.kind]
    answers = {key: _stored(post.tenant_id, key.rpartition("/")[2]) for key in keys}
    body = {"post_id": post.post_id, "trace_id": post.trace_ids[0], "enrichments": items}
    filled: dict[str, Any] = dict.fromkeys(GUIDE_COLUMNS, "filled") | {"s3_vision_keys": list(answers)}
    row = {
        **filled,
        "status": post.status,
        "error": None,
        "updated_at": AT + timedelta(milliseconds=80),
        "data": {
            "simulated": bool(post.found),
            "enrichments": items,
            "media": [{"times": {"published": AT_MS, "relayed": AT_MS + 5, "collected": AT_MS + 40}} for _ in items],
            "times": {"published": AT_MS, "completed": AT_MS + 60},
        },
    }
    return Evidence(
        published=Published(post, tuple(media), ("1-0",)),
        announced=[Announced(f"{AT_MS + 100}-0", post.event_type, body)],
        row=row,
        api_status=200,
        api={"status": post.status, "simulated": True},
        document={},
        answers=answers,
        images={_medium(post.tenant_id, p.file).sha256: {"simulated": True, "labels": ["x"]} for p in post.found},
    )


def _medium(tenant: str, file: str) -> Medium:
    return neighbours.never_uploaded(tenant, file)


def _enrichment(picture: Any, medium: Medium) -> dict[str, Any]:
    if picture.kind is None:
        return {"sha256": medium.sha256, "status": "skipped", "reason": MISSING_REASON, "details": {"s3_key": "k"}}
    analysis = {"classification": picture.kind, "description": "Описание"}
    return {"sha256": medium.sha256, "status": "analyzed", "analysis": analysis, "simulated": True}


def _stored(tenant: str, sha256: str) -> StoredAnswer:
    answer = Answer(
        verdict="ok",
        analysis=None,
        provider="gigachat",
        model="m",
        prompt_version="p1",
        vision_version="v",
        tokens=COST,
        analyzed_at=AT,
        duration_ms=1,
        simulated=True,
    )
    grant = _grant(tenant, sha256)
    return StoredAnswer(answer=answer, tenant_id=tenant, sha256=sha256, grant_id=grant, content="", stored_at=AT)


def _grant(tenant: str, sha256: str) -> str:
    return f"{tenant}-{sha256[:8]}"


def account(tenant: str, posts: tuple[PlannedPost, ...]) -> TenantBalance:
    pictures = {_medium(tenant, p.file).sha256 for post in posts if post.tenant_id == tenant for p in post.found}
    calls = [CallRecord(state="done", grant_id=_grant(tenant, sha), tokens=COST, at=AT) for sha in pictures]
    bill = [_entry(_grant(tenant, sha), sha) for sha in pictures]
    budget = {"spent": COST * len(pictures), "reserved": 0, "open_grants": 0, "waiting": 0, "limit": 1, "remaining": 1}
    return TenantBalance(tenant, budget, calls, bill)


def _entry(grant: str, sha256: str) -> dict[str, Any]:
    return {"client_request_id": grant, "sha256": [f"sent {sha256}"], "total_tokens": COST, "billed": True}


@pytest.fixture
def findings() -> Findings:
    posts = plan("r")
    accounts = [account(tenant, posts) for tenant in tenants(posts)]
    return Findings([found(post) for post in posts], accounts, Backlog(), simulated=True)


def failed(findings: Findings) -> dict[str, tuple[str, ...]]:
    return {check.name: check.faults for check in judge(findings) if not check.ok}


def with_post(findings: Findings, name: str, **changes: Any) -> Findings:
    posts = [replace(evidence, **changes) if evidence.post.name == name else evidence for evidence in findings.posts]
    return replace(findings, posts=posts)


def with_row(findings: Findings, name: str, **columns: Any) -> Findings:
    row = next(evidence.row for evidence in findings.posts if evidence.post.name == name)
    return with_post(findings, name, row={**(row or {}), **columns})


def with_first_account(findings: Findings, **changes: Any) -> Findings:
    return replace(findings, accounts=[replace(findings.accounts[0], **changes), *findings.accounts[1:]])


def announced(findings: Findings, name: str) -> Announced:
    return next(evidence.announced[0] for evidence in findings.posts if evidence.post.name == name)


def test_a_run_as_it_should_be_passes_every_check(findings: Findings) -> None:
    assert failed(findings) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: with_post(f, "photo", announced=[]), "photo: 0 events"),
        (lambda f: with_post(f, "repeated", announced=[announced(f, "repeated")] * 2), "repeated: published 2 times"),
        (
            lambda f: with_post(f, "photo", announced=[replace(announced(f, "photo"), event_type=SKIPPED_EVENT)]),
            "photo: announced as posts.vision.skipped",
        ),
        (lambda f: with_post(f, "photo", row=None), "photo: no row"),
        (lambda f: with_row(f, "photo", status="partial"), "photo: status partial, expected ok"),
        (lambda f: with_row(f, "album", vision_model=None), "album: empty columns vision_model"),
        (lambda f: with_row(f, "five", data={}), "five: 0 media in the row, 5 were published"),
        (lambda f: with_post(f, "photo", document=None), "photo: no post document"),
        (lambda f: with_post(f, "photo", answers={}), "photo: no object answer/"),
        (lambda f: with_post(f, "album", images={}), "album: 0 of 3 pictures"),
        (lambda f: with_post(f, "missing", images={"x": {"simulated": True}}), "missing: 0 of 0 pictures, 1 others"),
        (lambda f: with_post(f, "photo", api_status=404), "photo: HTTP 404"),
        (lambda f: replace(f, backlog=Backlog(kafka={"vision.media": 2})), "left: vision.media: 2 waiting"),
        (lambda f: with_post(f, "photo", api={"status": "ok"}), "photo: not marked as simulated: API"),
        (lambda f: replace(f, killed="worker-1"), "worker-1 was not started again"),
    ],
)
def test_what_is_not_as_expected_is_named(findings: Findings, change: Any, expected: str) -> None:
    faults = [fault for faults in failed(change(findings)).values() for fault in faults]
    assert any(fault.startswith(expected) for fault in faults), faults


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"spent": 0}, "the ledger says 0 tokens, the provider 5000"),
        ({"spent": 6000}, "the ledger says 6000 tokens, the provider 5000"),
        ({"waiting": 2}, "not settled: {'waiting': 2}"),
    ],
)
def test_the_ledger_must_agree_with_the_bill(findings: Findings, budget: Mapping[str, int], expected: str) -> None:
    changed = with_first_account(findings, budget={**findings.accounts[0].budget, **budget})
    assert any(expected in fault for faults in failed(changed).values() for fault in faults)


def test_after_a_crash_the_ledger_may_exceed_the_bill_but_never_fall_short(findings: Findings) -> None:
    tenant = findings.accounts[0]
    lost = CallRecord(state="started", grant_id="lost", at=AT)
    crashed = with_first_account(findings, calls=[*tenant.calls, lost], budget={**tenant.budget, "spent": 9999})
    assert failed(crashed) == {}
    short = with_first_account(crashed, budget={**tenant.budget, "spent": 4999})
    assert list(failed(short)) == ["the budget was charged what the provider billed"]


def test_a_picture_paid_twice_is_found(findings: Findings) -> None:
    tenant_b = findings.accounts[1]
    assert tenant_b.bill is not None
    chat = _medium(tenant_b.tenant_id, CHAT.file).sha256
    twice = replace(tenant_b, bill=[*tenant_b.bill, _entry("another", chat)])
    changed = replace(findings, accounts=[findings.accounts[0], twice])
    assert {
        "one provider call per picture and tenant, none paid twice",
        "twins in one post cost one call and have one answer",
    } <= set(failed(changed))


def test_with_the_real_service_the_kind_and_a_repaired_answer_are_its_own_matter(findings: Findings) -> None:
    real = replace(findings, simulated=False)
    repaired = with_post(with_row(real, "photo", status="partial"), "photo", api={"status": "partial"})
    assert failed(repaired) == {}


def test_without_a_graph_nothing_is_expected_of_it(findings: Findings) -> None:
    off = replace(findings, posts=[replace(evidence, images=None) for evidence in findings.posts])
    assert failed(off) == {}


# --- report and progress ----------------------------------------------------------------------------------------------


def test_stages_follow_the_medium_that_came_last_and_add_up() -> None:
    evidence = found(plan("r")[0])
    assert stages(evidence) == [
        ("relayed", 5),
        ("collected", 35),
        ("completed", 20),
        ("committed", 20),
        ("announced", 20),
    ]


def test_every_post_can_be_drawn_also_when_nothing_was_found(findings: Findings) -> None:
    for evidence in findings.posts:
        post_view(evidence)
        post_view(replace(evidence, row=None, announced=[], answers={}, images=None))


def test_on_a_terminal_of_80_columns_nothing_is_cut(findings: Findings) -> None:
    output = io.StringIO()
    console = Console(file=output, width=80, force_terminal=False)
    for evidence in findings.posts:
        console.print(post_view(evidence))
    budget = {"spent": 1, "limit": 250_000, "remaining": 249_999}
    console.print(budget_table([TenantBalance("t" * 40, budget, [], [])]))
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    text = "".join(line.strip() for line in lines)
    for evidence in findings.posts:
        for picture in evidence.post.pictures:
            assert any(picture.file in line for line in lines), picture.file
        for key in (evidence.row or {}).get("s3_vision_keys") or ():
            assert key in text
    assert sum(line.count("t" * 20) for line in lines) >= 1
    assert "REMAINING" in text
    assert "249999" in text


def test_tokens_say_when_an_answer_was_cached() -> None:
    assert tokens_text({"tokens_billed": 5}) == "5"
    assert tokens_text({"tokens_billed": 0, "cached": True}) == "0 cached"


def test_json_says_what_failed(findings: Findings) -> None:
    outcome = Outcome("http://x", findings, [Check("a", (), ""), Check("b", ("why",), "do")], [])
    document = as_json(outcome)
    assert document["ok"] is False
    assert document["checks"] == [
        {"name": "a", "ok": True, "faults": []},
        {"name": "b", "ok": False, "faults": ["why"]},
    ]
    assert all(post["simulated"] for post in document["posts"] if post["name"] != "missing")


def test_the_board_counts_a_post_announced_again() -> None:
    posts = plan("r")
    told: list[str] = []
    board = Board(posts, on_change=told.append)
    event = Announced("1-0", ANALYZED_EVENT, {"post_id": posts[0].post_id})
    board.announced(event)
    board.announced(event)
    assert posts[0] not in board.waiting()
    assert [" AGAIN" in line for line in told] == [False, True]


def test_an_absent_worker_is_reported_once() -> None:
    told: list[str] = []
    board = Board(plan("r"), on_change=told.append)
    for answers in (True, False, False, True):
        board.worker_answers(answers)
    assert told == ["no worker answers; it is being started again", "the worker answers again"]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, {}, "published"),
        (202, {"media": [{"status": "analyzed"}, {"status": "in_work"}]}, "in work: waits for medium 2 of 2"),
        (202, {"media": [{"status": "analyzed"}]}, "in work: complete"),
        (200, {"status": "ok"}, "row written: ok"),
        (503, {}, "the worker is busy starting"),
        (401, {}, "the API answers 401"),
    ],
)
def test_live_states_are_a_few_words(status: int, body: Mapping[str, Any], expected: str) -> None:
    assert live_text(status, body) == expected


def test_the_token_for_all_tenants_is_used() -> None:
    assert token_for_all(["a=b=tenant", " secret=* "]) == "secret"
    assert token_for_all(["a=tenant"]) == ""
