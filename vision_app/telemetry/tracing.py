"""W3C trace context for messages and requests: the `traceparent` that belongs to one of our trace ids.

Our trace ids are texts chosen by producers (`t-1001`, a uuid). The W3C id is derived from them. So every hop and every
replay of a post is in the same trace, and nothing needs to be stored. No spans are exported from here.
"""

from __future__ import annotations

import hashlib
import re
import secrets

_TRACEPARENT = re.compile(r"00-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})")


def traceparent_for(trace_id: str) -> str:
    """The root `traceparent` of a trace id: always the same for the same id, marked as sampled."""
    digest = hashlib.sha256(trace_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"


def child(traceparent: str) -> str:
    """A new span under `traceparent`: same trace and flags, new id. Raises ValueError if it is none."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or not int(match["trace"], 16) or not int(match["parent"], 16):
        raise ValueError(f"not a W3C traceparent: {traceparent!r}; make one with traceparent_for(trace_id)")
    return f"00-{match['trace']}-{secrets.token_hex(8)}-{match['flags']}"
