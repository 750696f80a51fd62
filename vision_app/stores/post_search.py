"""Lists posts of every status, newest first, by filters and by words on their pictures.

Pages are found by their place, not by counting: a page costs the same wherever it is. Reads the table that
`postgres.py` writes. Raises asyncpg's errors unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson

from .statements import IS_DEFERRED, NOT_WHOLE

Row = dict[str, Any]

FoundStatus = Literal["ok", "partial", "skipped", "error", "in_work", "deferred"]

_SHOWN = f"""
SELECT tenant_id, post_id, trace_id, coalesce(metadata ->> 'channel_id', data #>> '{{event,channel_id}}') AS channel_id,
    CASE WHEN status = 'skipped' AND {IS_DEFERRED} THEN 'deferred' ELSE status END AS status,
    in_work_since, vision_analyzed_at AS analyzed_at, updated_at, created_at,
    coalesce(vision_classification ->> 'type', data #>> '{{classification,type}}') AS kind,
    vision_labels_agg AS labels, left(summary, $1) AS description,
    vision_tokens_used AS tokens_used, album_size, error,
    jsonb_path_query_array(data, '$.media[*]') AS media,
    ARRAY(SELECT jsonb_build_object('sha256', item -> 'sha256', 'kind', item #> '{{analysis,classification}}')
          FROM jsonb_path_query(data, '$.enrichments[*]') AS item) AS seen
FROM post_enrichment WHERE kind = 'vision'"""  # noqa: S608 - built from our own texts

_OF_STATUS: dict[FoundStatus, str] = {
    "ok": "status = 'ok'",
    "partial": "status = 'partial'",
    "error": "status = 'error'",
    "skipped": f"status = 'skipped' AND NOT ({IS_DEFERRED})",
    "deferred": IS_DEFERRED,
    "in_work": "in_work_since IS NOT NULL",
}
_NEWEST_FIRST = " ORDER BY updated_at DESC, tenant_id DESC, post_id DESC LIMIT $2"


@dataclass(frozen=True)
class PostFilter:
    """Which posts to list; None: any. Times are exclusive, with an offset.

    `status`: `deferred` are posts with a medium that waits for its budget, `in_work` those that are looked at (again).
    `reason`: of any medium without an analysis, or the policy's rule. `kind`, `label`: of any medium. `text`: words in
    the syntax of web searches.
    """

    tenant_id: str | None = None
    channel_id: str | None = None
    status: FoundStatus | None = None
    reason: str | None = None
    kind: str | None = None
    label: str | None = None
    after: datetime | None = None
    before: datetime | None = None
    text: str | None = None


@dataclass(frozen=True)
class Place:
    """The last post of a page; the next page begins behind it."""

    updated_at: datetime
    tenant_id: str
    post_id: str


async def search(
    pool: Any, wanted: PostFilter, behind: Place | None, limit: int, description_chars: int = 500
) -> list[Row]:
    """At most `limit` posts, newest first, behind a place. `description` is cut to so many characters.

    `media` has the media of the post as in its row; `seen` maps a medium's sha256 to its classification. `pool`: of
    `postgres.create_pool`.
    """
    query, given = _query(wanted, behind)
    return [_decoded(row) for row in await pool.fetch(query, description_chars, limit, *given)]


def _query(wanted: PostFilter, behind: Place | None) -> tuple[str, list[Any]]:
    """The statement and its values from $3 on. It has only the conditions asked for, so that it uses their indexes."""
    given: list[Any] = []

    def value(of: Any) -> str:
        given.append(of)
        return f"${len(given) + 2}"

    conditions = _conditions(wanted, value)
    if behind is not None:
        at = value(behind.updated_at)
        conditions.append(f"updated_at <= {at}")  # an index of one tenant's posts does not serve the next condition
        place = f"{at}, {value(behind.tenant_id)}, {value(behind.post_id)}"
        conditions.append(f"(updated_at, tenant_id, post_id) < ({place})")
    return "".join([_SHOWN, *(f" AND {condition}" for condition in conditions), _NEWEST_FIRST]), given


def _conditions(wanted: PostFilter, value: Any) -> list[str]:
    found = []
    if wanted.tenant_id is not None:
        found.append(f"tenant_id = {value(wanted.tenant_id)}")
    if wanted.channel_id is not None:
        found.append(f"metadata ->> 'channel_id' = {value(wanted.channel_id)}")
    if wanted.status is not None:
        found.append(_OF_STATUS[wanted.status])
    if wanted.reason is not None:
        by_reason = value(_json({"media": [{"reason": wanted.reason}]}))
        by_rule = value(_json({"media": [{"details": {"policy_name": wanted.reason}}]}))
        found += [NOT_WHOLE, f"(data @> {by_reason}::jsonb OR data @> {by_rule}::jsonb)"]
    if wanted.kind is not None:
        seen = _json({"enrichments": [{"analysis": {"classification": wanted.kind}}]})
        found.append(f"data @> {value(seen)}::jsonb")
    if wanted.label is not None:
        found.append(f"vision_labels_agg @> {value(_json([wanted.label]))}::jsonb")
    if wanted.after is not None:
        found.append(f"updated_at > {value(wanted.after)}")
    if wanted.before is not None:
        found.append(f"updated_at < {value(wanted.before)}")
    if wanted.text is not None:
        found.append(f"vision_search @@ websearch_to_tsquery('russian', {value(wanted.text)})")
    return found


def _json(wanted: Any) -> str:
    return orjson.dumps(wanted).decode()


def _decoded(row: Any) -> Row:
    found = dict(row)
    for name in ("media", "labels"):
        found[name] = orjson.loads(found[name]) if found[name] else []
    found["seen"] = {item["sha256"]: item["kind"] for item in map(orjson.loads, found["seen"]) if "sha256" in item}
    return found
