"""The table of the posts actor: one row per post in work or finished less than a day ago."""

from __future__ import annotations

from typing import Any

from vision_app.domain.posts import PostRow
from vision_app.streams.confirmed_table import ConfirmedTable
from vision_app.topics import CHANGELOG


def posts_table(app: Any, partitions: int) -> ConfirmedTable:
    """Key: tenant:post. Value: `domain.posts.PostRow`."""
    table: ConfirmedTable = app.Table(
        "posts",
        key_type=bytes,
        value_type=bytes,
        help="state of each post",
        partitions=partitions,
        extra_topic_configs=CHANGELOG,
    )
    table.model = PostRow
    return table
