"""The sink that keeps one JSON document per finished post in S3, for readers that have no database.

Which emission a document shows is in its metadata. It is safe to read it first and then write, because all results of a
post come on one partition. During a rebalance the new owner writes the same results again, after the old one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from vision_app import events
from vision_app.messages import Emission, PostResult
from vision_app.settings import Settings

from .base import Rejected, Sink, SinkUnavailable
from .keys import post_key
from .ordering import seen, winners
from .s3 import ObjectMissing, S3Error, S3Store
from .text import storable

CONCURRENT_PUTS = 8
JSON_TYPE = "application/json"


class PostDocumentSink(Sink[PostResult]):
    """Writes `vision/{tenant}/posts/{post}.json`; `write` returns the results that the documents now show."""

    name = "s3"

    def __init__(self, settings: Settings, store: S3Store | None = None) -> None:
        self._store = store or S3Store(settings)
        self._owned = store is None
        self._slots = asyncio.Semaphore(CONCURRENT_PUTS)

    async def open(self) -> None:
        """Connect and check that the bucket may be used. Raises SinkUnavailable."""
        try:
            await self._store.open()
            await self._store.ensure_bucket()
        except S3Error as fault:
            raise SinkUnavailable(str(fault)) from fault

    async def close(self) -> None:
        if self._owned:
            await self._store.close()

    async def write(self, batch: Sequence[PostResult]) -> Sequence[PostResult]:
        """Write the documents side by side. After SinkUnavailable some may be written; all are written again."""
        places = winners(batch)
        documents = [_document(place, batch[place]) for place in places]
        writes = (self._write(batch[place], document) for place, document in zip(places, documents, strict=True))
        written = await asyncio.gather(*writes, return_exceptions=True)
        for fault in written:
            if isinstance(fault, S3Error):
                raise SinkUnavailable(str(fault)) from fault
            if isinstance(fault, BaseException):
                raise fault
        return [batch[place] for place, done in zip(places, written, strict=True) if done]

    async def _write(self, result: PostResult, document: bytes) -> bool:
        key = post_key(result.event.tenant_id, result.event.post_id)
        metadata = {"emission": str(result.emission), "analyzed": str(len(seen(result)))}
        async with self._slots:
            if not await self._replaceable(key, result):
                return False
            await self._store.put(key, document, JSON_TYPE, metadata)
            return True

    async def _replaceable(self, key: str, result: PostResult) -> bool:
        try:
            stored = (await self._store.head(key)).metadata
        except ObjectMissing:
            return True
        if stored.get("analyzed", "0") != "0" and not seen(result):
            return False
        time_ms, _, offset = stored.get("emission", "").partition("-")
        if not (time_ms.isdecimal() and offset.isdecimal()):
            return True  # not written by us, or the store drops metadata
        return not result.emission < Emission(time_ms=int(time_ms), offset=int(offset))


def _document(index: int, result: PostResult) -> bytes:
    """The document of a post. Raises Rejected if it cannot be written as JSON."""
    try:
        return orjson.dumps(storable(document_of(result)), option=orjson.OPT_INDENT_2)
    except (TypeError, ValueError, RecursionError) as fault:
        raise Rejected(index, f"cannot be written as JSON: {type(fault).__name__}: {fault}") from fault


def document_of(result: PostResult) -> dict[str, Any]:
    """Everything known of a finished post: its event, its answers, why media have no answer, and the times."""
    event = result.event
    return {
        "schema_version": "1.0",
        "tenant_id": event.tenant_id,
        "post_id": event.post_id,
        "trace_id": event.trace_id,
        "emission": str(result.emission),
        "status": result.status,
        "enrichments": events.enrichments(result.media),
        "result": result.model_dump(mode="json", exclude_none=True),
    }
