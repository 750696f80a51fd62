"""For programs that publish posts and read what was seen on their pictures. See docs/client.md.

`AsyncVision` in asyncio programs, `Vision` in others. Both take the settings from the environment, as the commands do.
"""

from vision_app.events.public import AnalyzedEvent, Enrichment, SkippedEvent
from vision_app.messages import Medium
from vision_app.web.models import LivePostAnswer, PostAnswer
from vision_app.web.post_models import ListedPost

from .asynchronous import AsyncVision, Published
from .errors import ApiRefused, NotAnnounced, PictureRefused, ServiceAway, VisionError
from .synchronous import Vision

__all__ = [
    "AnalyzedEvent",
    "ApiRefused",
    "AsyncVision",
    "Enrichment",
    "ListedPost",
    "LivePostAnswer",
    "Medium",
    "NotAnnounced",
    "PictureRefused",
    "PostAnswer",
    "Published",
    "ServiceAway",
    "SkippedEvent",
    "Vision",
    "VisionError",
]
