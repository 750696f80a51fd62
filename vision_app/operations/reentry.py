"""Decides where and as what message a dead letter is sent again. Pure: letter in, reentry out.

A letter goes back to its origin, with three exceptions. Work that had reached the budget or a call starts again before
the budget, since an old grant must never be used twice; but the report of a call that was cut off goes to the budget,
since it closes its grant, which would otherwise hold one of the tenant's places for a day. Work for a post that is no
longer open starts again as the whole post, since its outcome would find no open post. An operator's command about a
budget is not repeated, since it would undo newer commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vision_app import topics
from vision_app.domain.posts import FORGET_AFTER_MS
from vision_app.events import Unreadable, entry_fields, read_entry, read_json
from vision_app.messages import (
    REPLAY_HEADER,
    BudgetCommand,
    DeadLetter,
    Drop,
    Grant,
    Lost,
    MediaTask,
    Medium,
    Message,
    Opened,
    Pause,
    PostCommand,
    Reset,
    Resume,
    SetLimit,
    decode,
)
from vision_app.streams.dead_letters import CUT_HEADER, WHOLE_HEADER
from vision_app.texts import say

from .letters import content

STALE_MS = FORGET_AFTER_MS - 60 * 60 * 1000
"""When the letter is older than this, the posts actor may have dropped the post. An hour less, for work under way."""

_AS_IT_WAS = frozenset(topic.name for topic in topics.ALL) - {topics.ANALYSIS.name, topics.DLQ.name}


class CannotReplay(Exception):
    """This letter cannot be replayed unchanged. The message says what to do instead."""


@dataclass(frozen=True)
class Reentry:
    """Into a topic (`key`, `value`) or a Redis stream (`fields`). `media`: the media it may ask about, to bound its
    cost.

    `whole_post`: send the post's own event instead, made from its row.
    """

    destination: str
    key: bytes | None = None
    value: bytes = b""
    fields: Mapping[str | bytes, str | bytes] | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    media: tuple[tuple[str, Medium, bool], ...] = ()
    whole_post: bool = False


def reentry(letter: DeadLetter, *, input_streams: tuple[str, ...], default_tenant: str, now_ms: int) -> Reentry:
    """How a letter is sent again. Raises CannotReplay."""
    if CUT_HEADER in letter.headers:
        where = letter.headers.get(WHOLE_HEADER, say("its origin"))
        raise CannotReplay(
            say("its value was too large to be kept; read the whole at {where}, or discard it", where=where)
        )
    if letter.origin in input_streams:
        return _into_redis(letter, default_tenant)
    value = content(letter)
    work = _work(letter.origin, value)
    task = work if isinstance(work, MediaTask) else getattr(work, "task", None)
    if isinstance(task, MediaTask):
        if now_ms - letter.last_seen_ms >= STALE_MS:
            return _whole_post(letter)
        again = task.model_copy(update={"attempt": 1})
        message = work.model_copy(update={"task": again}) if isinstance(work, Lost) else again
        [(topic, message_key)] = topics.routes(message)
        headers = _headers(letter, message.type)
        return Reentry(topic.name, message_key, message.encode(), headers=headers, media=_asks(again))
    if isinstance(work, Reset | SetLimit | Pause | Resume | Drop):
        raise CannotReplay(
            say("a command of an operator; others may have followed: give it again if need be, and discard it")
        )
    if letter.origin not in _AS_IT_WAS:
        raise CannotReplay(say("nothing in it could be sent to {origin} again; discard it", origin=letter.origin))
    if letter.origin == topics.POSTS.name and letter.error == "rejected":
        return _whole_post(letter)
    key = letter.key.encode() if letter.key is not None else None
    return Reentry(letter.origin, key, value, headers=_headers(letter), media=_listed(letter, value, default_tenant))


def _into_redis(letter: DeadLetter, default_tenant: str) -> Reentry:
    fields = entry_fields(content(letter))
    if not fields:
        raise CannotReplay(say("the entry was trimmed from its stream before it could be kept; discard it"))
    try:
        event = read_entry(fields, default_tenant=default_tenant)
        media = tuple((event.tenant_id, medium, False) for medium in event.media_files)
    except Unreadable:
        media = ()  # it will come back, and cost nothing
    return Reentry(letter.origin, fields=fields, media=media)


def _whole_post(letter: DeadLetter) -> Reentry:
    if not letter.tenant_id or not letter.post_id:
        raise CannotReplay(
            say("its post is not named and no longer held open; use `vision replay --since … --until …`")
        )
    return Reentry(topics.UPLOADED.name, headers=_headers(letter, "posts.vision.uploaded"), whole_post=True)


def _work(origin: str, value: bytes) -> Message | None:
    """The message of media, budget or analysis; None if it cannot be read, or is of another topic."""
    models = {topics.MEDIA.name: MediaTask, topics.BUDGET.name: BudgetCommand, topics.ANALYSIS.name: Grant}
    if origin not in models:
        return None
    try:
        message: Message = decode(models[origin], value)
    except ValueError:
        return None
    return message


def _asks(task: MediaTask) -> tuple[tuple[str, Medium, bool], ...]:
    return ((task.tenant_id, task.medium, task.force),)


def _listed(letter: DeadLetter, value: bytes, default_tenant: str) -> tuple[tuple[str, Medium, bool], ...]:
    """The media that a post's own message lists; other messages ask for none."""
    event, force = None, False
    try:
        if letter.origin == topics.UPLOADED.name:
            event = read_json(value, default_tenant=default_tenant)
        elif letter.origin == topics.POSTS.name and isinstance(opened := decode(PostCommand, value), Opened):
            event, force = opened.event, opened.force
    except ValueError:
        return ()  # it will come back, and cost nothing
    return tuple((event.tenant_id, medium, force) for medium in event.media_files) if event else ()


def _headers(letter: DeadLetter, type_: str | None = None) -> dict[str, bytes]:
    kept: dict[str, Any] = {**letter.headers, REPLAY_HEADER: letter.id}
    if type_ is not None:
        kept["type"] = type_
    if letter.trace_id:
        kept.setdefault("trace_id", letter.trace_id)
    return {name: str(text).encode() for name, text in kept.items()}
