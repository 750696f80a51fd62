"""The table of the posts actor: one row per post in work or finished less than a day ago."""

from __future__ import annotations

from typing import Any

from vision_app.domain.posts import PostRow
from vision_app.streams.confirmed_table import ConfirmedTable, changelog_table
from vision_app.streams.packed_store import PACKED


def posts_table(app: Any, partitions: int) -> ConfirmedTable:
    """Key: tenant:post. Value: `domain.posts.PostRow`."""
    return changelog_table(app, "posts", PostRow, partitions, "state of each post", store=PACKED)
