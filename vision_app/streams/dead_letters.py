"""What cannot be processed is kept whole on the topic vision.dlq: bytes, key, headers, origin, and why.

Only what is too large for a record of its own is cut; its letter says so in the header CUT_HEADER, and where to find
the whole.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from vision_app import __version__
from vision_app.messages import DeadLetter, Message
from vision_app.telemetry import metrics

from .outbox import Outbox, Oversized

log = structlog.get_logger(__name__)

CUT_HEADER = "vision-cut"
"""Set on a letter whose value was cut; its value is the size of the whole in bytes. Not to be replayed as it is."""
KEPT_CHARACTERS = 100_000
"""What is kept of a value that is too large: escaped and copied it stays far below the largest record."""


class DeadLetters:
    """Puts events among the dead letters; returning means the broker has them."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def put_event(
        self,
        event: Any,
        fault: BaseException | str,
        *,
        keep_trying: Callable[[], bool],
        companions: Callable[[DeadLetter], Iterable[Message]] = lambda letter: (),
    ) -> DeadLetter:
        """Keep a Kafka event. `companions` are sent along, so that nobody waits for what is dead."""
        at = event.message
        headers = {name: _text(value) for name, value in dict(event.headers or {}).items()}
        letter = dead_letter(
            id=f"{at.topic}-{at.partition}-{at.offset}",
            origin=at.topic,
            partition=at.partition,
            offset=str(at.offset),
            key=_text(event.key) if event.key else None,
            value=event.value or b"",
            headers=headers,
            fault=fault,
            trace_id=headers.get("trace_id"),
            first_seen_ms=int(at.timestamp * 1000),
        )
        await self.put(letter, companions(letter), keep_trying=keep_trying)
        return letter

    async def put(
        self, letter: DeadLetter, companions: Iterable[Message] = (), *, keep_trying: Callable[[], bool]
    ) -> None:
        """Keep a letter that is made already. Companions go first: a crash between repeats both."""
        await self._outbox.send(companions, keep_trying=keep_trying)
        try:
            await self._outbox.send([letter], keep_trying=keep_trying)
        except Oversized:
            await self._outbox.send([_cut(letter)], keep_trying=keep_trying)
        metrics.DEAD_LETTERS.labels(base_event=letter.origin, error_code=letter.error).inc()
        log.error(
            "dead-lettered; look at it with `vision dlq show ID`",
            dead_letter_id=letter.id,
            error=letter.error,
            reason=letter.reason,
        )


def dead_letter(
    *,
    id: str,
    origin: str,
    value: bytes,
    fault: BaseException | str,
    first_seen_ms: int,
    error: str | None = None,
    partition: int | None = None,
    offset: str | None = None,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    attempts: int = 1,
    trace_id: str | None = None,
) -> DeadLetter:
    """Make the record of something that could not be processed. Bytes that are no text are kept in base64."""
    text, encoded = _content(value)
    about = _about(text)
    return DeadLetter(
        value=text,
        value_base64=encoded,
        id=id,
        origin=origin,
        partition=partition,
        offset=offset,
        key=key,
        headers=dict(headers or {}),
        error=error or (type(fault).__name__ if isinstance(fault, BaseException) else "rejected"),
        reason=_text(str(fault)[:2000].encode("utf-8", "replace")),
        attempts=attempts,
        tenant_id=about.get("tenant_id"),
        post_id=about.get("post_id"),
        trace_id=trace_id or about.get("trace_id"),
        first_seen_ms=first_seen_ms,
        last_seen_ms=int(time.time() * 1000),
        code_version=__version__,
    )


def _content(value: bytes) -> tuple[str | None, str | None]:
    """The value as text, or else in base64."""
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(value).decode()


def _cut(letter: DeadLetter) -> DeadLetter:
    size = len((letter.value or letter.value_base64 or "").encode())
    where = f"{letter.origin}, partition {letter.partition}, offset {letter.offset}"
    return letter.model_copy(
        update={
            "value": letter.value and letter.value[:KEPT_CHARACTERS],
            "value_base64": letter.value_base64 and letter.value_base64[:KEPT_CHARACTERS],
            "key": letter.key and letter.key[:1000],
            "headers": {
                **{name: text[:1000] for name, text in list(letter.headers.items())[:20]},
                CUT_HEADER: str(size),
            },
            "reason": f"{letter.reason}; too large to be kept here, read the whole at {where}",
        }
    )


def _about(text: str | None) -> dict[str, str]:
    """Whose message it was, as far as that can be told."""
    try:
        body = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    places = [body, *(body.get(name) for name in ("event", "task", "data"))] if isinstance(body, dict) else []
    found = {}
    for place in places:
        place = _opened(place)
        for name in ("tenant_id", "post_id", "trace_id"):
            if name not in found and isinstance(place.get(name), str):
                found[name] = _text(place[name].encode("utf-8", "replace"))
    return found


def _opened(place: Any) -> dict[str, Any]:
    """An object that may have travelled as a JSON string: the field `data` of a Redis entry."""
    if isinstance(place, str):
        try:
            place = json.loads(place)
        except (ValueError, RecursionError):
            return {}
    return place if isinstance(place, dict) else {}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
