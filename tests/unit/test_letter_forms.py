"""For any event, its letter has a form that fits and says where the whole is."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision_app.messages import DeadLetter, Failed, MediaOutcome, Release
from vision_app.streams.letter_forms import (
    CUT_BYTES,
    CUT_HEADER,
    ID_BYTES,
    PLACE_BYTES,
    SHA256_HEADER,
    SIZES_HEADER,
    WHOLE_HEADER,
    cut,
    place,
    shortened,
    smaller,
)
from vision_app.streams.outbox import headers_for
from vision_app.topics import routes

TEXTS = st.builds(
    lambda unit, times: unit * times,
    st.one_of(st.text(min_size=1, max_size=3), st.sampled_from(["\x01", '"', "\\", "я", "💥", "\u2028", "x"])),
    st.sampled_from([0, 1, 1_000, 300_000]),
)
LETTERS = st.builds(
    DeadLetter,
    id=TEXTS,
    origin=TEXTS,
    partition=st.none() | st.integers(0, 2**64),
    offset=st.none() | TEXTS,
    key=st.none() | TEXTS,
    value=TEXTS,
    headers=st.dictionaries(TEXTS, TEXTS, max_size=40),
    error=TEXTS,
    reason=TEXTS,
    tenant_id=st.none() | TEXTS,
    post_id=st.none() | TEXTS,
    trace_id=st.none() | TEXTS,
    first_seen_ms=st.integers(0, 2**64),
    last_seen_ms=st.integers(0, 2**64),
    code_version=st.just("1"),
)


def record_bytes(letter: DeadLetter) -> int:
    """The record as Kafka takes it: key, value and headers."""
    [(_, key)] = routes(letter)
    return len(key) + len(letter.encode()) + sum(len(name) + len(text) for name, text in headers_for(letter).items())


@settings(max_examples=60, deadline=None)
@given(LETTERS, st.none() | TEXTS)
def test_every_letter_has_a_form_of_each_size(letter: DeadLetter, whole_at: str | None) -> None:
    assert record_bytes(cut(letter, whole_at)) <= CUT_BYTES
    assert record_bytes(place(letter, whole_at)) <= PLACE_BYTES
    assert place(letter).headers[SHA256_HEADER] == hashlib.sha256((letter.value or "").encode()).hexdigest()


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=50), st.sampled_from([1, 40_000]))
def test_bytes_that_are_no_text_are_bounded_too(value: bytes, times: int) -> None:
    whole = value * times
    letter = ordinary(value=None, value_base64=base64.b64encode(whole).decode())
    assert record_bytes(cut(letter)) <= CUT_BYTES
    assert record_bytes(place(letter)) <= PLACE_BYTES
    assert cut(letter).headers[SHA256_HEADER] == hashlib.sha256(whole).hexdigest()


def ordinary(**fields: Any) -> DeadLetter:
    given_fields: dict[str, Any] = {
        "id": "vision.media-3-41",
        "origin": "vision.media",
        "partition": 3,
        "offset": "41",
        "key": "t:ab",
        "value": "{}",
        "error": "Oversized",
        "reason": "too large",
        "tenant_id": "т" * 256,
        "post_id": "💥" * 256,
        "trace_id": "tr",
        "first_seen_ms": 1,
        "last_seen_ms": 2,
        "code_version": "1",
    }
    return DeadLetter(**{**given_fields, **fields})


def test_a_cut_letter_says_what_is_missing_and_where_it_is() -> None:
    whole = "x" * 2_000_000
    letter = cut(ordinary(value=whole, trace_id="y" * 5_000), "s3://bucket/dead-letters/one.json")
    assert letter.headers[CUT_HEADER] == "2000000"
    assert letter.headers[SHA256_HEADER] == hashlib.sha256(whole.encode()).hexdigest()
    assert "value=2000000" in letter.headers[SIZES_HEADER]
    assert "trace_id=5000" in letter.headers[SIZES_HEADER]
    assert letter.headers[WHOLE_HEADER] == "s3://bucket/dead-letters/one.json"
    assert letter.reason == "too large; too large to be kept here, read the whole at s3://bucket/dead-letters/one.json"
    assert letter.value == "x" * 100_000


@pytest.mark.parametrize("form", [cut, place])
def test_ids_that_the_way_in_takes_are_kept_whole_in_every_form(form: Any) -> None:
    letter = ordinary()
    less = form(letter)
    names = ("id", "origin", "partition", "offset", "key", "error", "tenant_id", "post_id", "trace_id")
    assert {name: getattr(less, name) for name in names} == {name: getattr(letter, name) for name in names}


@given(TEXTS, st.integers(0, 3000))
def test_a_shortened_text_is_a_start_of_it_and_fits(text: str, most: int) -> None:
    short = shortened(text, most)
    assert text.startswith(short)
    assert len(short.encode()) <= most
    if len(text) * 6 <= most:
        assert short == text


def test_an_outcome_is_shortened_by_its_optional_parts() -> None:
    outcome = MediaOutcome(
        tenant_id="t",
        post_id="p",
        trace_id="x" * 2_000_000,
        sha256="ab",
        dispatch=3,
        outcome=Failed(reason="exception", details={"error": "y" * 100_000}, dead_letter_id="vision.media-3-41"),
    )
    less = smaller(outcome)
    assert isinstance(less, MediaOutcome)
    assert len(less.encode()) < 2 * ID_BYTES
    assert (less.tenant_id, less.post_id, less.sha256, less.dispatch) == ("t", "p", "ab", 3)
    assert isinstance(less.outcome, Failed)
    assert less.outcome.dead_letter_id == "vision.media-3-41"
    assert smaller(Release(tenant_id="t", grant_id="g")) is None
