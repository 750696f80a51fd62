"""A post's way as stages with durations, and why its media have no result. Pure: from its row and what is asked live.

Not here: reading records of Kafka and entries of Redis (`trace.py`). The times are those of the row: a post that was
looked at again shows its last way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from .waiting import reason_of

Stage = Literal[
    "way_in",
    "policy",
    "posts",
    "preflight",
    "ledger",
    "budget",
    "call",
    "answer",
    "collect",
    "complete",
    "store",
    "other",
]
Cause = Literal[
    "in_work",
    "deferred",
    "tenant_paused",
    "provider_away",
    "store_away",
    "feature_off",
    "policy",
    "object_missing",
    "dead_letter",
    "undecodable",
    "refused",
    "budget",
    "other",
]

_OF_POST: Mapping[str, tuple[Stage, str]] = {
    "relayed": ("way_in", "from its publication until it was in Kafka"),
    "judged": ("policy", "until the policy had judged its media"),
    "opened": ("posts", "until the posts agent had opened it"),
    "completed": ("complete", "until every medium had ended"),
}
_OF_MEDIUM: Mapping[str, tuple[Stage, str]] = {
    "checked": ("preflight", "stored answers and the object were looked up"),
    "returned": ("ledger", "a grant was returned, and asked for again"),
    "granted": ("budget", "it waited for its tenant's budget and a slot"),
    "called": ("call", "it was read and decoded, and waited for its turn at the provider"),
    "answered": ("answer", "it was sent and answered"),
    "collected": ("collect", "its outcome went back to the post"),
}
"""The stage that ends at each time of a row (`messages.Times`), and what happened in it."""

_UNDECODABLE = frozenset(
    {
        "empty",
        "unsupported_type",
        "too_large",
        "too_many_pixels",
        "undecodable",
        "decoding_memory",
        "decoding_timeout",
        "decoding_crashed",
        "hash_mismatch",
    }
)


@dataclass(frozen=True)
class TimedStage:
    """A stretch of a post's way. `medium`: its sha256, None for the whole post. Times in epoch milliseconds."""

    stage: Stage
    started_ms: int
    duration_ms: int
    medium: str | None
    detail: str


@dataclass(frozen=True)
class Surroundings:
    """What is known now of what a post may wait for. `away`: services by name, and why."""

    paused: bool = False
    budget: str | None = None
    away: Mapping[str, str] | None = None
    feature_on: bool = True


@dataclass(frozen=True)
class Explanation:
    """Why a medium has no result, and what to do. `rule`: the policy's. `budget`: tokens when it was deferred."""

    cause: Cause
    text: str
    next_step: str | None = None
    rule: str | None = None
    deferred_until: datetime | None = None
    budget: Mapping[str, int] | None = None
    dead_letter_id: str | None = None


def stages_of(row: Mapping[str, Any]) -> list[TimedStage]:
    """The stages of a row of post_enrichment, in order of their start: of the post, then of each picture once."""
    data = row["data"] or {}
    times = _times(data.get("times"))
    own = {name: at for name, at in times.items() if name in ("published", *_OF_POST) and name != "completed"}
    found = _stretches(own, "published", _OF_POST, None)
    opened = times.get("opened")
    seen: set[str] = set()
    ends: list[int] = []
    for medium in data.get("media", ()):
        sha256 = str(medium.get("sha256") or "")
        if sha256 in seen:
            continue  # a twin has the same way as the first one
        seen.add(sha256)
        its = {name: at for name, at in _times(medium.get("times")).items() if name not in own and name != "completed"}
        its |= _called(its, medium)
        if opened is not None and its:
            found += _stretches({"opened": opened, **its}, "opened", _OF_MEDIUM, sha256)
        ends += its.values()
    if (completed := times.get("completed")) is not None and opened is not None:
        start = max([at for at in ends if at <= completed], default=opened)
        found.append(TimedStage(*_timed("complete", start, completed), None, _OF_POST["completed"][1]))
        if (written := row.get("updated_at")) is not None and row.get("in_work_since") is None:
            written_ms = round(written.timestamp() * 1000)
            if written_ms >= completed:
                found.append(TimedStage(*_timed("store", completed, written_ms), None, "until its row was written"))
    return sorted(found, key=lambda one: one.started_ms)


def _called(its: Mapping[str, int], medium: Mapping[str, Any]) -> dict[str, int]:
    """When the provider was called, from the call's duration. A cached answer has the duration of an earlier call."""
    took = medium.get("duration_ms")
    if "called" in its or medium.get("cached") is not False or not isinstance(took, int):
        return {}
    called = its.get("answered", 0) - took
    return {"called": called} if its.get("granted", called + 1) <= called else {}


def _stretches(
    times: Mapping[str, int], first: str, stages: Mapping[str, tuple[Stage, str]], medium: str | None
) -> list[TimedStage]:
    """The stretches between times, each named by the time at its end. Those from `first` on."""
    if first not in times:
        return []
    ordered = sorted(((at, name) for name, at in times.items() if name != first), key=lambda one: one[0])
    found, start = [], times[first]
    for at, name in ordered:
        stage, detail = stages.get(name, ("other", f"until {name[:64]}"))
        found.append(TimedStage(*_timed(stage, start, at), medium, detail))
        start = max(start, at)
    return found


def _timed(stage: Stage, start: int, end: int) -> tuple[Stage, int, int]:
    """The clocks of producer and worker may differ: no stage lasts less than nothing."""
    return stage, start, max(0, end - start)


def _times(given: Any) -> dict[str, int]:
    return {name: at for name, at in (given or {}).items() if isinstance(at, int) and at > 0}


def explain(medium: Mapping[str, Any], now: Surroundings) -> Explanation | None:
    """Why a medium of a row has no analysis; None if it has one. `now` is used only for one that still waits."""
    status = medium.get("status")
    if status in ("analyzed", "partial"):
        return None
    details = medium.get("details") or {}
    if details.get("deferred"):
        return _deferred(details, now)
    if status == "in_work":
        return _in_work(now)
    reason = str(medium.get("reason") or "")
    if details.get("policy_name"):
        rule = str(details["policy_name"])
        return Explanation(
            "policy",
            f"the policy's rule {rule} skips it",
            "change the rule in the policy file, then publish the post again",
            rule=rule,
        )
    if reason in ("s3_missing", "s3_forbidden"):
        why = "there is no object" if reason == "s3_missing" else "the bucket's owner does not let us read the object"
        key = str(details.get("s3_key") or medium.get("s3_key") or "")
        return Explanation(
            "object_missing", f"{why} {key}", "upload the picture (`vision upload`), then publish the post again"
        )
    if reason == "exception":
        letter = medium.get("dead_letter_id")
        named = f" {letter}" if letter else ""
        return Explanation(
            "dead_letter",
            f"its message could not be handled and is dead letter{named}: {details.get('error') or 'see its reason'}",
            f"look at it with `vision dlq show{named}`, then `vision dlq replay` or `discard`",
            dead_letter_id=str(letter) if letter else None,
        )
    if reason in _UNDECODABLE:
        return Explanation("undecodable", f"the picture cannot be used: {reason}", "publish it again as JPEG or PNG")
    if reason == "refused":
        return Explanation("refused", "the provider refuses to look at it", None)
    if reason == "budget":
        text = (
            "its place in the budget's queue was given up" if details.get("dropped") else "the budget's queue is full"
        )
        return Explanation("budget", text, "publish the post again when the tenant's budget allows it")
    return Explanation("other", reason_of(medium) or "unknown", None)


def _deferred(details: Mapping[str, Any], now: Surroundings) -> Explanation:
    until = _moment(details.get("reset_at"))
    figures = {
        name: details[name] for name in ("spent", "limit", "estimated_tokens") if isinstance(details.get(name), int)
    }
    if now.paused:
        return Explanation(
            "tenant_paused",
            "deferred, and the tenant is paused",
            "resume the tenant",
            deferred_until=until,
            budget=figures or None,
        )
    numbers = (
        f": {figures['spent']} of {figures['limit']} tokens were spent, it may cost {figures['estimated_tokens']}"
        if len(figures) == 3
        else ""
    )
    at = until.isoformat() if until else "the next UTC day"
    return Explanation(
        "deferred",
        f"deferred until {at} by the tenant's daily budget{numbers}",
        "it goes on by itself then; at once if the limit is raised or the spending reset",
        deferred_until=until,
        budget=figures or None,
    )


def _in_work(now: Surroundings) -> Explanation:
    away = now.away or {}
    if not now.feature_on:
        text = "FEATURE_VISION_ENABLED is false: the worker takes no new posts"
        return Explanation("feature_off", text, "set FEATURE_VISION_ENABLED=true and restart the worker")
    if now.paused:
        return Explanation("tenant_paused", "the tenant is paused", "resume the tenant")
    if "gigachat" in away:
        return Explanation("provider_away", f"the provider: {away['gigachat']}", "it goes on when the provider answers")
    if stores := [f"{name}: {why}" for name, why in away.items() if name != "neo4j"]:
        return Explanation("store_away", "; ".join(stores), "it goes on when the service answers")
    return Explanation("in_work", f"it is being looked at{f'; {now.budget}' if now.budget else ''}", None)


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def still_waits(media: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any medium still waits, so that what it waits for is worth asking for."""
    return any(medium.get("status") == "in_work" or (medium.get("details") or {}).get("deferred") for medium in media)
