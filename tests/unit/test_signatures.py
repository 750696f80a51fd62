"""A grant's signature: what it covers, and when it is no longer valid."""

from __future__ import annotations

from typing import Any

import pytest

from vision_app.domain.budget import LOST_AFTER_MS
from vision_app.domain.signatures import VALID_MS, flaw_of, key_from, signed
from vision_app.messages import Grant, MediaTask, Medium, decode
from vision_app.settings import load_settings

KEY = key_from("secret")
GIVEN_MS = 1_700_000_000_000
TASK = MediaTask(
    tenant_id="t",
    post_id="p",
    trace_id="x",
    medium=Medium(sha256="a", s3_key="media/t/a", mime_type="image/png"),
    dispatch=1,
    times={"granted": GIVEN_MS},
)
GRANT = signed(Grant(id="g", provider="gigachat", estimate=100, task=TASK), KEY)


def test_the_ledgers_grant_holds_for_a_day_also_after_its_way_through_kafka() -> None:
    assert flaw_of(decode(Grant, GRANT.encode()), KEY, GIVEN_MS + VALID_MS - 1) is None
    assert flaw_of(GRANT, KEY, GIVEN_MS - 60_000) is None, "the worker's clock is behind the broker's"
    assert flaw_of(GRANT, KEY, GIVEN_MS + VALID_MS) == "expired"
    assert VALID_MS <= LOST_AFTER_MS, "by then the ledger has charged it and asked again"


def test_without_a_signature_or_with_another_key_it_allows_nothing() -> None:
    assert flaw_of(GRANT.model_copy(update={"signature": ""}), KEY, GIVEN_MS) == "unsigned"
    for signature in ("x", "ä", GRANT.signature[:-1], GRANT.signature.upper()):
        assert flaw_of(GRANT.model_copy(update={"signature": signature}), KEY, GIVEN_MS) == "foreign"
    assert flaw_of(GRANT, key_from("other"), GIVEN_MS) == "foreign"


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "h"},
        {"estimate": 99},
        {"purpose": "repair"},
        {"provider": "ocr_fallback"},
        {"task": TASK.model_copy(update={"tenant_id": "u"})},
        {"task": TASK.model_copy(update={"post_id": "q"})},
        {"task": TASK.model_copy(update={"dispatch": 2})},
        {"task": TASK.model_copy(update={"attempt": 2})},
        {"task": TASK.model_copy(update={"force": True})},
        {"task": TASK.model_copy(update={"prompt_key": "photo"})},
        {"task": TASK.at(granted=GIVEN_MS + 1)},
        {"task": TASK.model_copy(update={"medium": TASK.medium.model_copy(update={"s3_key": "media/u/a"})})},
        {"task": TASK.model_copy(update={"medium": TASK.medium.model_copy(update={"sha256": "b"})})},
    ],
    ids=str,
)
def test_what_decides_about_money_cannot_be_changed(changed: dict[str, Any]) -> None:
    assert flaw_of(GRANT.model_copy(update=changed), KEY, GIVEN_MS) == "foreign"


def test_fields_that_a_newer_version_adds_do_not_break_it() -> None:
    medium = TASK.medium.model_copy(update={"new": 1.5})
    assert flaw_of(GRANT.model_copy(update={"task": TASK.model_copy(update={"medium": medium})}), KEY, GIVEN_MS) is None


def test_parts_cannot_be_shifted_into_one_another() -> None:
    one = GRANT.model_copy(update={"task": TASK.model_copy(update={"tenant_id": "tp", "post_id": ""})})
    assert flaw_of(one, KEY, GIVEN_MS) == "foreign"


def test_the_key_is_a_setting_or_follows_from_what_all_workers_share() -> None:
    assert load_settings(s3_secret_access_key="s").grant_secret == "s"
    assert load_settings(s3_secret_access_key="s", vision_grant_key="k").grant_secret == "k"
    assert b"secret" not in KEY
