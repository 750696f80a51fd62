"""The forms of a dead letter, from the whole one to the smallest, which always fits. Pure: no I/O.

`whole`: as it came. `cut`: the start of its value, key, headers and ids, with the size and hash of the whole. `place`:
only where the event is, its hash, its sizes and the reason. `place` has at most PLACE_BYTES for any event. So no
content of an event can prevent its letter.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from pydantic_core import to_json

from vision_app.messages import DeadLetter, Failed, MediaOutcome, Message

CUT_HEADER = "vision-cut"
"""Header of a letter whose value was cut: the size of the whole in bytes. Do not replay such a letter as it is."""
SHA256_HEADER = "vision-sha256"
"""SHA-256 of the original value of a cut letter."""
SIZES_HEADER = "vision-sizes"
"""Original size in bytes of each part of a cut letter."""
WHOLE_HEADER = "vision-whole"
"""Where in S3 the whole letter is, if S3 took it."""

KEPT_CHARACTERS = 100_000
"""Bytes kept of a value that is too large. Escaped and copied, they stay far below the largest record."""
KEPT_HEADERS = 20
CUT_BYTES = 1_000_000
"""Upper bound of a cut letter as a Kafka record with its key and headers."""
PLACE_BYTES = 24_576
"""Upper bound of a `place` letter as a Kafka record with its key and headers."""
ID_BYTES = 1024
"""Bytes kept of an id, as JSON. Ids that the way in accepts are kept whole, except for unusual characters."""
REASON_BYTES = 2048


def original(letter: DeadLetter) -> bytes:
    """The original value."""
    if letter.value_base64 is not None:
        return base64.b64decode(letter.value_base64)
    return (letter.value or "").encode()


def cut(letter: DeadLetter, whole_at: str | None = None) -> DeadLetter:
    """The letter with the start of everything. Its record has at most CUT_BYTES."""
    where = _place_of(letter)
    headers = {
        shortened(name, ID_BYTES): shortened(text, 2 * ID_BYTES)
        for name, text in list(letter.headers.items())[:KEPT_HEADERS]
    }
    return _bounded(letter).model_copy(
        update={
            "value": letter.value and letter.value[:KEPT_CHARACTERS],
            "value_base64": letter.value_base64 and letter.value_base64[:KEPT_CHARACTERS],
            "headers": {**headers, **_about_the_whole(letter, whole_at)},
            "reason": _reason(letter, f"too large to be kept here, read the whole at {whole_at or where}"),
        }
    )


def place(letter: DeadLetter, whole_at: str | None = None) -> DeadLetter:
    """Where the event is, its hash, its sizes and the reason. Its record has at most PLACE_BYTES."""
    where = _place_of(letter)
    return _bounded(letter).model_copy(
        update={
            "value": "",
            "value_base64": None,
            "headers": _about_the_whole(letter, whole_at),
            "reason": _reason(letter, f"too large: only its place is kept, read the whole at {whole_at or where}"),
        }
    )


def smaller(message: Message) -> Message | None:
    """A companion without the parts that its receiver does not need. None: it cannot be made smaller."""
    if not isinstance(message, MediaOutcome):
        return None
    outcome = message.outcome
    letter_id = outcome.dead_letter_id if isinstance(outcome, Failed) else None
    failed = Failed(reason="exception", details={"reduced": True}, dead_letter_id=letter_id)
    return message.model_copy(
        update={"trace_id": shortened(message.trace_id, ID_BYTES), "times": {}, "outcome": failed}
    )


def shortened(text: str, most_bytes: int) -> str:
    """The text, cut to at most `most_bytes` bytes both as plain text and as JSON."""
    if _json_bytes(text) <= most_bytes:
        return text
    for most in (most_bytes, most_bytes // 2, most_bytes // 6):  # a character takes six bytes at most, as JSON
        if _json_bytes(text[:most]) <= most_bytes:
            return text[:most]
    return ""


def _json_bytes(text: str) -> int:
    """Bytes of the text inside a JSON string; never fewer than those of the text itself."""
    try:
        return len(to_json(text)) - 2
    except ValueError:  # lone surrogates: an encoder that accepts them escapes them
        return 6 * len(text)


def _place_of(letter: DeadLetter) -> str:
    return shortened(f"{letter.origin}, partition {letter.partition}, offset {letter.offset}", REASON_BYTES // 4)


def _reason(letter: DeadLetter, more: str) -> str:
    return shortened(letter.reason, REASON_BYTES) + "; " + shortened(more, REASON_BYTES)


def _bounded(letter: DeadLetter) -> DeadLetter:
    """The letter with ids of at most ID_BYTES each."""
    names = ("id", "origin", "offset", "key", "error", "tenant_id", "post_id", "trace_id", "code_version")
    texts: dict[str, Any] = {name: getattr(letter, name) for name in names}
    return letter.model_copy(update={name: text and shortened(text, ID_BYTES) for name, text in texts.items()})


def _about_the_whole(letter: DeadLetter, whole_at: str | None) -> dict[str, str]:
    value = original(letter)
    sizes = {"value": len(value), "headers": sum(len(n) + len(t.encode()) for n, t in letter.headers.items())}
    for name in ("key", "tenant_id", "post_id", "trace_id", "reason"):
        sizes[name] = len((getattr(letter, name) or "").encode("utf-8", "replace"))
    return {
        CUT_HEADER: str(len(value)),
        SHA256_HEADER: hashlib.sha256(value).hexdigest(),
        SIZES_HEADER: " ".join(f"{name}={size}" for name, size in sizes.items() if size),
        **({WHOLE_HEADER: shortened(whole_at, REASON_BYTES)} if whole_at else {}),
    }
