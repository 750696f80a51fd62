"""Who has sent a request that a worker's supervisor passed on: the address counts for limits, as without a supervisor.

Only the supervisor's word counts: it adds a key that it has made at its start and given to its processes.
"""

from __future__ import annotations

import hmac
import os

from aiohttp import web

from .errors import Handler

CLIENT = web.RequestKey("client", str)
"""The caller's address, if a supervisor has told it."""
CLIENT_HEADER, KEY_HEADER = "X-Vision-Client", "X-Vision-Supervisor"
KEY_VARIABLE = "VISION_SUPERVISOR_KEY"


def told_by_supervisor(key: str | None = None) -> object:
    """The middleware that notes the caller's address. `key`: by default that of VISION_SUPERVISOR_KEY, "" for none."""
    expected = (os.environ.get(KEY_VARIABLE, "") if key is None else key).encode()

    @web.middleware
    async def note_client(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(KEY_HEADER, "").encode("utf-8", "surrogateescape")
        if expected and hmac.compare_digest(given, expected):
            request[CLIENT] = request.headers.get(CLIENT_HEADER, "")
        return await handler(request)

    return note_client
