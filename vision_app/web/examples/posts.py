"""Examples of what the API answers about posts, pictures and dead letters."""

from __future__ import annotations

from typing import Any

POST, TENANT, TRACE = "p-1001", "acme", "t-1001"
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
GONE = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
AT = "2026-11-28T12:00:01.234000Z"
AT_MS = 1_764_331_201_234
MEDIA_KEY = f"media/{TENANT}/{SHA}.jpg"
ANSWER_KEY = f"vision/{TENANT}/{SHA}_gigachat_GigaChat-Pro_v1_p1.json"
VERSION = "vision@2026-11-22#p1"

_RESULT: dict[str, Any] = {
    "post_id": POST,
    "tenant_id": TENANT,
    "channel_id": "-1001234567890",
    "status": "partial",
    "analyzed_at": AT,
    "provider": "gigachat",
    "simulated": False,
    "model": "GigaChat-Pro",
    "tokens_used": 1320,
    "classification": {
        "type": "photo",
        "confidence": 0.93,
        "tags": ["кот", "окно"],
        "is_meme": False,
        "description": "Рыжий кот сидит на окне",
    },
    "ocr_text": None,
    "is_meme": False,
    "media_count": 2,
    "s3_vision_keys": [ANSWER_KEY],
    "s3_media_keys": [MEDIA_KEY],
    "expired": False,
    "expired_keys": [],
    "vision_version": VERSION,
    "features_hash": "1f0c3b7a9e2d4c58",
    "post_trace_id": TRACE,
    "in_work_since": None,
    "enrichments": [
        {
            "sha256": SHA,
            "status": "analyzed",
            "analysis": {
                "classification": "photo",
                "description": "Рыжий кот сидит на окне",
                "is_meme": False,
                "labels": ["кот", "окно"],
                "confidence": 0.93,
            },
        },
        {"sha256": GONE, "status": "skipped", "reason": "s3_missing"},
    ],
    "times": {"published": AT_MS - 2310, "relayed": AT_MS - 2280, "judged": AT_MS - 2260, "opened": AT_MS - 2230},
}
_LISTED_MEDIUM: dict[str, Any] = {
    "sha256": SHA,
    "mime_type": "image/jpeg",
    "size_bytes": 51_200,
    "status": "analyzed",
    "kind": "photo",
    "reason": None,
    "rule": None,
    "deferred_until": None,
}
_GONE_MEDIUM = {**_LISTED_MEDIUM, "sha256": GONE, "status": "skipped", "kind": None, "reason": "s3_missing"}
_LIVE: dict[str, Any] = {
    "post_id": POST,
    "tenant_id": TENANT,
    "status": "in_work",
    "opened_ms": AT_MS - 2230,
    "completed_ms": None,
    "post_trace_id": TRACE,
    "media": [{"sha256": SHA, "status": "in_work", "dispatch": 1, "dispatched_ms": AT_MS - 2230}],
    "trace_id": "",
}
_HELD: dict[str, Any] = {"stage": "analysis", "sha256": SHA, "since": AT, "step": "call", "waits_for": "gigachat"}
_LETTER: dict[str, Any] = {
    "id": "vision.media-3-17",
    "state": "waiting",
    "origin": "vision.media",
    "error": "Unreadable",
    "reason": "the task names no picture; publish the post again",
    "tenant_id": TENANT,
    "post_id": POST,
    "post_trace_id": TRACE,
    "attempts": 1,
    "replays": 0,
    "first_seen": AT,
    "last_seen": AT,
    "size_bytes": 412,
}
_COST: dict[str, Any] = {"asked": 1, "tokens_at_most": 1500, "cached": 1, "gone": 0}

POSTS: dict[str, dict[str, Any]] = {
    "PostAnswer": _RESULT,
    "LivePostAnswer": {name: value for name, value in _LIVE.items() if name != "trace_id"},
    "PostListAnswer": {"results": [{"trace_id": "", **_RESULT}], "total": 1, "page": 1, "page_size": 50},
    "MediaAnswer": {
        "sha256": SHA,
        "tenant_id": TENANT,
        "s3_key": MEDIA_KEY,
        "mime_type": "image/jpeg",
        "size_bytes": 51_200,
        "expired": False,
        "expired_at": None,
        "vision_classification": "photo",
        "is_meme": False,
        "description": "Рыжий кот сидит на окне",
        "provider": "gigachat",
        "analyzed_at": AT,
        "posts": [POST],
    },
    "StatsAnswer": {
        "total_analyzed": 1842,
        "memes_count": 311,
        "by_provider": {"gigachat": 1650, "ocr": 12, "cached": 180},
        "tokens": {"total": 2_178_000, "average": 1182.4},
        "by_type": {"photo": 1203, "meme": 311, "document": 328},
    },
    "PostSearchAnswer": {
        "posts": [
            {
                "tenant_id": TENANT,
                "post_id": POST,
                "channel_id": "-1001234567890",
                "post_trace_id": TRACE,
                "status": "partial",
                "in_work_since": None,
                "deferred_until": None,
                "reasons": ["s3_missing"],
                "kind": "photo",
                "labels": ["кот", "окно"],
                "description": "Рыжий кот сидит на окне",
                "tokens_used": 1320,
                "error": None,
                "picture_count": 2,
                "sha256": [SHA, GONE],
                "media": [_LISTED_MEDIUM, _GONE_MEDIUM],
                "analyzed_at": AT,
                "updated_at": AT,
            }
        ],
        "next_cursor": None,
    },
    "TimelineAnswer": {
        "tenant_id": TENANT,
        "post_id": POST,
        "post_trace_id": TRACE,
        "status": "partial",
        "in_work_since": None,
        "stages": [
            {
                "stage": "way_in",
                "started_ms": AT_MS - 2310,
                "duration_ms": 30,
                "medium": None,
                "detail": "from its publication until it was in Kafka",
            },
            {
                "stage": "answer",
                "started_ms": AT_MS - 1900,
                "duration_ms": 1850,
                "medium": SHA,
                "detail": "it was sent and answered",
            },
        ],
        "total_ms": 2310,
        "media": [
            {
                **_LISTED_MEDIUM,
                "provider": "gigachat",
                "model": "GigaChat-Pro",
                "tokens_billed": 1320,
                "cached": False,
                "explanation": None,
            },
            {
                **_GONE_MEDIUM,
                "provider": None,
                "model": None,
                "tokens_billed": 0,
                "cached": None,
                "explanation": {
                    "cause": "object_missing",
                    "text": f"there is no object media/{TENANT}/{GONE}.jpg",
                    "next_step": "upload the picture (`vision upload`), then publish the post again",
                    "rule": None,
                    "deferred_until": None,
                    "budget": None,
                    "dead_letter_id": None,
                },
            },
        ],
    },
    "OwnPostAnswer": {"state": _LIVE, "held": [_HELD]},
    "PostNowAnswer": {
        "tenant_id": TENANT,
        "post_id": POST,
        "status": "in_work",
        "opened_at": AT,
        "media": [{"sha256": SHA, "status": "in_work", "place": "call", "since": AT, "waits_for": "gigachat"}],
        "held": [_HELD],
        "unknown": [],
    },
    "PostReplayBody": {"tenant_id": TENANT, "force": False, "dry_run": True},
    "PostReplayAnswer": {
        "dry_run": True,
        "tenant_id": TENANT,
        "post_id": POST,
        "status": "partial",
        "force": False,
        "media": [
            {"sha256": SHA, "status": "analyzed", "effect": "free", "tokens_before": 1320, "tokens_at_most": 0},
            {"sha256": GONE, "status": "skipped", "effect": "asked", "tokens_before": 0, "tokens_at_most": 1500},
        ],
        "cost": _COST,
        "paid_again": 0,
        "topic": "posts.vision.uploaded",
        "key": f"{TENANT}:{POST}",
        "payload": '{\n  "event_type": "posts.vision.uploaded",\n  "post_id": "p-1001"\n}',
        "payload_cut": False,
        "sent": None,
    },
    "LettersAnswer": {
        "letters": [_LETTER],
        "total": 1,
        "groups": [{"origin": "vision.media", "error": "Unreadable", "count": 1}],
        "next_cursor": None,
        "states_known": True,
        "complete": True,
    },
    "LetterAnswer": {
        "letter": _LETTER,
        "key": f"{TENANT}:{SHA}",
        "partition": 3,
        "offset": "17",
        "headers": {"trace_id": TRACE, "type": "media_task"},
        "code_version": "0.1.0",
        "payload": '{\n  "post_id": "p-1001"\n}',
        "payload_kind": "json",
        "payload_cut": False,
    },
    "ReplayBody": {"ids": ["vision.media-3-17"], "dry_run": True},
    "DiscardBody": {"ids": ["vision.media-3-17"], "dry_run": True},
    "ReplayAnswer": {
        "dry_run": True,
        "letters": [
            {
                "id": "vision.media-3-17",
                "destination": "vision.media",
                "whole_post": False,
                "sent": None,
                "refused": None,
                "warning": None,
            }
        ],
        "cost": _COST,
        "left": 0,
    },
    "DiscardAnswer": {"dry_run": True, "ids": ["vision.media-3-17"], "left": 0},
}
