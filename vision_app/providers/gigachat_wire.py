"""The wire format of GigaChat, without network access: request bodies, headers, and the meaning of replies.

API v1 (`/files`, `/chat/completions`). The facts come from recordings of the live service. Where the vendor's document
differs, the recordings are followed.
"""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import orjson

from vision_app import __version__
from vision_app.providers.base import (
    AccountBlocked,
    CallTrace,
    InputFault,
    ProviderError,
    ProviderOutage,
    RateLimited,
)

USER_AGENT = f"vision-app/{__version__}"  # without one the vendor's gateway answers 403
MAX_RETRY_AFTER_SECONDS = 300.0
_MAX_HEADER_CHARS = 128
_EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/tiff": "tiff",
    "image/bmp": "bmp",
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/epub+zip": "epub",
    "text/plain": "txt",
}
_FILE = re.compile(r"file|attach|файл", re.IGNORECASE)
_TOTAL_TOKENS = re.compile(rb'"total_tokens"\s*:\s*(\d{1,9})')


@dataclass(frozen=True)
class Reply:
    """A complete HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body, or None if it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @property
    def message(self) -> str:
        """The server's own words about an error, bounded, for logs and error texts."""
        body = self.json()
        text = body.get("message") if isinstance(body, dict) else None
        return str(text or self.body[:200].decode("utf-8", "replace"))[:200]

    @property
    def retry_after_seconds(self) -> float | None:
        """Retry-After, given in seconds or as a date, bounded; None if absent or unreadable."""
        value = self.headers.get("Retry-After", "").strip()
        seconds = float(value) if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value) else self._until(value)
        return None if seconds is None else min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)

    def _until(self, date: str) -> float | None:
        try:
            moment = parsedate_to_datetime(date)
        except ValueError:
            return None
        now = self.server_time or datetime.now(UTC)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()

    @property
    def server_time(self) -> datetime | None:
        """The server's clock, to which its other times refer."""
        try:
            return parsedate_to_datetime(self.headers.get("Date", ""))
        except ValueError:
            return None


def unmasked(reply: Reply) -> Reply:
    """The reply with its real status: some errors came in the body of an HTTP 200."""
    body = reply.json() if reply.ok and len(reply.body) < 4096 else None
    status = body.get("status") if isinstance(body, dict) and "choices" not in body else None
    return Reply(status, reply.headers, reply.body) if isinstance(status, int) and status >= 400 else reply


def error_of(reply: Reply) -> ProviderError:
    """The error for a refusal. All these requests were refused before any work was done."""
    status, said = reply.status, f"HTTP {reply.status}: {reply.message}"
    if status == 429:
        return RateLimited(f"too many requests in flight ({said})", reply.retry_after_seconds)
    if status == 401:
        return AccountBlocked(
            f"the token is refused right after it was issued ({said}); check GIGACHAT_CREDENTIALS", 401
        )
    if status == 402:
        return AccountBlocked(f"the paid package is used up ({said}); top it up", 402)
    if status == 403:
        return AccountBlocked(f"no permission ({said}); check GIGACHAT_SCOPE and the account", 403)
    if status == 404 and "model" in reply.message.lower():
        return AccountBlocked(f"the account has no such model ({said}); check GIGACHAT_VISION_MODEL", 404)
    if status in (400, 413, 415, 422) or (status == 404 and _FILE.search(reply.message)):
        return InputFault(f"the picture is refused ({said}); it is not sent again as it is", status)
    if 400 <= status < 500 and status != 408:  # would refuse any picture, so it is not this picture's fault
        return AccountBlocked(f"the request itself is refused ({said}); check GIGACHAT_BASE_URL", status)
    return ProviderOutage(f"the service is out of order ({said}); waiting for it")


def call_headers(token: str, trace: CallTrace) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {token}",
        "X-Request-ID": header_safe(trace.request_id),
        "X-Session-ID": header_safe(trace.trace_id),
    }


def header_safe(text: str) -> str:
    """`text` as a header value: ASCII, without spaces, at most 128 characters, and different for different texts."""
    safe = quote(text, safe="!#$&'()*+,/:;=?@[]~|", errors="replace")
    if len(safe) <= _MAX_HEADER_CHARS:
        return safe
    return f"{safe[: _MAX_HEADER_CHARS - 17]}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"


def unique_filename(mime_type: str) -> str:
    """A unique name to find an upload whose result is unknown. The vendor uses the extension."""
    return f"vision-{uuid.uuid4().hex}.{_EXTENSIONS.get(mime_type, 'bin')}"


def chat_body(model: str, prompt: str, file_id: str | None, max_tokens: int) -> dict[str, Any]:
    """The request of `POST /chat/completions`: one user message with one attachment or none, no tools."""
    message = {"role": "user", "content": prompt} | ({"attachments": [file_id]} if file_id else {})
    return {
        "model": model,
        "messages": [message],
        "temperature": 0.1,
        "max_tokens": max_tokens,
    }


@dataclass(frozen=True)
class Chat:
    """The answer of `POST /chat/completions`; `tokens` is None if the reply does not say."""

    content: str
    finish_reason: str | None
    model: str | None
    tokens: int | None
    usage: dict[str, int]


def read_chat(reply: Reply) -> Chat:
    """Read any billed answer. Missing parts are empty. Never raises."""
    body = reply.json()
    if not isinstance(body, dict):
        found = _TOTAL_TOKENS.search(reply.body)
        return Chat("", None, None, int(found.group(1)) if found else None, {})
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    usage = _usage(body.get("usage"))
    return Chat(
        content=_string(message.get("content")) or "" if isinstance(message, dict) else "",
        finish_reason=_string(choice.get("finish_reason")),
        model=_string(body.get("model")),
        tokens=_total(usage),
        usage=usage,
    )


def _usage(value: object) -> dict[str, int]:
    items = value.items() if isinstance(value, dict) else ()
    return {str(name): count for name, count in items if isinstance(count, int) and 0 <= count < 10**9}


def _total(usage: dict[str, int]) -> int | None:
    """All tokens, including cached ones: the recordings do not subtract them. Never less than the sum of the parts."""
    parts = usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0)
    return max(parts, usage.get("total_tokens", 0)) if usage else None


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def file_id_of(reply: Reply) -> str | None:
    """The id in the answer to an upload, or None if it has no usable id."""
    body = reply.json()
    found = _string(body.get("id")) if isinstance(body, dict) else None
    return found if found and re.fullmatch(r"[\w.-]{1,128}", found) else None


def file_ids_named(reply: Reply, filename: str) -> list[str]:
    """The ids of stored files called `filename`, from the answer of `GET /files`."""
    body = reply.json()
    files = body.get("data") if isinstance(body, dict) else None
    if not isinstance(files, list):
        return []
    named = [item for item in files if isinstance(item, dict) and item.get("filename") == filename]
    return [
        item["id"] for item in named if isinstance(item.get("id"), str) and re.fullmatch(r"[\w.-]{1,128}", item["id"])
    ]


def token_of(reply: Reply) -> tuple[str, float] | None:
    """The access token and its expiry (seconds since the epoch by the server's clock), in both known shapes."""
    body = reply.json()
    if not isinstance(body, dict):
        return None
    token = _string(body.get("access_token")) or _string(body.get("tok"))
    expires = body.get("expires_at", body.get("exp"))
    if not token or not isinstance(expires, (int, float)) or not math.isfinite(expires):
        return None
    return token, expires / 1000 if expires > 10**11 else float(expires)
