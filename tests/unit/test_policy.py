"""The policy's rules, one by one and together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_app.domain.policy import Context, Policy, decide, decision_labels, explain
from vision_app.domain.policy_model import MIB, PromptKey
from vision_app.messages import Medium, PolicyVerdict, Uploaded
from vision_app.prompts import PROMPT_KEYS

MIMES = {"images": ["image/jpeg", "image/png", "image/tiff"], "documents": ["application/pdf", "text/plain"]}


def policy(**sections: Any) -> Policy:
    return Policy.model_validate({"allowed_mime_types": MIMES, **sections})


def medium(sha256: str = "a", mime_type: str = "image/jpeg", size_bytes: int = 100_000, **extra: Any) -> Medium:
    return Medium(sha256=sha256, mime_type=mime_type, size_bytes=size_bytes, **extra)


def post(*media: Medium, **extra: Any) -> Uploaded:
    required = {"trace_id": "t", "idempotency_key": "k", "tenant_id": "t1", "post_id": "p1"}
    return Uploaded(
        **{**required, "occurred_at": datetime(2026, 1, 1, tzinfo=UTC), "media_files": list(media), **extra}
    )


def verdicts(rules: Policy, event: Uploaded, **context: Any) -> list[PolicyVerdict]:
    return decide(rules, event, context=Context(**context))


def outcome(rules: Policy, event: Uploaded, **context: Any) -> list[str]:
    """The reason per medium: of the rule that rejected it, or of its acceptance."""
    return [verdict.details.get("policy_name", verdict.reason) for verdict in verdicts(rules, event, **context)]


def sampled(rules: Policy, *media: Medium, **context: Any) -> list[str]:
    """Per medium its sampling reason; with a `-` before it if the medium was left out."""
    return [
        verdict.details["sampling"] if verdict.analyze else f"-{verdict.details['policy_name']}"
        for verdict in verdicts(rules, post(*media), **context)
    ]


# --- rules about one medium


def test_a_listed_medium_passes() -> None:
    [verdict] = verdicts(policy(), post(medium()))
    assert verdict == PolicyVerdict(
        analyze=True, reason="policy_passed", details={"sampling": "sampling_disabled"}, prompt_key="default"
    )


def test_a_refused_medium_says_which_rule_and_what_it_was() -> None:
    [verdict] = verdicts(policy(), post(medium(mime_type="image/webp", size_bytes=7)))
    assert not verdict.analyze
    assert verdict.reason == "policy"
    assert verdict.details == {"policy_name": "unsupported_mime", "mime_type": "image/webp", "size_bytes": 7}


@pytest.mark.parametrize("mime", ["IMAGE/JPEG", "image/jpeg; q=1", " image/Jpeg "])
def test_mime_types_are_compared_without_case_and_parameters(mime: str) -> None:
    assert outcome(policy(), post(medium(mime_type=mime))) == ["policy_passed"]


@pytest.mark.parametrize(
    ("mime", "size", "expected"),
    [
        ("image/jpeg", 15 * MIB, "policy_passed"),
        ("image/jpeg", 15 * MIB + 1, "image_too_large"),
        ("image/jpeg", 0, "policy_passed"),
        ("application/pdf", 40 * MIB, "policy_passed"),
        ("application/pdf", 40 * MIB + 1, "document_too_large"),
        ("text/plain", 15 * MIB + 1, "policy_passed"),
        ("text/plain", 40 * MIB + 1, "document_too_large"),
    ],
)
def test_only_more_than_the_limit_is_too_large(mime: str, size: int, expected: str) -> None:
    assert outcome(policy(), post(medium(mime_type=mime, size_bytes=size))) == [expected]


@pytest.mark.parametrize("listed", ["@large_memes_dump", "Large_Memes_Dump"])
@pytest.mark.parametrize("field", ["channel_id", "channel_username", "channel"])
@pytest.mark.parametrize("name", ["large_memes_dump", "@LARGE_memes_dump"])
def test_a_channel_is_skipped_with_or_without_at_sign(listed: str, field: str, name: str) -> None:
    rules = policy(routing={"skip_if_channel": [listed]})
    assert outcome(rules, post(medium(), **{field: name})) == ["channel_skipped"]
    assert outcome(rules, post(medium(), **{field: name + "2"})) == ["policy_passed"]


def test_a_channel_can_be_listed_by_its_number() -> None:
    rules = policy(routing={"skip_if_channel": [-100123]})
    assert outcome(rules, post(medium(), channel_id="-100123")) == ["channel_skipped"]


@pytest.mark.parametrize("field", ["language", "lang"])
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ru", "policy_passed"),
        ("EN-us", "policy_passed"),
        ("en_GB", "policy_passed"),
        ("de", "language_skipped"),
        ("und", "policy_passed"),
        ("", "policy_passed"),
    ],
)
def test_a_post_in_another_language_is_skipped(field: str, code: str, expected: str) -> None:
    rules = policy(routing={"skip_if_lang_not_in": ["ru", "en"]})
    assert outcome(rules, post(medium(), **{field: code})) == [expected]


def test_no_language_in_the_event_or_the_policy_means_any() -> None:
    rules = policy(routing={"skip_if_lang_not_in": ["ru"]})
    assert outcome(rules, post(medium())) == ["policy_passed"]
    assert outcome(policy(), post(medium(), language="de")) == ["policy_passed"]


def test_a_post_that_needs_no_vision_is_skipped_whole() -> None:
    event = post(medium("a"), medium("b", mime_type="video/mp4"), requires_vision=False)
    assert outcome(policy(), event) == ["not_required", "not_required"]


def test_the_first_rule_that_objects_gives_the_reason() -> None:
    rules = policy(routing={"skip_if_channel": ["c"], "skip_if_lang_not_in": ["ru"]})
    everything = {"channel": "c", "language": "de"}
    wrong = medium(mime_type="image/webp", size_bytes=99 * MIB)
    large = medium(size_bytes=99 * MIB)
    assert outcome(rules, post(wrong, **everything, requires_vision=False)) == ["not_required"]
    assert outcome(rules, post(wrong, **everything)) == ["unsupported_mime"]
    assert outcome(rules, post(large, **everything)) == ["image_too_large"]
    assert outcome(rules, post(medium(), **everything)) == ["channel_skipped"]
    assert outcome(rules, post(medium(), language="de")) == ["language_skipped"]


# --- OCR and prompts


@pytest.mark.parametrize(
    ("conditions", "fallback", "mime", "allowed"),
    [
        ([], True, "image/png", False),
        (["quota_exhausted"], False, "image/png", False),
        (["quota_exhausted"], True, "image/png", True),
        ([{"mime": ["image/PNG"]}], False, "image/png", True),
        ([{"mime": ["image/png"]}], False, "image/jpeg", False),
    ],
)
def test_when_ocr_may_stand_in(conditions: list[Any], fallback: bool, mime: str, allowed: bool) -> None:
    rules = policy(routing={"ocr_only_if": conditions}, budget_gates={"fallback_to_ocr_if_exhausted": fallback})
    [verdict] = verdicts(rules, post(medium(mime_type=mime)))
    assert verdict.analyze
    assert verdict.ocr_allowed is allowed


def test_an_exhausted_quota_is_the_reason_only_where_ocr_may_answer() -> None:
    open_ = policy(routing={"ocr_only_if": ["quota_exhausted"]}, budget_gates={"fallback_to_ocr_if_exhausted": True})
    assert outcome(open_, post(medium()), quota_exhausted=True) == ["quota_exhausted"]
    assert outcome(open_, post(medium())) == ["policy_passed"]
    assert outcome(policy(), post(medium()), quota_exhausted=True) == ["policy_passed"]


@pytest.mark.parametrize(
    ("mime", "key"), [("image/PNG", "screenshot"), ("image/tiff", "photo"), ("text/plain", "document")]
)
def test_the_prompt_follows_type_then_family_then_default(mime: str, key: str) -> None:
    presets = {"default": "document", "mime": {"image/png": "screenshot", "image/*": "photo"}}
    [verdict] = verdicts(policy(prompt_presets=presets), post(medium(mime_type=mime)))
    assert verdict.prompt_key == key


def test_the_policy_knows_exactly_the_prompts_there_are() -> None:
    assert set(get_args(PromptKey)) == set(PROMPT_KEYS)


# --- sampling


def two(**more: Any) -> Policy:
    return policy(sampling={"per_post_max_images": 2, **more})


def test_within_the_cap_everything_is_kept_small_ones_too() -> None:
    rules = two(skip_small_images_kb=10)
    assert sampled(rules, medium("a", size_bytes=5), medium("b")) == ["within_limit"] * 2


def test_over_the_cap_the_largest_are_kept_in_their_order() -> None:
    media = [medium("a", size_bytes=30), medium("b", size_bytes=10), medium("c", size_bytes=20)]
    assert sampled(two(), *media) == ["sampling_applied", "-sampling_applied", "sampling_applied"]


def test_over_the_cap_small_ones_go_first() -> None:
    media = [medium("a", size_bytes=5), medium("b"), medium("c")]
    kept = ["small_images_filtered"] * 2
    assert sampled(two(skip_small_images_kb=10), *media) == ["-small_images_filtered", *kept]
    assert sampled(two(skip_small_images_kb=10), *media, medium("d", size_bytes=99_999)) == [
        *["-small_images_filtered", "sampling_applied", "sampling_applied", "-sampling_applied"]
    ]


def test_a_picture_of_unknown_size_is_not_small_but_ranks_last() -> None:
    media = [medium("a", size_bytes=0), medium("b", size_bytes=5), medium("c")]
    assert sampled(two(skip_small_images_kb=10), *media) == [
        *["small_images_filtered", "-small_images_filtered", "small_images_filtered"]
    ]
    assert sampled(two(), *media)[0] == "-sampling_applied"


def test_a_post_of_small_pictures_only_is_not_emptied() -> None:
    media = [medium(name, size_bytes=size) for name, size in (("a", 1), ("b", 3), ("c", 2))]
    assert sampled(two(skip_small_images_kb=10), *media) == [
        *["-sampling_applied", "sampling_applied", "sampling_applied"]
    ]


@pytest.mark.parametrize("hint", [{"has_text_overlay": True}, {"text_overlay": "true"}, {"has_text": 1}])
def test_pictures_said_to_carry_text_are_preferred(hint: dict[str, Any]) -> None:
    media = [medium("a", size_bytes=30), medium("b", size_bytes=20), medium("c", size_bytes=10, **hint)]
    preferred = ["sampling_applied", "-sampling_applied", "sampling_applied"]
    assert sampled(two(prefer_with_text_overlay=True), *media) == preferred
    assert sampled(two(), *media)[2] == "-sampling_applied"


def test_equal_pictures_count_once_and_get_the_same_verdict() -> None:
    media = [medium("a"), medium("b", size_bytes=50_000), medium("a")]
    assert sampled(two(), *media) == ["within_limit"] * 3
    one = policy(sampling={"per_post_max_images": 1})
    assert sampled(one, *media) == ["sampling_applied", "-sampling_applied", "sampling_applied"]


def test_neither_documents_nor_refused_media_take_a_place() -> None:
    media = [medium("d", mime_type="application/pdf"), medium("w", mime_type="image/webp"), medium("a"), medium("b")]
    assert [verdict.analyze for verdict in verdicts(two(), post(*media))] == [True, False, True, True]


def test_below_the_day_threshold_nothing_is_left_out() -> None:
    rules = policy(sampling={"per_post_max_images": 1}, budget_gates={"sampling_threshold_per_day": 1000})
    media = [medium("a"), medium("b")]
    assert sampled(rules, *media, spent_today=999) == ["sampling_disabled"] * 2
    assert sampled(rules, *media, spent_today=1000) == ["sampling_applied", "-sampling_applied"]
    assert sampled(rules, *media) == ["sampling_applied", "-sampling_applied"]  # not known: the stricter rule


# --- explaining and counting


def test_explain_tells_also_the_rules_after_the_deciding_one() -> None:
    [explanation] = explain(policy(), post(medium(mime_type="image/webp", size_bytes=99 * MIB)))
    assert [check.rule for check in explanation.checks] == ["required", "mime_type", "size", "channel", "language"]
    assert [check.policy_name for check in explanation.checks if check.policy_name] == [
        *["unsupported_mime", "image_too_large"]
    ]


@pytest.mark.parametrize(
    ("event", "labels"),
    [
        (post(medium()), ("allow", "policy_passed")),
        (post(medium(mime_type="video/mp4")), ("deny", "unsupported_mime")),
        (post(medium(size_bytes=99 * MIB)), ("deny", "file_too_large")),
        (post(medium(), channel="c"), ("skip", "channel")),
        (post(medium(), lang="de"), ("skip", "language")),
        (post(medium(), requires_vision=False), ("skip", "not_required")),
    ],
)
def test_verdicts_are_counted_under_the_known_labels(event: Uploaded, labels: tuple[str, str]) -> None:
    rules = policy(routing={"skip_if_channel": ["c"], "skip_if_lang_not_in": ["ru"]})
    assert decision_labels(verdicts(rules, event)[0]) == labels


# --- properties

media_lists = st.lists(
    st.builds(
        medium,
        sha256=st.sampled_from("abcdefgh"),
        mime_type=st.sampled_from(["image/jpeg", "IMAGE/PNG", "image/webp", "application/pdf", ""]),
        size_bytes=st.sampled_from([0, 1, 9_999, 20_000, 30_000, 99 * MIB]),
        has_text_overlay=st.booleans(),
    ),
    max_size=14,
)
policies = st.builds(
    lambda cap, small, prefer: policy(
        sampling={"per_post_max_images": cap, "skip_small_images_kb": small, "prefer_with_text_overlay": prefer}
    ),
    st.none() | st.integers(1, 5),
    st.sampled_from([0, 10, 25]),
    st.booleans(),
)


@given(policies, media_lists)
def test_one_verdict_per_medium_always_the_same_and_as_explained(rules: Policy, media: list[Medium]) -> None:
    event = post(*media)
    found = verdicts(rules, event)
    assert len(found) == len(media)
    assert found == verdicts(rules, event) == [explanation.verdict for explanation in explain(rules, event)]
    assert [explanation.medium for explanation in explain(rules, event)] == media
    assert all(verdict.analyze or verdict.details["policy_name"] for verdict in found)


@given(policies, media_lists)
def test_the_cap_holds_and_sampling_never_empties_a_post(rules: Policy, media: list[Medium]) -> None:
    found = verdicts(rules, post(*media))
    pairs = list(zip(media, found, strict=True))
    kept = {m.sha256 for m, v in pairs if v.analyze and m.mime_type != "application/pdf"}
    dropped = {
        m.sha256 for m, v in pairs if v.details.get("policy_name") in ("sampling_applied", "small_images_filtered")
    }
    cap = rules.sampling.per_post_max_images
    assert cap is None or len(kept) <= cap
    assert not dropped or (kept and cap is not None and len(kept | dropped) > cap)
    assert not kept & dropped
