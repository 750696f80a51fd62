"""What is announced is valid for the assistant's strict consumers."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

from tests.oracles import Classification, VisionAnalyzedEventV1, VisionSkippedEventV1
from tests.samples import AT, analyzed, missing, post
from vision_app import events
from vision_app.messages import Deferred, Failed, PostResult
from vision_app.settings import load_settings
from vision_app.stores.base import Rejected
from vision_app.stores.redis_announcer import Announcement, RedisAnnouncer

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


@pytest.mark.parametrize("change", [{"emission": "soon"}, {"emission": "-1-2"}, {"tenant_id": None, "emission": ""}])
async def test_what_is_no_announcement_is_rejected_before_anything_is_sent(change: dict[str, str]) -> None:
    nowhere = RedisAnnouncer(load_settings(redis_url="redis://127.0.0.1:1/0"))
    event_type, body = events.announcement(post())
    with pytest.raises(Rejected) as rejected:
        await nowhere.write([Announcement(event_type, body), Announcement(event_type, {**body, **change})])
    assert rejected.value.index == 1
