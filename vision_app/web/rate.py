"""Limits how often a caller may ask: a token bucket per API token, or per address if there are no tokens.

Health pages are not limited: otherwise an orchestrator would kill a worker because others ask too much. Not here: how
many connections there may be (`server.py`) and how long an answer may take (`operation.py`).
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web

from vision_app.settings import Settings

from .client_address import CLIENT
from .errors import ApiError, Handler, count_refused

CALLER = web.RequestKey("caller", str)
"""The caller whose bucket a request uses. A request without a caller is not limited."""

BURST_SECONDS = 3
"""Size of a bucket in seconds: a caller may send this many seconds' requests at once."""
MAX_CALLERS = 10_000
"""Most buckets kept. Beyond it the least recently used one is forgotten, which only helps its caller."""


class Buckets:
    """A bucket per caller, refilled with `rate` requests a second up to `burst`."""

    def __init__(
        self,
        rate: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
        max_callers: int = MAX_CALLERS,
    ) -> None:
        self._rate, self._burst, self._clock, self._max_callers = rate, max(1.0, burst), clock, max_callers
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take one request from the bucket. Returns 0 if it is allowed, else the seconds until one will be."""
        now = self._clock()
        left, at = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        granted = left >= 1
        self._left[caller] = (left - granted, now)
        if len(self._left) > self._max_callers:
            self._left.popitem(last=False)
        return 0.0 if granted else (1 - left) / self._rate


def rate_limit(settings: Settings) -> object:
    """The middleware that answers 429 to a caller that asks too often. It comes after authentication."""
    rate = settings.vision_api_rate_per_second
    buckets = Buckets(rate, rate * BURST_SECONDS)

    @web.middleware
    async def limited(request: web.Request, handler: Handler) -> web.StreamResponse:
        caller = request.get(CALLER)
        if caller is not None:
            refuse_if_too_often(buckets, caller)
        return await handler(request)

    return limited


def refuse_if_too_often(buckets: Buckets, caller: str) -> None:
    """Raises ApiError 429, which says when to ask again."""
    wait = buckets.take(caller)
    if wait:
        count_refused("rate_limited")
        seconds = math.ceil(wait)
        raise ApiError(
            429,
            "rate_limited",
            f"too many requests; ask again in {seconds} s, or raise VISION_API_RATE_PER_SECOND",
            headers={"Retry-After": str(seconds)},
        )


def peer_of(request: web.Request) -> str:
    """The address of a request. For IPv6 its network, because a caller has all addresses of a network."""
    try:
        address = ipaddress.ip_address((request.get(CLIENT) or request.remote or "").partition("%")[0])
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
