"""The Redis wire contract: `read.py` reads uploaded posts tolerantly, `announce.py` builds announcements strictly.

Import from here.
"""

from .announce import (
    ANALYZED_EVENT,
    SKIPPED_EVENT,
    announcement,
    enrichments,
    entry_key,
    features_hash,
    reason_of,
    redis_fields,
    reduced,
    status_of,
    vision_of,
)
from .limits import LIMITS, MAX_DEPTH, MAX_MEDIA, MAX_TRACE_CHARS, MEDIUM_LIMITS
from .read import UPLOADED_EVENT, Unreadable, entry_fields, entry_value, read_entry, read_event, read_json

__all__ = [
    "ANALYZED_EVENT",
    "LIMITS",
    "MAX_DEPTH",
    "MAX_MEDIA",
    "MAX_TRACE_CHARS",
    "MEDIUM_LIMITS",
    "SKIPPED_EVENT",
    "UPLOADED_EVENT",
    "Unreadable",
    "announcement",
    "enrichments",
    "entry_fields",
    "entry_key",
    "entry_value",
    "features_hash",
    "read_entry",
    "read_event",
    "read_json",
    "reason_of",
    "redis_fields",
    "reduced",
    "status_of",
    "vision_of",
]
