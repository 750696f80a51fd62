"""Decides which media of a post are analyzed: one verdict per listed medium, with its reasons.

Pure: no file, no clock, no I/O. Rules run in a fixed order, and the first that rejects a medium decides: required, mime
type, size, channel, language; then sampling over the remaining media. A verdict also says whether OCR is allowed
instead. The model of the file is in `policy_model.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vision_app.domain.policy_model import KIB, MIB, Policy, normal_channel, normal_language, normal_mime
from vision_app.domain.policy_text import PolicyError, load_policy
from vision_app.messages import Medium, PolicyVerdict, Uploaded

__all__ = [
    "Check",
    "Context",
    "Explanation",
    "Policy",
    "PolicyError",
    "decide",
    "decision_labels",
    "explain",
    "load_policy",
]

PASSED = "policy_passed"
QUOTA_EXHAUSTED = "quota_exhausted"


@dataclass(frozen=True)
class Context:
    """What is known of the tenant besides the event. None: not known; then the stricter rule applies."""

    quota_exhausted: bool = False
    spent_today: int | None = None  # tokens


@dataclass(frozen=True)
class Check:
    """What one rule says of one medium. `policy_name` is set when the rule rejects it."""

    rule: str
    text: str
    policy_name: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """A medium's verdict and the checks of all rules, also of those after the deciding one."""

    medium: Medium
    checks: list[Check]
    verdict: PolicyVerdict


def decide(policy: Policy, event: Uploaded, *, context: Context) -> list[PolicyVerdict]:
    """One verdict per listed medium, in the order of the event."""
    return [explanation.verdict for explanation in explain(policy, event, context=context)]


def explain(policy: Policy, event: Uploaded, *, context: Context | None = None) -> list[Explanation]:
    """What every rule says of every listed medium, and the verdict that follows."""
    context = context or Context()
    found = [[rule(policy, event, medium) for rule in _RULES] for medium in event.media_files]
    left = [index for index, checks in enumerate(found) if not _objection(checks)]
    sampled = _sample(policy, event.media_files, left, context)
    for index in left:
        found[index] += [sampled[index], _ocr(policy, event.media_files[index])]
    return [
        Explanation(medium, checks, _verdict(policy, medium, checks, context))
        for medium, checks in zip(event.media_files, found, strict=True)
    ]


def decision_labels(verdict: PolicyVerdict) -> tuple[str, str]:
    """The labels (decision, reason) under which the metric vision_policy_decisions_total counts this verdict."""
    if verdict.analyze:
        return ("fallback" if verdict.reason == QUOTA_EXHAUSTED else "allow"), verdict.reason
    name = str(verdict.details["policy_name"])
    return _LABELS.get(name, ("skip", name))


_LABELS = {
    "unsupported_mime": ("deny", "unsupported_mime"),
    "image_too_large": ("deny", "file_too_large"),
    "document_too_large": ("deny", "file_too_large"),
    "channel_skipped": ("skip", "channel"),
    "language_skipped": ("skip", "language"),
}


def _verdict(policy: Policy, medium: Medium, checks: Sequence[Check], context: Context) -> PolicyVerdict:
    prompt_key = policy.prompt_key(medium.mime_type)
    if objection := _objection(checks):
        facts = {"policy_name": objection.policy_name, "mime_type": medium.mime_type, "size_bytes": medium.size_bytes}
        return PolicyVerdict(
            analyze=False, reason="policy", details={**facts, **objection.details}, prompt_key=prompt_key
        )
    exhausted = context.quota_exhausted and policy.ocr_at_exhaustion
    return PolicyVerdict(
        analyze=True,
        reason=QUOTA_EXHAUSTED if exhausted else PASSED,
        details={name: value for check in checks for name, value in check.details.items()},
        prompt_key=prompt_key,
        ocr_allowed=policy.ocr_at_exhaustion or policy.ocr_for_mime(medium.mime_type),
    )


def _objection(checks: Sequence[Check]) -> Check | None:
    return next((check for check in checks if check.policy_name), None)


# --- rules about one medium -------------------------------------------------------------------------------------------


def _required(_: Policy, event: Uploaded, __: Medium) -> Check:
    if event.requires_vision:
        return Check("required", "the event asks for an analysis")
    return Check("required", "the event says requires_vision=false", "not_required")


def _mime(policy: Policy, _: Uploaded, medium: Medium) -> Check:
    if policy.allows(medium.mime_type):
        return Check("mime_type", f"{medium.mime_type} is allowed")
    return Check("mime_type", f"{medium.mime_type} is not in allowed_mime_types", "unsupported_mime")


def _size(policy: Policy, _: Uploaded, medium: Medium) -> Check:
    image = _is_image(medium)
    limit = policy.limits.max_image_mb if image else policy.limits.max_document_mb
    size = f"{medium.size_bytes / MIB:.2f} MiB"
    if medium.size_bytes <= limit * MIB:
        return Check("size", f"{size} of at most {limit:g}")
    name = "image_too_large" if image else "document_too_large"
    return Check("size", f"{size} is more than {limit:g}", name, {"limit_mb": limit})


def _channel(policy: Policy, event: Uploaded, _: Medium) -> Check:
    skipped = set(map(normal_channel, policy.routing.skip_if_channel))
    names = _texts(event, "channel_username", "channel", "channel_id")
    for name in names:
        if normal_channel(name) in skipped:
            return Check("channel", f"{name} is in skip_if_channel", "channel_skipped", {"channel": name})
    return Check("channel", f"{names[0]} is not in skip_if_channel" if names else "the event names no channel")


def _language(policy: Policy, event: Uploaded, _: Medium) -> Check:
    wanted = set(map(normal_language, policy.routing.skip_if_lang_not_in))
    code = next((text for text in _texts(event, "language", "lang") if normal_language(text) != "und"), None)
    if code is None:
        return Check("language", "the event names no language")
    if not wanted or normal_language(code) in wanted:
        return Check("language", f"{code} is wanted")
    return Check("language", f"{code} is not in skip_if_lang_not_in", "language_skipped", {"language": code})


_RULES: tuple[Callable[[Policy, Uploaded, Medium], Check], ...] = (_required, _mime, _size, _channel, _language)


def _is_image(medium: Medium) -> bool:
    return normal_mime(medium.mime_type).startswith("image/")


def _texts(event: Uploaded, *names: str) -> list[str]:
    """The non-empty texts of these fields; the event's model need not declare them."""
    values = (getattr(event, name, None) for name in names)
    return [str(value) for value in values if isinstance(value, str | int) and str(value).strip()]


# --- sampling: rules about the post as a whole ------------------------------------------------------------------------


def _sample(policy: Policy, media: Sequence[Medium], left: Sequence[int], context: Context) -> dict[int, Check]:
    """For every medium that the other rules accept: whether it is among the pictures kept. Twins count once."""
    pictures: dict[str, Medium] = {}
    for index in left:
        if _is_image(media[index]):
            pictures.setdefault(media[index].sha256, media[index])
    checks = _choose(policy, list(pictures.values()), context)
    document = Check("sampling", "sampling concerns images only")
    return {index: checks[media[index].sha256] if _is_image(media[index]) else document for index in left}


def _choose(policy: Policy, pictures: Sequence[Medium], context: Context) -> dict[str, Check]:
    """By sha256: kept or not. Above the cap, small pictures are dropped first, then those that rank last."""
    cap = policy.sampling.per_post_max_images or len(pictures)
    if idle := _why_not_sampled(policy, len(pictures), context):
        return {picture.sha256: idle for picture in pictures}
    small_below = policy.sampling.skip_small_images_kb * KIB
    large = [picture for picture in pictures if not 0 < picture.size_bytes < small_below]
    candidates = _best(policy, large or pictures)  # if all pictures are small, some of them are kept
    kept = candidates[:cap]
    reason = "sampling_applied" if len(candidates) > cap else "small_images_filtered"
    stays = Check("sampling", f"kept, {len(kept)} of {len(pictures)} images", details={"sampling": reason})
    counts = {"images": len(pictures), "per_post_max_images": cap}
    ranked = Check("sampling", f"at most {cap} images, others are preferred", "sampling_applied", counts)
    small = Check("sampling", f"more than {cap} images, this is a small one", "small_images_filtered", counts)
    return {
        **{picture.sha256: small for picture in pictures},
        **{picture.sha256: ranked for picture in candidates},
        **{picture.sha256: stays for picture in kept},
    }


def _why_not_sampled(policy: Policy, pictures: int, context: Context) -> Check | None:
    cap, threshold = policy.sampling.per_post_max_images, policy.budget_gates.sampling_threshold_per_day
    if cap is None:
        return Check("sampling", "per_post_max_images is not set", details={"sampling": "sampling_disabled"})
    if pictures <= cap:
        return Check("sampling", f"{pictures} of at most {cap} images", details={"sampling": "within_limit"})
    if threshold is not None and context.spent_today is not None and context.spent_today < threshold:
        text = f"{context.spent_today} tokens spent today, sampling starts at {threshold}"
        return Check("sampling", text, details={"sampling": "sampling_disabled"})
    return None


def _best(policy: Policy, pictures: Sequence[Medium]) -> list[Medium]:
    """The pictures, best first: those marked as having text, if preferred; then the largest; then the first listed."""
    preferred = policy.sampling.prefer_with_text_overlay
    return sorted(pictures, key=lambda picture: (not (preferred and _has_text(picture)), -picture.size_bytes))


def _has_text(medium: Medium) -> bool:
    hints = (getattr(medium, name, None) for name in ("has_text_overlay", "text_overlay", "has_text"))
    return any(hint is True or str(hint).lower() in ("true", "1", "yes") for hint in hints)


# --- OCR --------------------------------------------------------------------------------------------------------------


def _ocr(policy: Policy, medium: Medium) -> Check:
    when = []
    if policy.ocr_at_exhaustion:
        when.append("the budget is exhausted")
    if policy.ocr_for_mime(medium.mime_type):
        when.append("the model does not support this type")
    return Check("ocr", f"may stand in when {' or '.join(when)}" if when else "may not stand in")
