"""Reads an entry of an input stream once: its tenant decides whose turn it is, its value goes to Kafka later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from vision_app.events import Unreadable, read_entry
from vision_app.messages import Uploaded
from vision_app.streams.letter_ids import NAMES, ids_in
from vision_app.telemetry import metrics

from .reply_size import size_of

log = structlog.get_logger(__name__)

Fields = Mapping[bytes, bytes]


@dataclass(frozen=True)
class UploadedRecord:
    """The record of `posts.vision.uploaded` that an entry becomes. `value` is its JSON."""

    event_type: str
    tenant_id: str
    post_id: str
    trace_id: str
    key: bytes
    value: bytes
    traceparent: str | None = None
    """The producer's."""


@dataclass(frozen=True)
class EntryContent:
    """An entry's fields, for a dead letter, and its record. If it cannot be read: the error instead of the record."""

    fields: Fields
    record: UploadedRecord | Unreadable

    @property
    def size_bytes(self) -> int:
        return size_of(self.fields) + (len(self.record.value) if isinstance(self.record, UploadedRecord) else 0)


def read_content(
    stream: str, entry: bytes, fields: Fields, default_tenant: str, read: Callable[..., Uploaded] = read_entry
) -> EntryContent:
    """Read an entry. Never raises: an entry that causes an unexpected error is dead-lettered, and the others go on."""
    try:
        event = read(fields, default_tenant=default_tenant, entry_id=entry.decode())
        sourced = event.model_copy(update={"source_stream": stream, "source_entry_id": entry.decode()})
        record = UploadedRecord(
            event.event_type,
            event.tenant_id,
            event.post_id,
            event.trace_id,
            event.key,
            sourced.encode(),
            event.traceparent,
        )
        return EntryContent(fields, record)
    except Unreadable as fault:
        return EntryContent(fields, fault.with_traceback(None))
    except Exception as fault:
        metrics.UNEXPECTED_ERRORS.labels(where="redis_in").inc()
        log.exception("entry_read_failed", stream=stream, stream_id=entry.decode(), **ids_of_entry(fields))
        return EntryContent(fields, Unreadable(f"{type(fault).__name__}: {fault}"))


def ids_of_entry(fields: Fields) -> dict[str, str]:
    """What an entry says of its ids, for the log."""
    own = {name: value.decode("utf-8", "replace") for name in NAMES if (value := fields.get(name.encode()))}
    return ids_in(fields.get(b"data") or fields.get(b"payload")) | own
