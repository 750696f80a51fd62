"""What is known of one post, and counts over all data: the material of `vision diag`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from vision_app.messages import DeadLetter
from vision_app.settings import Settings
from vision_app.stores.keys import MEDIA_PREFIX, VISION_PREFIX, segment
from vision_app.stores.posts import Row
from vision_app.streams.letter_ids import ids_of
from vision_app.texts import say

from .connections import api_of, postgres_of, redis_of, s3_of
from .kafka_log import kafka_log
from .letters import letters_about
from .rows import RowFinder
from .usage import usage_of
from .waiting import deferral, waiting_for

DESCRIPTION_CHARS = 200
COUNTED = 10_000  # the most entries not read yet that are counted


@dataclass(frozen=True)
class Diagnosis:
    """A post's row, and what it waits for while it is in work or deferred (empty otherwise)."""

    row: Row
    waits: str

    @property
    def deferred(self) -> bool:
        """Whether a medium waits for its budget. The column `status` says skipped then: nothing was analyzed yet."""
        return any((item.get("details") or {}).get("deferred") for item in (self.row["data"] or {}).get("media", ()))

    def fields(self) -> dict[str, Any]:
        """The lines of the guide's table, by name."""
        row = self.row
        return {
            "Tenant": row["tenant_id"],
            "Post": row["post_id"],
            "Status": "deferred" if self.deferred and row["status"] == "skipped" else row["status"],
            "Analyzed At": row["vision_analyzed_at"].isoformat() if row["vision_analyzed_at"] else None,
            "Provider": row["vision_provider"],
            "Model": row["vision_model"],
            "Tokens Used": row["vision_tokens_used"],
            "Is Meme": bool(row["vision_is_meme"]),
            "Has Classification": bool(row["vision_classification"]),
            "Has Description": bool(row["vision_description"]),
            "Has OCR": bool(row["ocr_present"]),
            "S3 Keys Count": len(row["s3_vision_keys"] or ()),
            "Trace ID": row["trace_id"],
            "Error": row["error"],
            "Waits For": self.waits or None,
        }

    @property
    def classification(self) -> Mapping[str, Any]:
        return dict(self.row["vision_classification"] or {})

    @property
    def description(self) -> str:
        return str(self.row["vision_description"] or "")[:DESCRIPTION_CHARS]

    @property
    def media(self) -> list[dict[str, Any]]:
        """Each listed medium with how it ended."""
        names = ["sha256", "s3_key", "status", "reason", "details", "provider", "tokens_billed", "cached"]
        names.append("answer_s3_key")
        media = (self.row["data"] or {}).get("media", ())
        return [{name: item[name] for name in names if name in item} for item in media]


@dataclass(frozen=True)
class LetterDiagnosis:
    """A post of which no row is known, only a dead letter."""

    letter: DeadLetter

    def fields(self) -> dict[str, Any]:
        """As `Diagnosis.fields`, as far as known."""
        ids = ids_of(self.letter)
        return {
            "Tenant": ids.get("tenant_id"),
            "Post": ids.get("post_id"),
            "Status": "dead letter",
            "Trace ID": ids.get("trace_id"),
            "Error": f"{self.letter.error}: {self.letter.reason}",
            "Dead Letter": self.letter.id,
            "Next": say("vision dlq show {id}, then vision dlq replay or discard", id=self.letter.id),
        }


async def diagnose_letters(settings: Settings, text: str, tenant_id: str | None) -> list[LetterDiagnosis]:
    """The dead letters that an id names: of a post, a trace, an entry or a letter. Raises KafkaError."""
    async with kafka_log(settings) as kafka:
        return [LetterDiagnosis(letter) for letter in await letters_about(kafka, text, tenant_id)]


async def diagnose(settings: Settings, post_id: str, tenant_id: str | None) -> list[Diagnosis]:
    """What is known of a post, for each tenant that has one with this id, or with a trace or an entry of this id.

    Raises the errors of Postgres.
    """
    async with postgres_of(settings) as pool, api_of(settings) as api:
        found = []
        for row in await RowFinder(pool).find(post_id, tenant_id):
            in_work = row["status"] == "in_work" or row["in_work_since"] is not None
            waits = await waiting_for(api, row["tenant_id"], row["post_id"]) if in_work else ""
            waits = waits or await deferral(api, row["tenant_id"], (row["data"] or {}).get("media", ()))
            found.append(Diagnosis(row, waits))
        return found


async def statistics(settings: Settings, tenant_id: str | None) -> dict[str, Any]:
    """Lengths of the streams, pending entries, objects and bytes of media and answers (of a tenant, or of all)."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_of(settings))
        s3 = await stack.enter_async_context(s3_of(settings))
        below = f"{segment(tenant_id)}/" if tenant_id else ""
        usages = {kind: await usage_of(s3, kind + below) for kind in (MEDIA_PREFIX, VISION_PREFIX)}
        outputs = (settings.vision_output_stream, settings.vision_dlq_stream)
        return {
            "streams": {name: int(await redis.xlen(name)) for name in (*settings.input_streams, *outputs)},
            "groups": {
                name: await group(redis, name, settings.vision_consumer_group) for name in settings.input_streams
            },
            "s3": {
                kind.rstrip("/"): {
                    "objects": usage.objects,
                    "bytes": usage.size_bytes,
                    "gb": round(usage.gib, 4),
                    "samples": list(usage.samples),
                }
                for kind, usage in usages.items()
            },
        }


async def group(redis: Redis, stream: str, name: str) -> dict[str, Any]:
    """A group's state in a stream: pending entries, age of the oldest, and (up to COUNTED) entries not read yet."""
    try:
        found = next(info for info in await redis.xinfo_groups(stream) if info["name"].decode() == name)
        oldest = await redis.xpending_range(stream, name, min="-", max="+", count=1)
        unread = await redis.xrange(stream, min=f"({found['last-delivered-id'].decode()}", count=COUNTED)
    except (ResponseError, StopIteration):
        return {"pending": 0, "oldest_idle_seconds": None, "unread": None, "exists": False}
    return {
        "pending": int(found["pending"]),
        "oldest_idle_seconds": oldest[0]["time_since_delivered"] / 1000 if oldest else None,
        "unread": len(unread),
        "exists": True,
    }
