"""The tolerant reader of uploaded posts: shapes, tolerances, refusals. Announcements are tested elsewhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.samples import WIRE_EVENT
from vision_app.events import LIMITS, MAX_MEDIA, MEDIUM_LIMITS, Unreadable, read_entry, read_json, redis_fields
from vision_app.messages import Uploaded

SHA = "4e5b10df" * 8
MEDIUM: dict[str, Any] = {
    "sha256": SHA,
    "s3_key": "media/t/4e.png",
    "mime_type": "image/png",
    "size_bytes": 67,
    "telegram_file_id": "AgAC",
    "position": 1,
    "role": "primary",
}
EVENT: dict[str, Any] = {**WIRE_EVENT, "media_files": [MEDIUM]}


def per_key(event: dict[str, Any]) -> dict[str, str]:
    """Shape C: one field per top-level key."""
    plain = {name: value if isinstance(value, str) else json.dumps(value) for name, value in event.items()}
    return {**plain, "requires_vision": "true"}


def shapes(event: dict[str, Any]) -> dict[str, dict[str, str]]:
    body = json.dumps(event)
    return {
        "A": {"event": "posts.vision.uploaded", "data": body},
        "B": {"data": body},
        "C": per_key(event),
        "D": {"payload": body},
        "low priority": {"data": body, "priority": "low", "reason": "budget", "retry_count": "1"},
    }


def read(event: dict[str, Any], *, tenant: str = "default", entry_id: str | None = "1763812800000-0") -> Uploaded:
    return read_entry({"data": json.dumps(event)}, default_tenant=tenant, entry_id=entry_id)


def without(*names: str, **changed: Any) -> dict[str, Any]:
    return {name: value for name, value in {**EVENT, **changed}.items() if name not in names}


@pytest.mark.parametrize("shape", shapes(EVENT))
@pytest.mark.parametrize("raw", [False, True], ids=["str", "bytes"])
def test_every_shape_is_read_the_same(shape: str, raw: bool) -> None:
    fields: dict[Any, Any] = dict(shapes(EVENT)[shape])
    if raw:
        fields = {name.encode(): value.encode() for name, value in fields.items()}
    read_back = read_entry(fields, default_tenant="default")
    assert read_back == read(EVENT)
    assert read_back.trace_id == "t-1001"
    assert read_back.requires_vision is True
    assert read_back.media_files[0].model_dump() == MEDIUM
    assert read_back.model_extra == {"producer": "telethon-ingest"}


@pytest.mark.parametrize("version", ["v1", "1", "1.0", 1, 1.0, None, ""])
def test_every_known_schema_version_becomes_1_0(version: Any) -> None:
    assert read({**EVENT, "schema_version": version}).schema_version == "1.0"
    assert read(without("schema_version")).schema_version == "1.0"


def test_unknown_fields_of_event_and_media_are_kept() -> None:
    read_back = read({**EVENT, "album": {"id": 7}, "media_files": [{**MEDIUM, "width": 640}]})
    assert read_back.model_extra == {"producer": "telethon-ingest", "album": {"id": 7}}
    assert read_back.media_files[0].model_extra == {"width": 640}


def test_media_is_another_name_of_media_files() -> None:
    for event in (without("media_files", media=[MEDIUM]), without(media_files=None, media=[MEDIUM])):
        read_back = read(event)
        assert [medium.sha256 for medium in read_back.media_files] == [SHA]
        assert "media" not in (read_back.model_extra or {})


def test_a_post_may_have_no_media() -> None:
    assert read({**EVENT, "media_files": []}).media_files == []


@pytest.mark.parametrize("tenant", [None, "", "  "])
def test_without_a_tenant_it_is_the_default_one(tenant: Any) -> None:
    assert read({**EVENT, "tenant_id": tenant}).tenant_id == "default"
    assert read(without("tenant_id")).tenant_id == "default"


@pytest.mark.parametrize("tenant", [{"id": 5}, ["t"], True, 1.5, "a\x00b"])
def test_a_broken_tenant_is_not_taken_for_the_default_one(tenant: Any) -> None:
    with pytest.raises(Unreadable, match="tenant_id"):
        read({**EVENT, "tenant_id": tenant})


def test_ids_are_kept_exactly_as_received() -> None:
    odd = {"post_id": " album:1 ", "trace_id": '["a"]', "channel_id": "[1]"}
    read_back = read_entry(per_key({**EVENT, **odd}), default_tenant="default")
    assert {name: getattr(read_back, name) for name in odd} == odd


def test_numbers_as_ids_become_text() -> None:
    read_back = read({**EVENT, "tenant_id": 7, "post_id": -100, "channel_id": -100200})
    assert (read_back.tenant_id, read_back.post_id, read_back.channel_id) == ("7", "-100", "-100200")


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [("true", True), ("True", True), ("1", True), (1, True), ("false", False), (0, False), ("no", False), ("?", True)],
)
def test_booleans_in_any_notation(given_value: Any, expected: bool) -> None:
    assert read({**EVENT, "requires_vision": given_value}).requires_vision is expected


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [("67", 67), (67.0, 67), (None, 0), (-5, 0), ("many", 0), ("9" * 30, 0), (10**30, 0)],
)
def test_sizes_in_any_notation(given_value: Any, expected: int) -> None:
    assert read({**EVENT, "media_files": [{**MEDIUM, "size_bytes": given_value}]}).media_files[0].size_bytes == expected


def test_media_as_strings_of_json_and_hashes_in_capitals() -> None:
    listed = json.dumps([json.dumps({**MEDIUM, "sha256": SHA.upper()})])
    assert read({**EVENT, "media_files": listed}).media_files[0].sha256 == SHA


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (without(), "2026-11-22T12:00:00+00:00"),
        (without("occurred_at"), "2026-11-22T11:59:00+00:00"),
        (without("occurred_at", "uploaded_at", timestamp="2026-11-22T10:00:00Z"), "2026-11-22T10:00:00+00:00"),
        (without("occurred_at", "uploaded_at", timestamp=1795341600), "2026-11-22T10:00:00+00:00"),
        (without("uploaded_at", occurred_at="2026-11-22T12:00:00"), "2026-11-22T12:00:00+00:00"),
        (without("uploaded_at", occurred_at="yesterday"), "2025-11-22T12:00:00+00:00"),
    ],
)
def test_the_time_falls_back_to_what_there_is(event: dict[str, Any], expected: str) -> None:
    assert read(event).occurred_at == datetime.fromisoformat(expected)


@pytest.mark.parametrize("entry_id", [None, "", "18446744073709551615-0", "²-0", "x"])
def test_without_any_time_it_is_the_epoch(entry_id: str | None) -> None:
    event = without("occurred_at", "uploaded_at")
    assert read(event, entry_id=entry_id).occurred_at == datetime.fromtimestamp(0, UTC)


def test_derived_ids_are_the_same_when_the_entry_is_read_again() -> None:
    bare = without("trace_id", "idempotency_key")
    first, again, other = read(bare), read(bare), read(bare, entry_id="2-0")
    assert first == again
    assert first.idempotency_key == "t:p-1001:vision_upload"
    assert first.trace_id != other.trace_id
    assert len(first.trace_id) == 32


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "post_id is missing"),
        ({"data": "{"}, "not JSON"),
        ({"data": "[1]"}, "holds list, not a JSON object"),
        ({"event": "posts.vision.analyzed", "data": json.dumps(without("event_type"))}, "event_type is"),
        ({**per_key(without("event_type")), "event": "posts.vision.analyzed"}, "event_type is"),
        ({"data": json.dumps({**EVENT, "schema_version": "2.0"})}, "schema_version is '2.0'"),
        ({"data": json.dumps(without("post_id"))}, "post_id is missing"),
        ({"data": json.dumps({**EVENT, "post_id": "p\n"})}, "post_id is missing"),
        ({"data": json.dumps({**EVENT, "post_id": "p" * 257})}, "post_id: "),
        ({"data": json.dumps(without("media_files"))}, "media_files is missing"),
        ({"data": json.dumps({**EVENT, "media_files": "x"})}, "not a list"),
        ({"data": json.dumps({**EVENT, "media_files": ["x"]})}, r"media_files\[0\] is not an object"),
        ({"data": json.dumps({**EVENT, "media_files": [MEDIUM, {}]})}, r"media_files\[1\].sha256 is missing"),
        ({"data": json.dumps({**EVENT, "media_files": [{"sha256": "x" * 129}]})}, r"media_files\[0\].sha256: "),
    ],
)
def test_an_unreadable_entry_says_what_is_wrong(fields: dict[str, str], text: str) -> None:
    with pytest.raises(Unreadable, match=text):
        read_entry(fields, default_tenant="default")


@pytest.mark.parametrize("name", [name for name in LIMITS if name not in ("source_stream", "source_entry_id")])
def test_a_field_that_travels_has_a_largest_size(name: str) -> None:
    longest = {name: "й" * LIMITS[name]}
    assert getattr(read({**EVENT, **longest}), name) == longest[name]
    with pytest.raises(Unreadable, match=rf"{name}: .*(at most {LIMITS[name]} are taken: shorten it|missing)"):
        read({**EVENT, name: "й" * (LIMITS[name] + 1)})


@pytest.mark.parametrize("name", MEDIUM_LIMITS)
def test_a_field_of_a_medium_has_a_largest_size(name: str) -> None:
    longest = "x" * MEDIUM_LIMITS[name]
    assert getattr(read({**EVENT, "media_files": [{**MEDIUM, name: longest}]}).media_files[0], name) == longest
    with pytest.raises(Unreadable, match=rf"media_files\[1\]\.{name}: \d+ characters; at most {MEDIUM_LIMITS[name]} "):
        read({**EVENT, "media_files": [MEDIUM, {**MEDIUM, name: longest + "x"}]})


def test_a_post_has_a_largest_number_of_media() -> None:
    assert len(read({**EVENT, "media_files": [MEDIUM] * MAX_MEDIA}).media_files) == MAX_MEDIA
    with pytest.raises(Unreadable, match=f"lists {MAX_MEDIA + 1} media; at most {MAX_MEDIA} are taken"):
        read({**EVENT, "media_files": [MEDIUM] * (MAX_MEDIA + 1)})


@pytest.mark.parametrize("size", [1_000_000, 2_200_000])
@pytest.mark.parametrize("name", ["trace_id", "tenant_id", "post_id", "channel_id", "idempotency_key"])
def test_ids_of_megabytes_are_refused_with_a_short_text(name: str, size: int) -> None:
    for shape in shapes({**EVENT, name: "x" * size}).values():
        with pytest.raises(Unreadable, match=f"{name}: {size} characters") as refused:
            read_entry(shape, default_tenant="default")
        assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        ("2026-11-22T12:00:00+16:00", "2026-11-21T20:00:00+00:00"),
        ("2026-11-22T12:00:00-23:59", "2026-11-23T11:59:00+00:00"),
        ("2026-11-22T12:00:00+03:00:07", "2026-11-22T08:59:53+00:00"),
        ("2026-11-22T12:00:00+15:59", "2026-11-22T12:00:00+15:59"),
        ("2026-11-22T12:00:00+03:00", "2026-11-22T12:00:00+03:00"),
        ("9999-12-31T23:59:59-12:00", "2026-11-22T11:59:00+00:00"),
        ("0001-01-01T00:00:00+14:00", "2026-11-22T11:59:00+00:00"),
        ("9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59+00:00"),
    ],
)
def test_a_time_that_postgres_or_python_does_not_take_is_given_in_utc_or_is_none(
    given_value: str, expected: str
) -> None:
    """None falls back to the time of the upload."""
    read_back = read({**EVENT, "occurred_at": given_value})
    assert read_back.occurred_at.isoformat() == expected
    assert read_back.occurred_at.astimezone(UTC)
    again = read({**EVENT, "uploaded_at": given_value}).uploaded_at
    assert again is None or again.astimezone(UTC)


@pytest.mark.parametrize("value", [None, b"", b"null", b"\xff", b"[]"])
def test_an_unreadable_record_is_reported(value: bytes | None) -> None:
    with pytest.raises(Unreadable):
        read_json(value, default_tenant="default")


def test_no_tenant_at_all_is_refused() -> None:
    with pytest.raises(Unreadable, match="tenant_id"):
        read(without("tenant_id"), tenant="")


def test_fields_of_the_output_stream() -> None:
    body = {"idempotency_key": "k", "post_id": "п"}
    assert redis_fields("posts.vision.analyzed", body) == {
        "event": "posts.vision.analyzed",
        "data": '{"idempotency_key":"k","post_id":"п"}',
        "idempotency_key": "k",
    }
    assert redis_fields("posts.vision.skipped", body)["skipped"] == "true"


# --- random values ----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([*EVENT, "media", "timestamp", "event", "data", "payload", "key", "encode", "__class__"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.floats(allow_nan=False, allow_infinity=False),  # what JSON can say
    st.text(st.characters(), max_size=12),
    st.sampled_from(
        ["[1]", '{"a": null}', "2026-11-22", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "1e9"]
    ),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(NAMES, st.text(max_size=4)), inner, max_size=4)
    ),
    max_leaves=6,
)
MEDIA = st.lists(
    st.dictionaries(st.sampled_from(["s3_key", "size_bytes", "position", "role", "extra"]), JSON, max_size=3).map(
        lambda changes: {**MEDIUM, **changes}
    ),
    max_size=3,
)
READABLE = st.builds(
    lambda rest, post, media: {**rest, "tenant_id": "t", "post_id": post, "media_files": media},
    st.dictionaries(
        st.one_of(NAMES, st.text(max_size=5)).filter(lambda n: n not in ("event_type", "schema_version")), JSON
    ),
    st.one_of(st.just("p"), st.integers(), st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)),
    MEDIA,
)
EVENTS = st.one_of(
    READABLE,
    st.builds(
        lambda event, faults: {**event, **faults},
        READABLE,
        st.dictionaries(st.sampled_from([*EVENT]), JSON, max_size=2),
    ),
)


@settings(max_examples=examples(250), deadline=None)
@given(EVENTS, st.sampled_from([None, "1763812800000-0", "99999999999999999999-1"]))
def test_any_event_is_read_or_unreadable_and_what_was_read_reads_the_same(
    event: dict[str, Any], entry_id: str | None
) -> None:
    try:
        read_back = read(event, entry_id=entry_id)
    except Unreadable:
        return
    assert read_json(read_back.encode(), default_tenant="other") == read_back


@settings(max_examples=examples(100), deadline=None)
@given(
    st.dictionaries(
        st.one_of(NAMES, st.binary(max_size=6)),
        st.one_of(st.binary(max_size=30), st.text(max_size=30), EVENTS.map(lambda e: json.dumps(e, default=str))),
    )
)
@example({b"data": b"\xff{"})
def test_any_fields_are_read_or_unreadable(fields: dict[Any, Any]) -> None:
    try:
        read_back = read_entry(fields, default_tenant="default", entry_id="1-0")
    except Unreadable:
        return
    assert read_json(read_back.encode(), default_tenant="other") == read_back
