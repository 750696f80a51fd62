"""Every Kafka topic, in one table: name, key, content, retention. Faust creates the changelogs of the tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from . import messages as m


@dataclass(frozen=True)
class Topic:
    """A topic. All have the same partition count and LogAppendTime, which the actors rely on."""

    name: str
    key: str
    model: Any
    retention: Literal["work", "dlq"] = "work"


UPLOADED = Topic("posts.vision.uploaded", "tenant:post", m.Uploaded)
POSTS = Topic("vision.posts", "tenant:post", m.PostCommand)
MEDIA = Topic("vision.media", "tenant:sha256", m.MediaTask)
BUDGET = Topic("vision.budget", "tenant", m.BudgetCommand)
ANALYSIS = Topic("vision.analysis", "tenant:sha256", m.Grant)
SINK_POSTGRES = Topic("vision.sink.postgres", "tenant:post; charges: tenant", m.ForPostgres)
SINK_S3 = Topic("vision.sink.s3", "tenant:post", m.PostResult)
SINK_NEO4J = Topic("vision.sink.neo4j", "tenant:post", m.PostResult)
ANALYZED = Topic("posts.vision.analyzed", "tenant:post", dict[str, Any])
SKIPPED = Topic("posts.vision.skipped", "tenant:post", dict[str, Any])
DLQ = Topic("vision.dlq", "as at the origin", m.DeadLetter, retention="dlq")

ALL = (UPLOADED, POSTS, MEDIA, BUDGET, ANALYSIS, SINK_POSTGRES, SINK_S3, SINK_NEO4J, ANALYZED, SKIPPED, DLQ)

TABLES = ("posts", "budget", "parked")
"""Faust's tables, each with a changelog topic."""

CHANGELOG = {
    "cleanup.policy": "compact",
    "segment.ms": "600000",
    "segment.bytes": "33554432",
    "min.cleanable.dirty.ratio": "0.1",
    "delete.retention.ms": "3600000",
}
"""Rows are rewritten often. Without eager compaction, recovery would replay days of them."""

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""Largest record. A post's result with ten pictures and bounded OCR texts stays under a quarter of it."""


def changelogs(app_id: str) -> Mapping[str, Mapping[str, str]]:
    """The names, as Faust gives them, and the configurations of the tables' topics."""
    return {f"{app_id}-{table}-changelog": CHANGELOG for table in TABLES}


def routes(message: m.Message) -> list[tuple[Topic, bytes]]:
    """The topics of a message and its key in each. This is the only place that knows."""
    match message:
        case m.Opened():
            return [(POSTS, message.event.key)]
        case m.MediaOutcome() | m.Forget() | m.AskAgain():
            return [(POSTS, m.key_of(message.tenant_id, message.post_id))]
        case m.MediaTask():
            return [(MEDIA, m.key_of(message.tenant_id, message.medium.sha256))]
        case m.Grant():
            return [(ANALYSIS, m.key_of(message.task.tenant_id, message.task.medium.sha256))]
        case m.PostResult(status="in_work"):
            return [(SINK_POSTGRES, message.key)]
        case m.PostResult():
            return [(SINK_POSTGRES, message.key), (SINK_S3, message.key), (SINK_NEO4J, message.key)]
        case m.Charged():
            return [(SINK_POSTGRES, m.key_of(message.tenant_id))]
        case m.DeadLetter():
            return [(DLQ, (message.key or message.id).encode())]
        case m.Reserve() | m.Settle() | m.Lost() | m.Release() | m.Load() | m.Wake():
            return [(BUDGET, m.key_of(message.tenant_id))]
        case m.Reset() | m.SetLimit() | m.Pause() | m.Resume() | m.Drop():
            return [(BUDGET, m.key_of(message.tenant_id))]
    raise TypeError(f"no topic for {type(message).__name__}")
