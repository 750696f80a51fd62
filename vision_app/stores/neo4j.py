"""The sink that writes the graph: posts, their pictures, the labels of the pictures.

    (:Post)-[:HAS_IMAGE {trace_id, created_at, position}]->(:ImageContent:Image)-[:HAS_LABEL {from_text}]->(:Label)

Only analyzed media are written. A picture belongs to one tenant; labels are plain words that tenants share. What the
model said is always a parameter, never part of a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from neo4j import AsyncDriver, AsyncSession
from neo4j.exceptions import DriverError, Neo4jError

from vision_app.clients.neo4j import neo4j_driver, neo4j_fault, neo4j_session
from vision_app.messages import PostResult
from vision_app.settings import Settings

from .base import Rejected, Sink, SinkUnavailable
from .ordering import ObservedMedium, seen, winners
from .text import storable

CONNECT_TIMEOUT_SECONDS = 5
RETRY_SECONDS = 5  # of the driver itself, for deadlocks and a change of leader
MAX_LABEL_CHARS = 100

CONSTRAINTS = (
    "CREATE CONSTRAINT vision_image IF NOT EXISTS FOR (i:ImageContent) REQUIRE (i.tenant_id, i.sha256) IS UNIQUE",
    "CREATE CONSTRAINT vision_post IF NOT EXISTS FOR (p:Post) REQUIRE (p.tenant_id, p.post_id) IS UNIQUE",
    "CREATE CONSTRAINT vision_label IF NOT EXISTS FOR (l:Label) REQUIRE l.name IS UNIQUE",
)

WRITE_POSTS = """
UNWIND $posts AS row
MERGE (p:Post {tenant_id: row.tenant_id, post_id: row.post_id})
WITH p, row
WHERE coalesce(p.vision_emission_time_ms, -1) < row.time_ms
   OR (p.vision_emission_time_ms = row.time_ms AND coalesce(p.vision_emission_offset, -1) <= row.offset)
SET p.vision_emission_time_ms = row.time_ms, p.vision_emission_offset = row.offset,
    p.channel_id = coalesce(row.channel_id, p.channel_id)
RETURN row.index AS index
"""

WRITE_IMAGES = """
UNWIND $images AS row
MERGE (i:ImageContent {tenant_id: row.tenant_id, sha256: row.sha256})
WITH i, row
WHERE i.analyzed_at IS NULL OR i.analyzed_at <= row.properties.analyzed_at
SET i:Image, i += row.properties
WITH i, row
OPTIONAL MATCH (i)-[old:HAS_LABEL]->(label:Label) WHERE NOT label.name IN row.labels
DELETE old
WITH DISTINCT i, row
UNWIND row.labels AS name
MERGE (label:Label {name: name})
MERGE (i)-[has:HAS_LABEL]->(label)
SET has.from_text = name IN row.from_text
"""

WRITE_LINKS = """
UNWIND $links AS row
MATCH (p:Post {tenant_id: row.tenant_id, post_id: row.post_id})
MATCH (i:ImageContent {tenant_id: row.tenant_id, sha256: row.sha256})
MERGE (p)-[r:HAS_IMAGE]->(i)
ON CREATE SET r.created_at = row.at
SET r.trace_id = row.trace_id, r.position = row.position
"""

# A value too large for an index comes as DatabaseError.Statement, as do some faults of the store itself: see _rejected.
RECORD_FAULTS = ("Neo.ClientError.Statement.", "Neo.ClientError.Schema.", "Neo.DatabaseError.Statement.")
CONTROL = "CREATE (c:VisionControl) DELETE c"


class GraphSink(Sink[PostResult]):
    """Writes the graph of analyzed posts; `write` returns the results that the graph now shows."""

    name = "neo4j"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._driver: AsyncDriver | None = None

    async def open(self) -> None:
        """Connect and create the constraints. Raises SinkUnavailable."""
        if self._driver is None:
            self._driver = neo4j_driver(
                self._settings,
                connection_timeout=CONNECT_TIMEOUT_SECONDS,
                connection_acquisition_timeout=2 * CONNECT_TIMEOUT_SECONDS,
                max_transaction_retry_time=RETRY_SECONDS,
            )
        try:
            async with neo4j_session(self._driver, self._settings) as session:
                for statement in CONSTRAINTS:
                    await (await session.run(statement)).consume()
        except (DriverError, Neo4jError, OSError) as fault:
            raise self._unavailable(fault) from fault

    async def close(self) -> None:
        if self._driver is not None:
            await self._driver.close()
            self._driver = None

    async def write(self, batch: Sequence[PostResult]) -> Sequence[PostResult]:
        """Write a batch in one transaction. Posts without an analyzed medium are skipped."""
        if self._driver is None:
            raise SinkUnavailable("the Neo4j sink is not open")
        places = [place for place in winners(batch) if seen(batch[place])]
        drawings = [_drawing(place, batch[place]) for place in places]
        if not drawings:
            return []
        try:
            async with neo4j_session(self._driver, self._settings) as session:
                try:
                    written = await session.execute_write(_draw, drawings)
                except Neo4jError as fault:
                    if not str(fault.code).startswith(RECORD_FAULTS):
                        raise
                    raise await self._rejected(session, drawings, fault) from fault
        except (DriverError, Neo4jError, OSError) as fault:
            raise self._unavailable(fault) from fault
        return [batch[place] for place in places if place in written]

    async def _rejected(self, session: AsyncSession, drawings: Sequence[_Drawing], fault: Neo4jError) -> Exception:
        """Find the record at fault by writing each record alone and rolling back. Returns the error to raise."""
        await (await session.run(CONTROL)).consume()  # the store can write, so a record is at fault
        for drawing in drawings:
            async with await session.begin_transaction() as attempt:
                try:
                    await _draw(attempt, [drawing])
                except Neo4jError as own:
                    if str(own.code).startswith(RECORD_FAULTS):
                        return Rejected(drawing.index, f"Neo4j refuses it: {own.code}: {own.message}")
                    raise
                finally:
                    await attempt.rollback()
        return self._unavailable(fault)

    def _unavailable(self, fault: Exception) -> SinkUnavailable:
        text = f"{neo4j_fault(fault)}, or turn it off with FEATURE_NEO4J_ENABLED=false"
        return SinkUnavailable(f"{self._settings.neo4j_uri}: {text}")


class _Drawing:
    """One post as parameters of the statements."""

    def __init__(self, index: int, result: PostResult) -> None:
        self.index = index
        event, at = result.event, datetime.fromtimestamp((result.completed_ms or result.opened_ms) / 1000, UTC)
        tenant_id, post_id = storable(event.tenant_id), storable(event.post_id)
        self.post = {
            "index": index,
            "tenant_id": tenant_id,
            "post_id": post_id,
            "channel_id": storable(event.channel_id),
            "time_ms": storable(result.emission.time_ms),
            "offset": storable(result.emission.offset),
        }
        found = {item.medium.medium.sha256: item for item in reversed(seen(result))}  # of twins the first
        self.images = [_image(tenant_id, item, at) for item in found.values()]
        self.links = [
            {
                "tenant_id": tenant_id,
                "post_id": post_id,
                "sha256": storable(item.medium.medium.sha256),
                "trace_id": storable(event.trace_id),
                "at": at,
                "position": _position(item, result),
            }
            for item in found.values()
        ]


def _drawing(index: int, result: PostResult) -> _Drawing:
    try:
        return _Drawing(index, result)
    except (TypeError, ValueError, OverflowError, OSError) as fault:
        raise Rejected(index, f"cannot be drawn: {type(fault).__name__}: {fault}") from fault


def _image(tenant_id: str, item: ObservedMedium, at: datetime) -> dict[str, Any]:
    medium, answer, analysis = item.medium.medium, item.outcome.answer, item.analysis
    labels, from_text = _names(analysis.labels), _names(analysis.labels_from_text)
    return {
        "tenant_id": tenant_id,
        "sha256": storable(medium.sha256),
        "labels": sorted(labels),
        "from_text": sorted(from_text),
        "properties": {
            "s3_key": storable(medium.s3_key),
            "mime_type": storable(medium.mime_type),
            "size_bytes": storable(medium.size_bytes),
            "classification": analysis.classification,
            "description": storable(analysis.description),
            "is_meme": analysis.is_meme,
            "provider": answer.provider,
            "model": storable(answer.model),
            "simulated": answer.simulated,
            "analyzed_at": answer.analyzed_at.astimezone(UTC),
            "updated_at": at,
        },
    }


def _names(labels: Iterable[str]) -> set[str]:
    return {name for label in labels if (name := storable(label).strip().lower()[:MAX_LABEL_CHARS])}


def _position(item: ObservedMedium, result: PostResult) -> int:
    return next(index for index, medium in enumerate(result.media) if medium is item.medium)


async def _draw(transaction: Any, drawings: Sequence[_Drawing]) -> set[int]:
    """Run the statements; returns the indices of the posts whose state the graph now shows."""
    answer = await transaction.run(WRITE_POSTS, posts=[drawing.post for drawing in drawings])
    written = {int(record["index"]) async for record in answer}
    current = [drawing for drawing in drawings if drawing.index in written]
    images = _newest(image for drawing in current for image in drawing.images)
    await (await transaction.run(WRITE_IMAGES, images=images)).consume()
    links = [link for drawing in current for link in drawing.links]
    await (await transaction.run(WRITE_LINKS, links=links)).consume()
    return written


def _newest(images: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each picture once, with its latest analysis. Sorted, so that two batches lock in the same order."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for image in images:
        key = (image["tenant_id"], image["sha256"])
        held = best.get(key)
        if held is None or held["properties"]["analyzed_at"] <= image["properties"]["analyzed_at"]:
            best[key] = image
    return [best[key] for key in sorted(best)]
