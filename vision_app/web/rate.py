"""How often one caller may ask: a token bucket per API token, or per address where nobody has one.

Health pages are free, or an orchestrator would kill a worker for being asked too much by others. Not here: how many
connections there may be (`server.py`) and how long an answer may take (`operation.py`).
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web

from vision_app.settings import Settings

from .errors import ApiError, Handler, count_refused

CALLER = web.RequestKey("caller", str)
"""Whose bucket a request is taken from; without one the request is free."""

BURST_SECONDS = 3
"""What is saved up at most: a caller may ask this many seconds' worth at once."""
MAX_CALLERS = 10_000
"""Buckets kept. Past that the one not used for longest is forgotten, which can only be in its owner's favour."""


class Buckets:
    """A bucket per caller, refilled with `rate` requests a second up to `burst`."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, max(1.0, burst), clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take one request. 0 if there was one, else in how many seconds there will be."""
        now = self._clock()
        left, at = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        granted = left >= 1
        self._left[caller] = (left - granted, now)
        if len(self._left) > MAX_CALLERS:
            self._left.popitem(last=False)
        return 0.0 if granted else (1 - left) / self._rate


def rate_limit(settings: Settings) -> object:
    """The middleware that answers 429 to a caller that asks too often. Stands behind authentication."""
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
    """Raises ApiError 429, with when to come back."""
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
    """The address a request comes from, of IPv6 the network: whoever has one address there has them all."""
    try:
        address = ipaddress.ip_address((request.remote or "").partition("%")[0])
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)
