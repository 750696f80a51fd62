"""The views' documents: every state has its words, and nothing that a tenant or a model wrote becomes markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from markupsafe import escape

from vision_app.operations.timeline import Cause
from vision_app.stack.checks import Finding, Level
from vision_app.telemetry.alert_rules import AlertState
from vision_app.web.auth import ALL_TENANTS, SESSION_FORM, TENANT
from vision_app.web.budget_list import judge
from vision_app.web.budget_list_models import BudgetsAnswer
from vision_app.web.cost import CostAnswer
from vision_app.web.dead_letter_models import LetterAnswer, LettersAnswer, ListedDeadLetter, ReplayAnswer
from vision_app.web.health_checks import Alert, HealthAnswer, ServiceHealth
from vision_app.web.models import BudgetAnswer, ParkedAnswer, ReadyAnswer, StalledWork
from vision_app.web.pipeline import STAGES, together
from vision_app.web.pipeline_models import PipelineAnswer, StageState, WorkerState
from vision_app.web.post_models import (
    HeldRecord,
    MediumExplanation,
    MediumNow,
    PlaceNow,
    PostNowAnswer,
    PostSearchAnswer,
    TimelineAnswer,
    TimelineMedium,
)
from vision_app.web.post_replay import PostReplayAnswer
from vision_app.web.rate import CALLER
from vision_app.web.storage_models import CleanupAnswer, StorageStatsAnswer
from vision_app.web.ui.audit import FIGURES
from vision_app.web.ui.audit import PERIOD_TEXTS as AUDIT_PERIODS
from vision_app.web.ui.cost import BY_TEXTS, HOW_TEXTS, PERIOD_TEXTS, PERIODS, CostPageQuery
from vision_app.web.ui.dead_letters import DeadLettersQuery, LettersForm
from vision_app.web.ui.flow import ROWS, TITLES
from vision_app.web.ui.post_now import live, texts
from vision_app.web.ui.post_texts import CAUSE_TEXTS, EFFECT_TEXTS, PLACE_TEXTS, STAGE_TEXTS, STATUS_TEXTS
from vision_app.web.ui.posts import STATUSES, PostQuery, PostsQuery
from vision_app.web.ui.render import TROUBLES, Troubles, clock, commands, iso, render
from vision_app.web.ui.tenants import TenantsQuery
from vision_app.web.ui.texts import RUSSIAN

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOSTILE = """<script>alert(1)</script>"'&?#/../%00 ü"""
NO_ACCOUNT: dict[str, Any] = {"audit": None, "every": 30, "spoken": str, "figures": FIGURES, "periods": AUDIT_PERIODS}
TENANT_CALLER, OPERATOR = "t", ALL_TENANTS


def shown(
    template: str, *, tenant: str = OPERATOR, language: str = "en", troubles: Troubles | None = None, **values: Any
) -> str:
    """The document that this template makes for a caller."""
    request = make_mocked_request("GET", "/ui/x?y=z", headers={"Accept-Language": language})
    request[TROUBLES] = troubles or Troubles()
    request[TENANT], request[CALLER], request[SESSION_FORM] = tenant, "someone", "form-token"
    answer: web.Response = render(request, template, **values)
    assert answer.text is not None
    assert "<script>alert" not in answer.text
    assert 'alert(1)</script>"' not in answer.text
    return answer.text


def ledger(**more: Any) -> BudgetAnswer:
    known: dict[str, Any] = {"tenant_id": HOSTILE, "day": "2026-11-27", "limit": 1000, "default_limit": False}
    known |= {"spent": 10, "reserved": 0, "remaining": 990, "waiting": 0, "open_grants": 0, "paused": False}
    known |= {"loaded": True, "reset_at": NOW + timedelta(hours=12), "known": True, "note": None, **more}
    return BudgetAnswer.model_validate(known)


def medium(explanation: MediumExplanation | None = None, status: str = "skipped") -> TimelineMedium:
    return TimelineMedium(
        sha256="ab" * 32,
        mime_type=HOSTILE,
        size_bytes=5_000_000,
        status=status,
        kind=None,
        reason=None,
        rule=None,
        deferred_until=None,
        provider=None,
        model=None,
        tokens_billed=0,
        cached=None,
        explanation=explanation,
    )


def timeline(*media: TimelineMedium) -> TimelineAnswer:
    return TimelineAnswer(
        tenant_id=HOSTILE,
        post_id=HOSTILE,
        post_trace_id=HOSTILE,
        status="skipped",
        in_work_since=None,
        stages=[],
        total_ms=None,
        media=list(media),
    )


def post(found: TimelineAnswer, language: str = "en", seen: Any = None, **more: Any) -> str:
    texts: dict[str, Any] = {"status_texts": STATUS_TEXTS, "cause_texts": CAUSE_TEXTS, "stage_texts": STAGE_TEXTS}
    texts |= {"where": None, "replays": [], "replayable": True, "done": None, **more}
    return shown("post.html", language=language, post=found, result=None, seen=seen or {}, letters=[], **texts)


@pytest.mark.parametrize("cause", get_args(Cause))
@pytest.mark.parametrize("language", ["en", "ru"])
def test_a_post_without_a_result_says_why_and_what_to_do(cause: Cause, language: str) -> None:
    why = MediumExplanation(
        cause=cause,
        text=HOSTILE,
        next_step=HOSTILE,
        rule="unsupported_mime",
        deferred_until=NOW,
        budget={"spent": 900, "limit": 1000, "estimated_tokens": 300},
        dead_letter_id="letter-1",
    )
    document = post(timeline(medium(why)), language)
    for text in filter(None, CAUSE_TEXTS[cause]):
        assert commands(RUSSIAN[text] if language == "ru" else text) in document
    assert "unsupported_mime" in document
    assert "27.11. 12:00:00" in document
    assert "/ui/dead-letter?id=letter-1" in document


def test_what_a_model_says_is_shown_as_text() -> None:
    analysis = {"classification": HOSTILE, "description": HOSTILE, "labels": [HOSTILE], "is_meme": True}
    analysis |= {"ocr": {"text": HOSTILE}, "confidence": 0.5}
    document = post(timeline(medium(status="analyzed")), seen={"ab" * 32: analysis})
    assert document.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5


def test_a_post_offers_its_replay_to_operators_only() -> None:
    acts = [
        {"forced": True, "tokens_at_most": 5, "destination": HOSTILE, "operator": HOSTILE, "reason": HOSTILE, "at": NOW}
    ]
    document = post(timeline(medium()), replays=acts, done="replay")
    assert "/ui/post/replay?tenant_id=" in document
    assert "sent again by force" in document
    assert "the post was sent again" in document
    assert "/ui/post/replay" not in post(timeline(medium()), tenant=TENANT_CALLER)
    assert "/ui/post/replay" not in post(timeline(medium()), replayable=False)
    assert "Postgres is away" in post(timeline(medium()), replays=None)


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("force", [False, True])
def test_a_replay_of_a_post_says_first_what_it_pays_again(language: str, force: bool) -> None:
    effects = ("free", "asked", "paid_again", "no_object")
    media = [
        {"sha256": "ab" * 32, "status": HOSTILE, "effect": effect, "tokens_before": 1234, "tokens_at_most": 99}
        for effect in effects
    ]
    known: dict[str, Any] = {"dry_run": True, "tenant_id": HOSTILE, "post_id": HOSTILE, "status": "in_work"}
    known |= {"force": force, "media": media, "paid_again": 1, "topic": "t", "key": HOSTILE, "payload": HOSTILE}
    known |= {"cost": {"asked": 2, "tokens_at_most": 198, "cached": 1, "gone": 1}, "payload_cut": False, "sent": None}
    texts: dict[str, Any] = {"status_texts": STATUS_TEXTS, "effect_texts": EFFECT_TEXTS}
    plan = PostReplayAnswer.model_validate(known)
    document = shown("post_replay.html", language=language, plan=plan, dearer=True, **texts)
    expected = [text for _, text in EFFECT_TEXTS.values()]
    expected.append("Paid again: {n} of the pictures were paid for before, and there is no stored answer to use.")
    expected.append("Send by force, at most {tokens} tokens" if force else "Send, at most {tokens} tokens")
    for text in expected:
        said = (RUSSIAN[text] if language == "ru" else text).format(n=1, tokens=198)
        assert escape(said) in document
    assert 'name="reason" required' in document
    assert f'name="force" value="{"on" if force else ""}"' in document


@pytest.mark.parametrize("place", get_args(PlaceNow))
@pytest.mark.parametrize("status", ["in_work", "completed", "not_open"])
def test_where_a_post_is_now_is_said_in_words(place: PlaceNow, status: Any) -> None:
    one = MediumNow(sha256="ab" * 32, status=HOSTILE, place=place, since=NOW, waits_for=HOSTILE)
    sink = HeldRecord(stage="sink-postgres", sha256=None, since=NOW, step="", waits_for="postgres")
    now = PostNowAnswer(
        tenant_id=HOSTILE,
        post_id=HOSTILE,
        status=status,
        opened_at=NOW,
        media=[one],
        held=[sink, sink.model_copy(update={"stage": HOSTILE})],
        unknown=["its owner"],
    )
    document = shown("post_unstored.html", **live(now, None))
    for text in (
        PLACE_TEXTS[place],
        "Its result is being stored: postgres",
        "Not known now: its owner",
        "Postgres does",
    ):
        assert escape(text) in document
    assert ("Every picture has ended." in document) == (status == "completed" and place == "ended")
    assert 'data-changes="/api/v1/changes?' in document
    assert "data-reload" not in document
    assert "data-reload" in shown("post_now_part.html", where=now, reload=True, **texts())


def test_every_document_says_what_the_worker_waits_for_and_to_operators_why() -> None:
    troubles = Troubles(f"stalled {HOSTILE}", {"kafka": f"no answer {HOSTILE}"})
    nothing = PostSearchAnswer(posts=[], next_cursor=None)
    texts: dict[str, Any] = {"statuses": STATUSES, "status_texts": STATUS_TEXTS, "first": "", "following": ""}
    texts |= {"found": nothing, "query": PostsQuery(), "filtered": False, "troubles": troubles}
    document = shown("posts.html", **texts)
    assert "This worker does not work: stalled" in document
    assert "Waits for kafka: no answer" in document
    own = shown("posts.html", tenant=TENANT_CALLER, **texts)
    assert "Waits for kafka" in own
    assert "no answer" not in own
    assert "stalled" not in own


def test_commands_are_shown_as_code_and_nothing_else_becomes_markup() -> None:
    assert commands("see `vision doctor`; <b> & `a<i>`") == (
        "see <code>vision doctor</code>; &lt;b&gt; &amp; <code>a&lt;i&gt;</code>"
    )
    assert "<script" not in commands(f"`{HOSTILE}` {HOSTILE}")


@pytest.mark.parametrize("at", [-1e30, -1.0, 0, 1e30, float("inf"), 18446744073709551.615])
def test_any_number_is_shown_as_some_time(at: float) -> None:
    assert clock(at)
    assert iso(at)


def test_an_analysis_of_an_older_version_is_shown_with_what_it_has() -> None:
    assert "Kind" in post(timeline(medium(status="analyzed")), seen={"ab" * 32: {"labels": []}})


def test_links_keep_any_id_whole() -> None:
    document = post(timeline(medium()))
    (link,) = set(re.findall(r'href="(/ui/tenant\?tenant_id=[^"]*)"', document))
    assert link == "/ui/tenant?tenant_id=%3Cscript%3Ealert%281%29%3C/script%3E%22%27%26%3F%23/../%2500%20%C3%BC"


def test_posts_busy_empty_and_without_an_analyzed_picture() -> None:
    texts: dict[str, Any] = {"statuses": STATUSES, "status_texts": STATUS_TEXTS, "first": "", "following": ""}
    nothing = PostSearchAnswer(posts=[], next_cursor=None)
    for filtered, text in ((True, "No post fits."), (False, "No post has come yet.")):
        assert text in shown("posts.html", found=nothing, query=PostsQuery(), filtered=filtered, **texts)
    one: dict[str, Any] = {"tenant_id": HOSTILE, "post_id": HOSTILE, "channel_id": HOSTILE, "post_trace_id": None}
    one |= {"status": "deferred", "in_work_since": None, "deferred_until": NOW, "reasons": [HOSTILE], "kind": HOSTILE}
    one |= {"labels": [], "description": HOSTILE * 50, "tokens_used": 12345, "error": None, "picture_count": 1}
    one |= {"sha256": ["ab" * 32], "media": [medium().model_dump()], "analyzed_at": None, "updated_at": NOW}
    found = PostSearchAnswer.model_validate({"posts": [one], "next_cursor": None})
    document = shown("posts.html", found=found, query=PostsQuery(q=HOSTILE), filtered=True, **texts)
    assert "12\u202f345" in document
    assert "till 27.11. 12:00:00 UTC" in document
    assert "<img class=" not in document


def test_an_unknown_post_leads_to_its_dead_letter_and_to_the_switch() -> None:
    query = PostQuery(tenant_id="t", post_id="p<b>")
    document = shown("post_unknown.html", query=query, letters=[letter()], feature_on=False)
    assert "/ui/dead-letter?id=" in document
    assert "FEATURE_VISION_ENABLED" in document
    assert "Kafka does not answer" not in document
    assert "Kafka does not answer" in shown("post_unknown.html", query=query, letters=None, feature_on=True)


@pytest.mark.parametrize(
    ("of", "text"),
    [
        ({"spent": 1000, "remaining": 0}, "out of money"),
        ({"paused": True}, "paused"),
        ({"waiting": 5, "open_grants": 1}, "tasks wait for a slot"),
        ({}, "money left"),
    ],
)
def test_a_tenants_state_in_the_list_and_on_its_own_page(of: dict[str, Any], text: str) -> None:
    one = judge(ledger(**of), NOW)
    found = BudgetsAnswer(budgets=[one], next_cursor=None, unknown=["silent"])
    document = shown("tenants.html", found=found, query=TenantsQuery(), first="", following="/ui/tenants?cursor=x")
    assert text in document
    assert "silent" in document
    assert ("new money at 28.11. 00:00:00 UTC" in document) == (text == "out of money")
    waiting = ParkedAnswer(tenant_id=HOSTILE, waiting=0, tasks=[], next_start=None)
    acts = [{"action": "set_limit", "value": None, "operator": HOSTILE, "at": NOW, "reason": HOSTILE}]
    document = shown("tenant.html", ledger=one, waiting=waiting, actions=acts, done="pause")
    assert text in document
    own = shown("tenant.html", tenant=TENANT_CALLER, ledger=one, waiting=waiting, actions=None, done=None)
    assert "/ui/tenant/change" in document
    assert "/ui/tenant/change" not in own
    assert "Postgres is away" in own


@pytest.mark.parametrize("action", ["pause", "resume", "reset", "set_limit"])
def test_a_change_says_what_it_does_and_asks_who_and_why(action: str) -> None:
    document = shown("tenant_change.html", ledger=judge(ledger(), NOW), action=action)
    assert 'name="form_token" value="form-token"' in document
    assert 'name="who" required' in document
    assert 'name="reason" required' in document
    assert ('name="limit"' in document) == (action == "set_limit")


def letter(**more: Any) -> ListedDeadLetter:
    known: dict[str, Any] = {"id": HOSTILE, "state": "waiting", "origin": HOSTILE, "error": HOSTILE, "reason": HOSTILE}
    known |= {"tenant_id": HOSTILE, "post_id": HOSTILE, "post_trace_id": HOSTILE, "attempts": 3, "replays": 1}
    return ListedDeadLetter.model_validate({**known, "first_seen": NOW, "last_seen": NOW, "size_bytes": 10, **more})


def test_dead_letters_with_and_without_the_right_to_act() -> None:
    groups: list[dict[str, Any]] = [{"origin": HOSTILE, "error": HOSTILE, "count": 2}]
    found = LettersAnswer.model_validate(
        {"letters": [letter().model_dump()], "total": 2, "groups": groups, "next_cursor": None}
        | {"states_known": True, "complete": False}
    )
    texts: dict[str, Any] = {"query": DeadLettersQuery(), "first": "", "following": ""}
    document = shown("dead_letters.html", found=found, **texts)
    assert "the oldest are left out" in document
    assert 'name="action" value="discard"' in document
    assert 'name="action"' not in shown("dead_letters.html", tenant=TENANT_CALLER, found=found, **texts)
    away = found.model_copy(update={"states_known": False, "letters": [], "groups": []})
    assert "Postgres is away" in shown("dead_letters.html", found=away, **texts)


@pytest.mark.parametrize("kind", ["json", "text", "bytes"])
def test_a_dead_letter_with_its_payload(kind: str) -> None:
    known: dict[str, Any] = {"letter": letter().model_dump(), "key": HOSTILE, "partition": 1, "offset": "5"}
    known |= {"headers": {HOSTILE: HOSTILE}, "code_version": "1", "payload": HOSTILE, "payload_kind": kind}
    found = LetterAnswer.model_validate({**known, "payload_cut": True})
    document = shown("dead_letter.html", found=found)
    assert ("hexadecimal" in document) == (kind == "bytes")
    assert "The payload is cut" in document


def test_a_replay_shows_its_cost_and_its_refusals_first() -> None:
    letters: list[dict[str, Any]] = [
        {
            "id": HOSTILE,
            "destination": "vision.media",
            "whole_post": True,
            "sent": None,
            "refused": None,
            "warning": HOSTILE,
        },
        {"id": "b", "destination": None, "whole_post": False, "sent": None, "refused": HOSTILE, "warning": None},
    ]
    cost: dict[str, Any] = {"asked": 1, "tokens_at_most": 1234, "cached": 2, "gone": 3}
    letters = [{**one, "sent": None} for one in letters]
    plan = ReplayAnswer.model_validate({"dry_run": True, "letters": letters, "cost": cost, "left": 7})
    form = LettersForm(action="replay")
    document = shown("dead_letters_change.html", form=form, ids="a\nb", plan=plan, count=1)
    assert "At most 1\u202f234 tokens for 1 pictures" in document
    assert "7 more letters fit" in document
    assert 'name="confirmed" value="yes"' in document
    nothing = shown("dead_letters_change.html", form=form, ids="b", plan=plan, count=0)
    assert 'name="confirmed"' not in nothing


def test_the_flow_says_what_stands_still_and_what_waits() -> None:
    idle: dict[str, Any] = {
        "per_minute": None,
        "in_flight": 0,
        "waiting": None,
        "oldest_since": None,
        "waits_for": None,
    }
    stages = [StageState.model_validate({"stage": name, "stalled_since": None, **idle}) for name in STAGES]
    stages[5] = stages[5].model_copy(update={"stalled_since": NOW, "oldest_since": NOW, "per_minute": 12.0})
    stages[6] = stages[6].model_copy(update={"waits_for": HOSTILE})
    workers = [
        WorkerState(worker="http://a", answered=True, ready=True, reason=None, waiting_for={HOSTILE: HOSTILE}),
        WorkerState(worker="http://b", answered=False, ready=False, reason=HOSTILE, waiting_for={}),
    ]
    stall = StalledWork(place="p", topic="t", stage="analysis", since=NOW, reason=HOSTILE, remedy=HOSTILE)
    state = together([PipelineAnswer(stages=stages, workers=workers, stalls=[stall])])
    ready = ReadyAnswer(status="not_ready", reason=HOSTILE, waiting_for={})
    values: dict[str, Any] = {
        "state": state,
        "stages": {one.stage: one for one in state.stages},
        "rows": ROWS,
        "titles": TITLES,
    }
    document = shown("flow.html", ready=ready, **values)
    assert "stands still" in document
    assert "does not answer" in document
    assert document.count('class="stage') == len(STAGES)
    own = shown("flow.html", tenant=TENANT_CALLER, ready=ready, state=None)
    assert "http://a" not in own


@pytest.mark.parametrize("page", ["flow.html", "health.html"])
@pytest.mark.parametrize(("waiting_for", "green"), [({}, True), ({"kafka": "no answer for 11 s"}, False)])
def test_nothing_is_green_while_a_service_is_waited_for(page: str, waiting_for: dict[str, str], green: bool) -> None:
    ready = ReadyAnswer(status="ready", reason=None, waiting_for=waiting_for)
    document = shown(page, tenant=TENANT_CALLER, ready=ready, state=None, report=None)
    assert ("Work goes on." in document, "notice good" in document) == (green, green)
    assert ("waits for a service" in document) is not green


@pytest.mark.parametrize("worst", list(Level))
def test_health_shows_the_worst_first(worst: Level) -> None:
    service = ServiceHealth(service="kafka", state=worst, detail=HOSTILE, latency_ms=12.5)
    findings = [Finding(check=HOSTILE, verdict=worst, detail=HOSTILE)]
    report = HealthAnswer(worst=worst, checked_at=NOW, services=[service], findings=findings)
    alerts: dict[str, Any] = {"firing": [], "pending": [], "quiet": [], "undecided": []}
    ready = ReadyAnswer(status="ready", reason=None, waiting_for={})
    text = {"ok": "Everything answers", "hint": "something is to be done", "failed": "Something is broken"}[worst.value]
    assert text in shown("health.html", ready=ready, report=report, findings=findings, alerts=alerts, **NO_ACCOUNT)
    assert "kafka" not in shown("health.html", tenant=TENANT_CALLER, ready=ready, report=None)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_alerts_are_shown_with_what_is_wrong_and_what_to_do(language: str) -> None:
    states: tuple[AlertState, ...] = ("firing", "pending", "quiet", "undecided")
    alerts = [
        Alert(
            name=f"A{n}",
            severity=severity,
            state=state,
            since=NOW,
            about=[HOSTILE],
            runbook=HOSTILE,
            expression="x > 0",
        )
        for n, state in enumerate(states)
        for severity in ("critical", "warning")
    ]
    report = HealthAnswer(worst=Level.FAILED, checked_at=NOW, services=[], findings=[], alerts=alerts)
    by_state = {state: [one for one in alerts if one.state == state] for state in states}
    ready = ReadyAnswer(status="ready", reason=None, waiting_for={})
    values: dict[str, Any] = {"ready": ready, "findings": [], "language": language, **NO_ACCOUNT}
    document = shown("health.html", report=report, alerts=by_state, **values)
    for text in ("fires", "holds, not yet for long enough", "quiet", "needs Prometheus", "critical", "warning"):
        assert escape(RUSSIAN[text] if language == "ru" else text) in document
    quiet = {**by_state, "firing": [], "pending": []}
    text = "No alert fires."
    assert (RUSSIAN[text] if language == "ru" else text) in shown("health.html", report=report, alerts=quiet, **values)
    none = report.model_copy(update={"alerts": []})
    empty: dict[str, Any] = {state: [] for state in states}
    text = "The file of alert rules cannot be read; the log of this worker says why."
    assert (RUSSIAN[text] if language == "ru" else text) in shown("health.html", report=none, alerts=empty, **values)


@pytest.mark.parametrize(("used", "text"), [(5.0, "There is room"), (96.0, "emergency threshold"), (101.0, "is full")])
def test_storage_says_whether_it_is_about_to_fill(used: float, text: str) -> None:
    limits: dict[str, float] = {"total_bucket_gb": 100, "emergency_threshold_gb": 95, "cleanup_target_gb": 80}
    limits |= {"per_tenant_max_gb": 10, "media_max_gb": 50, "vision_max_gb": 0, "crawl_max_gb": 5}
    policies = {"media_ttl_days": 30, "vision_ttl_days": 30, "crawl_ttl_days": 7, "compression_required": False}
    kinds = {"media": used, "vision": 0.0, "crawl": 0.0, "album": 0.0, "other": 0.0}
    current = {"total_gb": used, "limit_gb": 100, "usage_percent": used, "by_type": kinds}
    tenants = [{"tenant_id": name, "usage_gb": 11, "objects": 5} for name in (HOSTILE, "", " ")]
    found = StorageStatsAnswer.model_validate(
        {"current": current, "limits": limits, "policies": policies, "last_updated": None, "largest_tenants": tenants}
        | {"counted_at": None, "cleaned_at": NOW, "cleanup_due": True, "drift_gb": 0}
    )
    document = shown("storage.html", found=found, done="started")
    assert text in document
    assert document.count("of no tenant") == 4
    assert 'tenant_id="' not in document


def test_a_clean_up_is_shown_before_it_runs() -> None:
    freed = [{"content_type": "media", "reason": "ttl", "count": 3, "gb": 0.5}]
    known: dict[str, Any] = {"deleted_count": 3, "freed_gb": 0.5, "duration_seconds": 1, "dry_run": True}
    known |= {"freed": freed, "total_gb": 9, "protected_gb": {"awaited": 1.0}, "shortfall_gb": 0.25}
    document = shown("storage_cleanup.html", preview=CleanupAnswer.model_validate(known))
    assert "3 objects would be deleted" in document
    assert "The target is missed" in document
    assert "Delete now" in document
    nothing = CleanupAnswer.model_validate({**known, "deleted_count": 0, "freed": []})
    assert "Delete now" not in shown("storage_cleanup.html", preview=nothing)


def test_cost_with_and_without_a_price() -> None:
    saved = [{"how": how, "media": 2, "tokens": 50, "estimated": how == "policy"} for how in HOW_TEXTS]
    row: dict[str, Any] = {"group": HOSTILE, "calls": 3, "tokens": 5000, "cut_off_tokens": 100, "money": "7.50"}
    row |= {"saved": saved}
    month = {"name": "2026-11", "tokens": 9, "money": "1.00", "forecast_tokens": 10, "forecast_money": "2.00"}
    known: dict[str, Any] = {
        "by": "tenant",
        "since": NOW,
        "until": NOW,
        "rows": [row],
        "total": row,
        "month": month,
        "unpriced": [],
    }
    texts: dict[str, Any] = {
        "dimensions": list(BY_TEXTS),
        "periods": PERIODS,
        "period_texts": PERIOD_TEXTS,
        "by_texts": BY_TEXTS,
    }
    values: dict[str, Any] = {"query": CostPageQuery(), "how_texts": HOW_TEXTS, **texts}
    document = shown("cost.html", found=CostAnswer.model_validate(known), **values)
    assert "7.50" in document
    assert "estimated" in document
    unknown = {**row, "money": None}
    found = CostAnswer.model_validate({**known, "rows": [unknown], "total": unknown, "unpriced": [HOSTILE]})
    assert "VISION_PRICES" in shown("cost.html", found=found, **values)
