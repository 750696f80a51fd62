"""Shapes of chat answers on the wire: v1 and v2, whole and streamed. They follow recordings, not the specification."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from vision_app.simulator.delivery import Reply
from vision_app.simulator.pricing import Usage

_STREAM_PIECE_CHARS = 24


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer, ready to be shaped."""

    model: str  # with version
    content: str
    finish_reason: str
    usage: Usage


def shape(completion: Completion, version: int, stream: bool) -> Reply:
    """`completion` as API `version` sends it."""
    created = int(time.time())
    if not stream:
        return Reply.json((_v1_whole if version == 1 else _v2_whole)(completion, created))
    pieces = (_v1_stream if version == 1 else _v2_stream)(completion, created)
    return Reply(tuple(pieces), "text/event-stream", {"Cache-Control": "no-cache"})


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + _STREAM_PIECE_CHARS] for at in range(0, len(text), _STREAM_PIECE_CHARS))


def _v1_usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        "precached_prompt_tokens": usage.precached,
    }


def _v1_whole(completion: Completion, created: int) -> dict[str, Any]:
    message = {"content": completion.content, "role": "assistant"}
    return {
        "choices": [{"message": message, "index": 0, "finish_reason": completion.finish_reason}],
        "created": created,
        "model": completion.model,
        "object": "chat.completion",
        "usage": _v1_usage(completion.usage),
    }


def _v1_stream(completion: Completion, created: int) -> Iterator[bytes]:
    common = {"created": created, "model": completion.model, "object": "chat.completion"}
    for text in _pieces(completion.content):
        yield _data({"choices": [{"delta": {"content": text, "role": "assistant"}, "index": 0}], **common})
    last = {"delta": {"content": ""}, "index": 0, "finish_reason": completion.finish_reason}
    yield _data({"choices": [last], **common, "usage": _v1_usage(completion.usage)})
    yield b"data: [DONE]\n\n"


def _v2_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"prompt_tokens": usage.prompt, "cached_tokens": usage.precached},
        "output_tokens": usage.completion,
        "total_tokens": usage.total,
    }


def _v2_whole(completion: Completion, created: int) -> dict[str, Any]:
    return {
        "model": completion.model,
        "created_at": created,
        "messages": [{"role": "assistant", "content": [{"text": completion.content}]}],
        "finish_reason": completion.finish_reason,
        "usage": _v2_usage(completion.usage),
    }


def _v2_stream(completion: Completion, created: int) -> Iterator[bytes]:
    common = {"model": completion.model, "created_at": created}
    for text in _pieces(completion.content):
        messages = [{"role": "assistant", "content": [{"text": text}]}]
        yield _event("response.message.delta", {**common, "messages": messages})
    end = {"finish_reason": completion.finish_reason, "usage": _v2_usage(completion.usage)}
    yield _event("response.message.done", {**common, **end})


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _event(name: str, body: dict[str, Any]) -> bytes:
    return f"event: {name}\n".encode() + _data(body)
