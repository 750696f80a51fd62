"""Which posts the demo sends and how each must end. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from vision_app.events import ANALYZED_EVENT, SKIPPED_EVENT
from vision_app.messages import Kind, PostStatus

MISSING_REASON = "s3_missing"


@dataclass(frozen=True)
class Picture:
    """A file of `demo_media`, and the kind that the simulator must see. Without a kind it is never uploaded."""

    file: str
    kind: Kind | None

    @property
    def is_uploaded(self) -> bool:
        return self.kind is not None

    @property
    def mime_type(self) -> str:
        return "image/png" if self.file.endswith(".png") else "image/jpeg"


ASTRONAUT = Picture("photo_astronaut.jpg", "photo")
CAT = Picture("photo_cat.jpg", "photo")
COFFEE = Picture("photo_coffee.jpg", "photo")
ROCKET = Picture("photo_rocket.jpg", "photo")
MEME = Picture("meme_cat.jpg", "meme")
ACT = Picture("document_act.png", "document")
CHAT = Picture("screenshot_chat.png", "screenshot")
BARS = Picture("infographic_bars.png", "infographic")
LOST = Picture("never_uploaded.jpg", None)


@dataclass(frozen=True)
class PlannedPost:
    """One post. It is published once per trace; with any number of traces it must be announced exactly once."""

    name: str
    tenant_id: str
    post_id: str
    pictures: tuple[Picture, ...]
    trace_ids: tuple[str, ...]

    @property
    def found(self) -> tuple[Picture, ...]:
        """The pictures that are uploaded and can be analyzed."""
        return tuple(picture for picture in self.pictures if picture.is_uploaded)

    @property
    def status(self) -> PostStatus:
        """The expected status of the row: all pictures analyzed, some, or none."""
        if not self.found:
            return "skipped"
        return "ok" if len(self.found) == len(self.pictures) else "partial"

    @property
    def event_type(self) -> str:
        return ANALYZED_EVENT if self.found else SKIPPED_EVENT


_POSTS: tuple[tuple[str, str, tuple[Picture, ...], int], ...] = (
    # name, tenant, pictures, how often it is published
    ("photo", "a", (CAT,), 1),
    ("meme", "a", (MEME,), 1),
    ("document", "a", (ACT,), 1),
    ("screenshot", "a", (CHAT,), 1),
    ("repeated", "a", (BARS,), 2),
    ("album", "b", (ASTRONAUT, COFFEE, ROCKET), 1),
    ("five", "b", (CHAT, MEME, CHAT, LOST, ACT), 1),
    ("missing", "b", (LOST,), 1),
    ("seen-before", "b", (ROCKET,), 1),
)


def plan(run: str) -> tuple[PlannedPost, ...]:
    """The posts of one run. Tenants carry the run's name, so that every run gets its own answers."""
    return tuple(
        PlannedPost(
            name=name,
            tenant_id=f"demo-{tenant}-{run}",
            post_id=f"{run}-{name}",
            pictures=pictures,
            trace_ids=tuple(f"demo_{run}_{name}_{number}" for number in range(1, times + 1)),
        )
        for name, tenant, pictures, times in _POSTS
    )


def tenants(posts: Iterable[PlannedPost]) -> list[str]:
    return list(dict.fromkeys(post.tenant_id for post in posts))


def calls_expected(posts: Iterable[PlannedPost]) -> Counter[str]:
    """How many provider calls each tenant has to pay for: one per picture, however often it is posted."""
    pictures = {(post.tenant_id, picture.file) for post in posts for picture in post.found}
    return Counter(tenant for tenant, _ in pictures)
