"""The meaning of GigaChat's replies, without a network."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_app.providers import gigachat_wire as wire
from vision_app.providers.base import AccountBlocked, InputFault, ProviderError, ProviderOutage, RateLimited

DATE = datetime(2026, 1, 21, 12, 0, tzinfo=UTC)


def reply(body: object, status: int = 200, **headers: str) -> wire.Reply:
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return wire.Reply(
        status, httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()}), content
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("1.5", 1.5),
        ("0", 0),
        ("99999", 300),
        (format_datetime(DATE + timedelta(seconds=20)), 20),
        (format_datetime(DATE - timedelta(seconds=20)), 0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("nan", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert reply({}, 503, Retry_After=value, Date=format_datetime(DATE)).retry_after_seconds == seconds


def test_retry_after_as_a_date_is_meant_by_the_servers_clock() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=5, seconds=30))
    server = format_datetime(datetime.now(UTC) + timedelta(hours=5))
    assert reply({}, 429, Retry_After=later, Date=server).retry_after_seconds == pytest.approx(30, abs=1.1)


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (400, "", InputFault),
        (401, "Token has expired", AccountBlocked),
        (402, "Payment Required", AccountBlocked),
        (403, "Permission denied", AccountBlocked),
        (404, "No such model", AccountBlocked),
        (404, "No such file", InputFault),
        (404, "", AccountBlocked),
        (405, "", AccountBlocked),
        (408, "", ProviderOutage),
        (413, "Payload too large", InputFault),
        (422, "Invalid params", InputFault),
        (429, "Too many requests", RateLimited),
        (302, "", ProviderOutage),
        (500, "", ProviderOutage),
        (503, "", ProviderOutage),
    ],
)
def test_what_a_status_means(status: int, message: str, error: type[ProviderError]) -> None:
    found = wire.error_of(reply({"status": status, "message": message}, status))
    assert type(found) is error
    assert f"HTTP {status}" in str(found)


def test_an_error_under_status_200_is_unmasked() -> None:
    assert wire.unmasked(reply({"status": 429, "message": "Too many requests"})).status == 429
    assert wire.unmasked(reply({"status": 200})).status == 200
    assert wire.unmasked(reply({"choices": [], "status": 429})).status == 200


RECORDED = {
    "choices": [{"message": {"content": "{}", "role": "assistant"}, "index": 0, "finish_reason": "stop"}],
    "created": 1768996174,
    "model": "GigaChat:2.0.28.2",
    "object": "chat.completion",
    "usage": {"prompt_tokens": 17, "completion_tokens": 3, "total_tokens": 20, "precached_prompt_tokens": 2},
}


def test_a_recorded_answer_is_read() -> None:
    chat = wire.read_chat(reply(RECORDED))
    assert (chat.content, chat.finish_reason, chat.model, chat.tokens) == ("{}", "stop", "GigaChat:2.0.28.2", 20)
    assert chat.usage["precached_prompt_tokens"] == 2


@pytest.mark.parametrize(
    ("change", "tokens"),
    [
        ({"usage": None}, None),
        ({"usage": {}}, None),
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 2}}, 7),
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 1}}, 7),
        ({"usage": {"total_tokens": "20"}}, None),
        ({"usage": {"total_tokens": -1}}, None),
        ({"choices": []}, 20),
        ({"choices": [{"message": {"content": None}}]}, 20),
        ({"choices": "?"}, 20),
    ],
)
def test_odd_answers_keep_their_usage(change: dict[str, Any], tokens: int | None) -> None:
    assert wire.read_chat(reply({**RECORDED, **change})).tokens == tokens


def test_usage_is_found_in_a_body_cut_in_two() -> None:
    body = b'{"usage": {"prompt_tokens": 17, "total_tokens": 20}, "choices": [{"mess'
    assert wire.read_chat(reply(body)).tokens == 20


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_nothing_the_server_says_breaks_the_reader(body: object) -> None:
    try:
        odd = reply(body)
    except TypeError:  # an integer that JSON libraries do not write
        return
    wire.read_chat(odd)
    wire.unmasked(odd)
    assert wire.token_of(odd) is None
    assert wire.file_ids_named(odd, "x") == []


@pytest.mark.parametrize("body", [{"id": "../../oauth"}, {"id": 5}, {"id": ""}, [], b"{", {"id": "a/b"}])
def test_a_file_id_that_would_change_the_url_is_none(body: object) -> None:
    assert wire.file_id_of(reply(body)) is None


def test_both_shapes_of_a_token() -> None:
    assert wire.token_of(reply({"access_token": "a", "expires_at": 1739784663483})) == ("a", 1739784663.483)
    assert wire.token_of(reply({"tok": "b", "exp": 1695128118})) == ("b", 1695128118.0)


@given(st.text(max_size=400))
def test_any_trace_id_makes_a_valid_header(text: str) -> None:
    value = wire.header_safe(text)
    assert value.isascii()
    assert value.isprintable()
    assert " " not in value
    assert len(value) <= 128
    httpx.Headers({"X-Request-ID": value})


def test_headers_of_different_ids_differ() -> None:
    assert wire.header_safe("я" * 200 + "1") != wire.header_safe("я" * 200 + "2")
    assert wire.header_safe("t-1001") == "t-1001"


def test_file_names_are_unique_and_end_rightly() -> None:
    assert wire.unique_filename("image/png") != wire.unique_filename("image/png")
    assert wire.unique_filename("image/png").endswith(".png")


def test_the_request_is_the_one_the_contract_names() -> None:
    assert wire.chat_body("GigaChat-Pro", "опиши", "file-1", 512) == {
        "model": "GigaChat-Pro",
        "messages": [{"role": "user", "content": "опиши", "attachments": ["file-1"]}],
        "temperature": 0.1,
        "max_tokens": 512,
    }
