"""Reads a chat request of API v1 or v2 into one form and checks it by the vendor's rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from vision_app.simulator import catalogue
from vision_app.simulator.errors import api_error, invalid

_ROLES = {1: ("system", "user", "assistant", "function"), 2: ("system", "user", "assistant", "tool")}


@dataclass(frozen=True, slots=True)
class Message:
    """One message: the role, the text, the ids of the attached files."""

    role: str
    text: str
    attachments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request, the same for both versions of the API."""

    version: int
    model: str
    messages: tuple[Message, ...]
    max_tokens: int | None
    stream: bool
    schema: dict[str, Any] | None = None  # of the JSON that the answer must be

    @property
    def prompt(self) -> str:
        return "\n".join(f"{message.role}: {message.text}" for message in self.messages)


async def read_json(request: web.Request) -> dict[str, Any]:
    """The JSON object in the body. Raises ApiError 400 or 413."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise api_error(400, "Invalid JSON") from None
    except web.HTTPRequestEntityTooLarge:
        raise api_error(413) from None
    if not isinstance(body, dict):
        raise api_error(400, "JSON object expected")
    return body


def parse(body: dict[str, Any], version: int) -> ChatRequest:
    """Read a chat request. Raises ApiError: 404 unknown model, 422 anything else."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise invalid("model is required")
    options = body if version == 1 else _object(body.get("model_options", {}), "model_options")
    request = ChatRequest(
        version=version,
        model=catalogue.chat_model(body["model"]),
        messages=_messages(body.get("messages"), version),
        max_tokens=_max_tokens(options),
        stream=body.get("stream") is True,
        schema=_schema(options),
    )
    _check_number(options, "temperature")
    _check_number(options, "top_p")
    return request


def _messages(value: Any, version: int) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise invalid("messages must be a non-empty list")
    messages = tuple(_message(_object(item, "message"), version) for item in value)
    if any(message.role == "system" for message in messages[1:]):
        raise invalid("system message must be the first message")
    return messages


def _message(item: dict[str, Any], version: int) -> Message:
    role = item.get("role")
    if role not in _ROLES[version]:
        raise invalid(f"unknown role {role!r}"[:100])
    if version == 1:
        content = item.get("content", "")
        if not isinstance(content, str):
            raise invalid("content must be a string")
        return Message(role, content, _ids(item.get("attachments") or []))
    parts = item.get("content") or []
    parts = [{"text": parts}] if isinstance(parts, str) else parts
    if not isinstance(parts, list):
        raise invalid("content must be a list of parts")
    return _from_parts(role, [_object(part, "content part") for part in parts])


def _from_parts(role: str, parts: list[dict[str, Any]]) -> Message:
    text = "\n".join(str(part["text"]) for part in parts if "text" in part)
    files: list[Any] = []
    for part in parts:
        listed = part.get("files") or []
        if not isinstance(listed, list):
            raise invalid("files must be a list")
        files += [_object(file, "file").get("id") for file in listed]
    return Message(role, text, _ids(files))


def _ids(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise invalid("attachments must be a list of file ids")
    return tuple(value)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"{name} must be an object")
    return value


def _max_tokens(options: dict[str, Any]) -> int | None:
    value = options.get("max_tokens")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise invalid("max_tokens must be a positive integer")
    return value


def _schema(options: dict[str, Any]) -> dict[str, Any] | None:
    wish = options.get("response_format")
    if wish is None:
        return None
    kind = _object(wish, "response_format").get("type")
    if kind == "text":
        return None
    if kind != "json_schema":
        raise invalid("response_format.type must be text or json_schema")
    return _object(wish.get("schema"), "response_format.schema")


def _check_number(options: dict[str, Any], name: str) -> None:
    value = options.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
        raise invalid(f"{name} must be a number and not negative")
