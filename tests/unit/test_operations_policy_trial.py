"""Another policy tried on recorded inputs: what changes, and what it would cost at most."""

from __future__ import annotations

from tests.samples import AT
from vision_app.domain.policy import Policy, load_policy
from vision_app.messages import Medium, Uploaded
from vision_app.operations.policy_trial import compare
from vision_app.providers.pictures import estimate_tokens
from vision_app.settings import load_settings
from vision_app.stores.policy_file import default_policy_path

SETTINGS = load_settings()
SHIPPED = default_policy_path().read_text("utf-8")
NOW = load_policy(SHIPPED, "now")


def event(post: str, *media: Medium, tenant: str = "t", channel: str = "@cats") -> Uploaded:
    return Uploaded(
        tenant_id=tenant,
        post_id=post,
        trace_id="x",
        occurred_at=AT,
        idempotency_key="k",
        channel_id=channel,
        media_files=list(media),
    )


def jpeg(sha256: str, size_bytes: int = 100_000) -> Medium:
    return Medium(sha256=sha256, s3_key="k", mime_type="image/jpeg", size_bytes=size_bytes)


def smaller_limit() -> Policy:
    changed = SHIPPED.replace("max_image_mb: 15", "max_image_mb: 1")
    assert changed != SHIPPED
    return load_policy(changed, "then")


def test_the_same_policy_changes_nothing() -> None:
    trial = compare([event("1", jpeg("a"), jpeg("b"))], NOW, NOW, SETTINGS)
    assert (trial.posts, trial.media, trial.changed) == (1, 2, {})
    assert trial.tokens_now == trial.tokens_then == 2 * estimate_tokens(100_000, "image/jpeg", SETTINGS)


def test_what_would_be_left_out_is_named_by_its_rule_and_saves_its_tokens() -> None:
    big = jpeg("big", 2 * 1024 * 1024)
    trial = compare([event("1", jpeg("a"), big)], NOW, smaller_limit(), SETTINGS)
    assert trial.changed == {("analyze", "image_too_large"): 1}
    assert trial.tokens_now - trial.tokens_then == estimate_tokens(big.size_bytes, "image/jpeg", SETTINGS)
    back = compare([event("1", jpeg("a"), big)], smaller_limit(), NOW, SETTINGS)
    assert back.changed == {("image_too_large", "analyze"): 1}


def test_a_picture_is_priced_once_per_tenant() -> None:
    events = [event("1", jpeg("a")), event("2", jpeg("a")), event("3", jpeg("a"), tenant="other")]
    assert compare(events, NOW, NOW, SETTINGS).tokens_now == 2 * estimate_tokens(100_000, "image/jpeg", SETTINGS)
