"""Keeps what cannot be processed, whole, on the topic vision.dlq: bytes, key, headers, origin, and the reason.

Only what is too large for one record is cut (`letter_forms.py`). The header CUT_HEADER marks such a letter; another
header says where in S3 the whole is, if S3 took it in time. No content of an event can prevent its letter: a part that
fails because of the event is replaced by something smaller. Other failures are raised.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from vision_app import __version__
from vision_app.messages import DeadLetter, Message
from vision_app.telemetry import metrics, spans
from vision_app.telemetry.logging import bind

from . import letter_forms
from .faust_seams import Event
from .letter_forms import CUT_HEADER, REASON_BYTES, WHOLE_HEADER
from .letter_ids import ids_of
from .outbox import Outbox, Oversized

__all__ = ["CUT_HEADER", "WHOLE_HEADER", "DeadLetters", "dead_letter"]

log = structlog.get_logger(__name__)

WHOLE_SECONDS = 5.0
"""How long a cut letter waits for S3 to store the whole. After that it is written without a link to it."""

KeepWhole = Callable[[str, bytes], Awaitable[str]]
"""(letter id, the whole letter as JSON) -> where it is now."""


class DeadLetters:
    """Writes events to the dead letters. When a method returns, the broker has the letter.

    Raises LeftUnacked when Kafka does not take the letter and the event is no longer ours. Any other error is not
    caused by the event.
    """

    def __init__(
        self, outbox: Outbox, keep_whole: KeepWhole | None = None, *, whole_seconds: float = WHOLE_SECONDS
    ) -> None:
        self._outbox, self._keep_whole, self._whole_seconds = outbox, keep_whole, whole_seconds

    async def put_event(
        self,
        event: Event,
        fault: BaseException | str,
        *,
        keep_trying: Callable[[], bool],
        companions: Callable[[DeadLetter], Iterable[Message]] = lambda _: (),
    ) -> DeadLetter:
        """Keep a Kafka event. `companions` are sent along, so that nothing waits for the event."""
        letter = _letter_of(event, fault)
        await self.put(letter, _companions_of(companions, letter), keep_trying=keep_trying)
        return letter

    async def put(
        self, letter: DeadLetter, companions: Iterable[Message] = (), *, keep_trying: Callable[[], bool]
    ) -> None:
        """Keep a finished letter. Companions are sent first: after a crash in between, both are sent again."""
        spans.failed(letter.error)
        with bind(**ids_of(letter)):
            for companion in companions:
                await self._send_companion(companion, letter, keep_trying)
            await self._send_letter(letter, keep_trying)
            metrics.DEAD_LETTERS.labels(base_event=letter.origin, error_code=letter.error).inc()
            log.error(
                "dead_lettered",
                dead_letter_id=letter.id,
                error=letter.error,
                reason=letter.reason,
                remedy=f"vision dlq show {letter.id}",
            )

    async def _send_letter(self, letter: DeadLetter, keep_trying: Callable[[], bool]) -> None:
        try:
            await self._outbox.send([letter], keep_trying=keep_trying)
            return
        except Oversized:
            metrics.ENDINGS_REDUCED.labels(what="letter").inc()
        whole_at = await self._keep(letter)
        try:
            await self._outbox.send([letter_forms.cut(letter, whole_at)], keep_trying=keep_trying)
        except Oversized:
            await self._outbox.send([letter_forms.place(letter, whole_at)], keep_trying=keep_trying)

    async def _keep(self, letter: DeadLetter) -> str | None:
        """Put the whole letter into S3. Returns where it is; None if S3 does not take it in time."""
        if self._keep_whole is None:
            return None
        try:
            async with asyncio.timeout(self._whole_seconds):
                kept_at = await self._keep_whole(letter.id, letter.encode())
        except Exception as fault:  # noqa: BLE001 - on any error of S3: the letter must not wait for it
            metrics.WHOLE_LETTERS.labels(result="failed").inc()
            log.warning(
                "dead_letter_not_stored_in_s3",
                dead_letter_id=letter.id,
                error=repr(fault)[:REASON_BYTES],
            )
            return None
        metrics.WHOLE_LETTERS.labels(result="kept").inc()
        return kept_at

    async def _send_companion(self, companion: Message, letter: DeadLetter, keep_trying: Callable[[], bool]) -> None:
        try:
            await self._outbox.send([companion], keep_trying=keep_trying)
            return
        except (Oversized, ValueError) as fault:
            metrics.ENDINGS_REDUCED.labels(what="companion").inc()
            less, refused = letter_forms.smaller(companion), fault
        try:
            if less is not None:
                await self._outbox.send([less], keep_trying=keep_trying)
                return
        except (Oversized, ValueError) as fault:
            refused = fault
        # nothing waits for this message: ids that the way in accepts always fit into a record
        log.error(
            "dead_letter_companion_not_sent",
            dead_letter_id=letter.id,
            message=type(companion).__name__,
            error=repr(refused)[:REASON_BYTES],
            remedy="see the letter with `vision dlq show`; a post that waits: `vision replay --post`",
        )


def _letter_of(event: Event, fault: BaseException | str) -> DeadLetter:
    """The letter about a Kafka event. If the event or the error cannot be read, it names only the place."""
    at = event.message
    origin = Origin(
        id=f"{at.topic}-{at.partition}-{at.offset}",
        name=at.topic,
        partition=at.partition,
        offset=str(at.offset),
        first_seen_ms=int(at.timestamp * 1000),
    )
    try:
        headers = {str(name): _text(value) for name, value in dict(event.headers or {}).items()}
        return dead_letter(
            origin,
            event.value or b"",
            fault,
            key=_text(event.key) if event.key else None,
            headers=headers,
            trace_id=headers.get("trace_id"),
        )
    except Exception as unexpected:
        metrics.UNEXPECTED_ERRORS.labels(where="dead_letters").inc()
        log.exception("dead_letter_reduced", **vars(origin))
        reason = f"{type(unexpected).__name__} while the letter of a {type(fault).__name__} was made"
        return dead_letter(origin, b"", reason, error=type(fault).__name__)


def _companions_of(companions: Callable[[DeadLetter], Iterable[Message]], letter: DeadLetter) -> list[Message]:
    """The companions of the letter. Empty if making them raises: the event causes that error, too."""
    try:
        return list(companions(letter))
    except Exception:
        metrics.UNEXPECTED_ERRORS.labels(where="dead_letters").inc()
        log.exception(
            "dead_letter_companions_not_built",
            dead_letter_id=letter.id,
            remedy="see the letter with `vision dlq show`; a post that waits: `vision replay --post`",
        )
        return []


@dataclass(frozen=True)
class Origin:
    """Where a message was: a topic or a Redis stream (`name`), and its place there. `id` is unique among all."""

    id: str
    name: str
    first_seen_ms: int
    partition: int | None = None
    offset: str | None = None


def dead_letter(
    origin: Origin,
    value: bytes,
    fault: BaseException | str,
    *,
    error: str | None = None,
    key: str | None = None,
    headers: Mapping[str, str] | None = None,
    attempts: int = 1,
    trace_id: str | None = None,
) -> DeadLetter:
    """Make the letter of something that could not be processed. Bytes that are not UTF-8 are kept in base64.

    `error` is a short name for the kind of fault; by default the exception's, or `rejected`.
    """
    text, encoded = _content(value)
    about = _about(text)
    return DeadLetter(
        value=text,
        value_base64=encoded,
        id=origin.id,
        origin=origin.name,
        partition=origin.partition,
        offset=origin.offset,
        key=key,
        headers=dict(headers or {}),
        error=error or (type(fault).__name__ if isinstance(fault, BaseException) else "rejected"),
        reason=_text(str(fault)[:2000].encode("utf-8", "replace")),
        attempts=attempts,
        tenant_id=about.get("tenant_id"),
        post_id=about.get("post_id"),
        trace_id=trace_id or about.get("trace_id"),
        first_seen_ms=origin.first_seen_ms,
        last_seen_ms=int(time.time() * 1000),
        code_version=__version__,
    )


def _content(value: bytes) -> tuple[str | None, str | None]:
    """The value as text, or in base64 if it is not UTF-8."""
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(value).decode()


def _about(text: str | None) -> dict[str, str]:
    """Tenant, post and trace id of the message, as far as they can be read."""
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
    """An object that may be encoded as a JSON string: the field `data` of a Redis entry."""
    if isinstance(place, str):
        try:
            place = json.loads(place)
        except (ValueError, RecursionError):
            return {}
    return place if isinstance(place, dict) else {}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
