"""W3C trace context: the `traceparent` of a post, derived from its trace id or taken over from its producer.

Our trace ids are texts chosen by producers (`t-1001`, a uuid). The W3C trace id is that of the producer's `traceparent`
if the event has one; else it is derived from our trace id. The id of the post's first span is derived as well. So every
hop and every replay of a post is in the same trace under the same first span, and nothing needs to be stored: a message
that leaves a table long after its post arrived still finds its trace. `spans.py` makes the spans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from vision_app.messages import TRACEPARENT, Grant, Lost, Message, Opened, PostResult, Reserve

HEADER = "traceparent"
_ABOUT: Mapping[type, str] = {Opened: "event", PostResult: "event", Grant: "task", Reserve: "task", Lost: "task"}
"""The field of a message that holds its post's ids; without one, the message itself does."""


def traceparent_for(trace_id: str, producer: str | None = None, *, post: str = "") -> str:
    """The `traceparent` of a post's first span. It is always the same for the same arguments.

    `producer`: the producer's own `traceparent`, whose trace and flags count. Without it the span is marked as sampled.
    """
    encoded = trace_id.encode("utf-8", "surrogatepass")
    span = hashlib.sha256(b"\0".join((encoded, post.encode("utf-8", "surrogatepass")))).hexdigest()[:16]
    if producer:
        return f"{producer[:35]}-{span}-{producer[53:]}"
    return f"00-{hashlib.sha256(encoded).hexdigest()[:32]}-{span}-01"


def root_of(subject: Any) -> str | None:
    """The `traceparent` of the first span of an event's or a task's post; None without a trace id."""
    trace_id = getattr(subject, "trace_id", None)
    if not trace_id:
        return None
    post = f"{subject.tenant_id}\0{subject.post_id}"
    return traceparent_for(trace_id, getattr(subject, "traceparent", None), post=post)


def about(message: Message) -> Any:
    """What holds the ids of a message's post: its event, its task, or the message itself."""
    return getattr(message, _ABOUT.get(type(message), ""), message)


def root_of_message(message: Message) -> str | None:
    """The same for a message; None for a command of an operator or a timer, and for the charge of a call."""
    return root_of(about(message))


def trace_of(traceparent: str) -> str:
    """The W3C trace id, in hexadecimal digits."""
    return traceparent[3:35]


def traceparent_in(headers: Mapping[str, Any] | None) -> str | None:
    """The valid `traceparent` of a record's headers, if there is one."""
    value = (headers or {}).get(HEADER)
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text if isinstance(text, str) and TRACEPARENT.fullmatch(text) else None
