"""The table of the posts actor: one row per post in work or finished less than a day ago."""

from __future__ import annotations

from typing import Any

from vision_app.streams.confirmed_table import ConfirmedTable

CHANGELOG = {
    "cleanup.policy": "compact",
    "segment.ms": "600000",
    "segment.bytes": "33554432",
    "min.cleanable.dirty.ratio": "0.1",
    "delete.retention.ms": "3600000",
}
"""Rows are rewritten often: compact eagerly, or recovery replays days of them."""


def posts_table(app: Any, partitions: int) -> ConfirmedTable:
    """Key: tenant:post. Value: `domain.posts.PostRow`."""
    table: ConfirmedTable = app.Table(
        "posts", key_type=bytes, help="state of each post", partitions=partitions, extra_topic_configs=CHANGELOG
    )
    return table
