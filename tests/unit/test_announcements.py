"""Announcements are valid for the assistant's strict consumers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from tests.oracles import Classification, VisionAnalyzedEventV1, VisionSkippedEventV1
from tests.samples import AT, analysis, analyzed, medium, missing, post
from vision_app import events
from vision_app.messages import Deferred, Failed, Ocr, PostResult
from vision_app.settings import load_settings
from vision_app.stores.base import Rejected
from vision_app.stores.redis_announcer import Announcement, RedisAnnouncer
from vision_app.topics import MAX_MESSAGE_BYTES

DEFERRED = Deferred(reason="budget", retry_at=AT)


def published(result: PostResult, model: type[BaseModel]) -> dict[str, str]:
    fields = events.redis_fields(*events.announcement(result))
    model.model_validate_json(fields["data"], strict=True)
    return fields


@pytest.mark.parametrize("others", [[], [missing()], [Failed(reason="analysis_failed")], [DEFERRED]])
def test_an_analyzed_event_is_strictly_valid(others: list[Failed]) -> None:
    fields = published(post([*others, analyzed()]), VisionAnalyzedEventV1)
    body = json.loads(fields["data"])
    Classification.model_validate(body["vision"]["classification"])
    assert fields["event"] == "posts.vision.analyzed"
    assert "skipped" not in fields
    assert [("analysis" in item) for item in body["enrichments"]] == [False] * len(others) + [True]


@pytest.mark.parametrize("outcomes", [[], [missing()], [Failed(reason="analysis_failed")], [DEFERRED, missing()]])
def test_a_skipped_event_is_strictly_valid(outcomes: list[Failed]) -> None:
    fields = published(post(outcomes), VisionSkippedEventV1)
    assert fields["event"] == "posts.vision.skipped"
    assert fields["skipped"] == "true"
    assert len(json.loads(fields["data"])["reasons"]) == len(outcomes)


def large(**fields: Any) -> PostResult:
    """A post with the most media allowed, each with more text than the parser accepts."""
    seen = analysis("й" * 1000, ocr=Ocr(text="\x01" * 100_000, engine="x"), context={"long": "💥" * 8000})
    outcomes = [analyzed(seen=seen) for _ in range(events.MAX_MEDIA)]
    media = [medium(s3_key="к" * 2048, mime_type="m" * 256, extra="x" * 2000) for _ in outcomes]
    return post(outcomes, media=media, tenant="т" * 256, post_id="п" * 256, trace_id="x" * 1_000_000, **fields)


def test_a_reduced_analyzed_event_fits_into_a_record_and_is_strictly_valid() -> None:
    _, body = events.announcement(large())
    less = events.reduced(body)
    assert len(json.dumps(body, ensure_ascii=False).encode()) > 2 * MAX_MESSAGE_BYTES
    assert len(json.dumps(less, ensure_ascii=False).encode()) < MAX_MESSAGE_BYTES * 0.9
    VisionAnalyzedEventV1.model_validate_json(json.dumps(less), strict=True)
    for name in ("tenant_id", "post_id", "emission", "idempotency_key", "features_hash", "vision_version"):
        assert less[name] == body[name]
    assert less["media_summary"] == body["media_summary"]
    assert len(less["enrichments"]) == events.MAX_MEDIA
    assert less["reduced"]


def test_a_reduced_skipped_event_fits_into_a_record_and_is_strictly_valid() -> None:
    result = post([Failed(reason="exception", details={"error": "x" * 100_000}) for _ in range(events.MAX_MEDIA)])
    _, body = events.announcement(result)
    less = events.reduced(body)
    assert len(json.dumps(less).encode()) < MAX_MESSAGE_BYTES / 4
    VisionSkippedEventV1.model_validate_json(json.dumps(less), strict=True)
    assert [item["reason"] for item in less["reasons"]] == ["exception"] * events.MAX_MEDIA


@pytest.mark.parametrize("change", [{"emission": "soon"}, {"emission": "-1-2"}, {"tenant_id": None, "emission": ""}])
async def test_an_invalid_announcement_is_rejected_before_anything_is_sent(change: dict[str, str]) -> None:
    nowhere = RedisAnnouncer(load_settings(redis_url="redis://127.0.0.1:1/0"))
    event_type, body = events.announcement(post())
    with pytest.raises(Rejected) as rejected:
        await nowhere.write([Announcement(event_type, body), Announcement(event_type, {**body, **change})])
    assert rejected.value.index == 1
