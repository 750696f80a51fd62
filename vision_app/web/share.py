"""Limits how much of the API one caller may hold at once: requests in work, and bytes of bodies that are arriving.

So one caller's slow requests leave connections and memory to the others. Not here: how often it may ask (`rate.py`) and
how many connections there may be in all (`server.py`). Health pages have no caller and no limit.
"""

from __future__ import annotations

from collections import Counter

from aiohttp import web

from vision_app.settings import Settings

from .errors import ApiError, Handler, count_refused
from .rate import CALLER


def fair_share(settings: Settings) -> object:
    """The middleware that answers 429 to a caller that has too much in work already. It comes after authentication."""
    largest_body = settings.vision_api_max_body_bytes
    most_requests = settings.vision_api_caller_requests
    most_bytes = max(settings.vision_api_caller_bytes, largest_body)
    requests, held = Counter[str](), Counter[str]()

    @web.middleware
    async def shared(request: web.Request, handler: Handler) -> web.StreamResponse:
        caller = request.get(CALLER)
        if caller is None:
            return await handler(request)
        size = _body_bytes(request, largest_body)
        if requests[caller] >= most_requests:
            raise _too_much(f"{most_requests} requests", "VISION_API_CALLER_REQUESTS")
        if held[caller] + size > most_bytes:
            raise _too_much(f"bodies of {most_bytes} bytes", "VISION_API_CALLER_BYTES")
        requests[caller] += 1
        held[caller] += size
        try:
            return await handler(request)
        finally:
            requests[caller] -= 1
            held[caller] -= size
            if not requests[caller]:
                del requests[caller], held[caller]

    return shared


def _body_bytes(request: web.Request, largest: int) -> int:
    """The bytes that the body may take. Larger bodies are refused elsewhere."""
    if request.content_length is None and request.can_read_body:
        return largest
    return min(request.content_length or 0, largest)


def _too_much(what: str, setting: str) -> ApiError:
    count_refused("caller_share")
    text = f"{what} of yours are in work; wait for their answers, or raise {setting}"
    return ApiError(429, "too_much_at_once", text, headers={"Retry-After": "1"})
