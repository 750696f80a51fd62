"""Faults of a policy file are named by line and key; the shipped file has none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_app.domain.policy import Policy, PolicyError, load_policy

SHIPPED = Path(__file__).parents[2] / "config" / "vision_policy.yml"

LEAST = "allowed_mime_types:\n  images: [image/png]\n"


def faults(text: str) -> list[str]:
    with pytest.raises(PolicyError) as raised:
        load_policy(text, "p.yml")
    return str(raised.value).splitlines()


def test_the_shipped_policy_is_as_agreed() -> None:
    policy = load_policy(SHIPPED.read_text("utf-8"), "vision_policy.yml")
    assert policy.notes() == []
    assert policy.limits.max_image_mb == 15
    assert policy.limits.max_document_mb == 40
    assert policy.sampling.per_post_max_images == 10  # a whole album of Telegram is analyzed
    assert policy.ocr_at_exhaustion
    assert policy.ocr_for_mime("image/jpeg")
    assert not policy.ocr_for_mime("image/tiff")
    assert not policy.allows("image/webp")
    assert not policy.allows("image/gif")
    assert policy.prompt_key("image/png") == "screenshot"


def test_sections_left_out_mean_no_such_rule() -> None:
    policy = load_policy(LEAST, "p.yml")
    assert policy.sampling.per_post_max_images is None
    assert policy.routing.skip_if_channel == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limits:\n  max_image_mb: 0\n", "p.yml:4: limits.max_image_mb: must be greater than 0"),
        ("limits:\n  max_imge_mb: 3\n", "p.yml:4: limits.max_imge_mb: unknown key; did you mean max_image_mb?"),
        ("zzz: 3\n", "p.yml:3: zzz: unknown key; remove it"),
        ("limits: {}\nlimits: {}\n", "p.yml:4: limits: given twice, first in line 3"),
        ("limits:\n  max_image_mb: '7'\n", "p.yml:4: limits.max_image_mb: must be a valid number"),
        ("sampling:\n  per_post_max_images: 0\n", "p.yml:4: sampling.per_post_max_images: must be greater than 0"),
        (
            "budget_gates:\n\n  check_before_analysis: false\n",
            "p.yml:5: budget_gates.check_before_analysis: must be true: nothing is spent unchecked; "
            "to allow more, raise VISION_MAX_DAILY_TOKENS",
        ),
        (
            "routing:\n  ocr_only_if:\n  - quota_exhausted\n  - quota\n",
            "p.yml:6: routing.ocr_only_if.1: must be 'quota_exhausted'",
        ),
        ("routing:\n  ocr_only_if:\n  - mime: a\n", "p.yml:5: routing.ocr_only_if.0.mime: must be a valid list"),
        (
            "routing:\n  skip_if_lang_not_in:\n  - ru\n  - no\n",
            "p.yml:6: routing.skip_if_lang_not_in.1: must be a valid string; put it in quotes, "
            "since YAML reads a bare yes, no, on or off as true or false",
        ),
        (
            "prompt_presets: {default: picture}\n",
            "p.yml:3: prompt_presets.default: must be 'default', 'photo', 'screenshot' or 'document'",
        ),
    ],
)
def test_a_fault_names_line_and_key(text: str, expected: str) -> None:
    assert faults(LEAST + text) == [expected]


def test_all_faults_are_named_in_the_order_of_the_file() -> None:
    found = faults("fallback: {ocr_engine: x}\nlimits:\n  max_image_mb: -1\nsampling: 3\n")
    assert [line.split(":")[1] for line in found] == ["1", "1", "3", "4"]
    assert found[0] == "p.yml:1: allowed_mime_types: is missing"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "p.yml:1: the file is empty"),
        ("# nothing\n", "p.yml:1: the file is empty"),
        ("- a\n", "p.yml:1: the file is not a mapping"),
        ("a: 1\nb: [1,\nc: 2\n", "p.yml:4: not YAML: while parsing a flow sequence (line 2), expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", "p.yml:2: not YAML:"),
        ("a: 1\nb: \x00\n", "p.yml:2: not YAML:"),
        ("a: 1\nb: !!python/name:os.system x\n", "p.yml:2: not YAML:"),
        ("a: 2026-13-45\n", "p.yml:1: not YAML:"),
        ("a: 1\n---\nb: 1\n", "p.yml:2: not YAML:"),
    ],
)
def test_what_is_no_yaml_mapping_is_refused_with_its_line(text: str, start: str) -> None:
    [line] = faults(text)
    assert line.startswith(start)


LAUGHS = "l0: &l0 [a, b]\n" + "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 12))
MERGES = "m0: &m0 {a: 1}\n" + "".join(f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}]}}\n" for n in range(1, 40))
KEYS = "k0: &k0 [a]\n" + "".join(f"k{n}: &k{n} {{? [{', '.join([f'*k{n - 1}'] * 9)}] : 1}}\n" for n in range(1, 9))


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (LAUGHS, "p.yml:12: l9: more than 10000 values when its aliases (*name) are written out"),
        (MERGES, "p.yml:"),
        (KEYS, "p.yml:"),
        ("a: &x [*x]\n", "p.yml:3: a: more than 10000 values"),
        ("a: &x [*x, *x, *x, *x, *x, *x, *x, *x, *x]\n", "p.yml:3: a: more than 10000 values"),
        ("a: &x {b: *x}\n", "p.yml:3: a: more than 10000 values"),
    ],
)
def test_aliases_that_stand_for_too_much_are_refused_without_writing_them_out(text: str, start: str) -> None:
    """Expanded, these have more values than memory and time allow."""
    [line] = faults(LEAST + text)
    assert line.startswith(start)
    assert "more than 10000 values" in line


def test_a_usual_alias_is_allowed() -> None:
    text = "x: &types [image/png]\n"
    assert faults(LEAST + text) == ["p.yml:3: x: unknown key; remove it"]
    policy = load_policy(LEAST.replace("[", "&types [") + "  documents: *types\n", "p.yml")
    assert policy.allowed_mime_types.documents == policy.allowed_mime_types.images


def test_a_file_that_is_no_policy_by_its_size_is_refused_unread() -> None:
    text = LEAST + "#" * 64 * 1024
    assert faults(text) == ["p.yml: is larger than 65536 bytes; a policy of that size is no policy: shorten its lists"]


def test_of_very_many_faults_the_first_are_reported() -> None:
    told = faults(LEAST + "".join(f"key{n}: 1\n" for n in range(2000)))
    assert len(told) == 51
    assert "and 1950 more faults" in told[-1]


def test_keys_of_the_assistants_own_file_without_effect_are_noted() -> None:
    text = "limits: {max_queue_depth: 5, max_concurrent_requests: 3, max_daily_tokens_per_tenant: 1}\n"
    policy = load_policy(LEAST + text + "fallback: {ocr_engine: paddle, openrouter_model: m}\n", "p.yml")
    assert [note.partition(":")[0] for note in policy.notes()] == [
        "limits.max_daily_tokens_per_tenant",
        "limits.max_concurrent_requests",
        "limits.max_queue_depth",
        "fallback.ocr_engine",
        "fallback.openrouter_model",
    ]


@given(st.text(alphabet="ab:-[]{}&*!'\"#|>% \n\t0,?@", max_size=60))
def test_any_text_gives_a_policy_or_faults_with_lines(text: str) -> None:
    for body in (text, LEAST + text):
        try:
            assert isinstance(load_policy(body, "p.yml"), Policy)
        except PolicyError as fault:
            for line in str(fault).splitlines():
                assert line.split(":")[1].isdigit(), line
