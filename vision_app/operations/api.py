"""A client of the worker's HTTP API, for the operators' commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import httpx

from vision_app.texts import say

REQUEST_SECONDS = 5.0
RETRY_SECONDS = 0.25
BUSY = frozenset({502, 503, 504})  # the worker starts, recovers or rebalances


class WorkerAway(Exception):
    """No worker answered until the deadline. See `vision status` and `vision logs worker-1`."""


class Api:
    """The worker's HTTP API. `url` may be any worker's: a worker forwards each request to the owner of the key."""

    def __init__(self, url: str, http: httpx.AsyncClient, token: str = "") -> None:
        self.url = url
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def once(self, path: str) -> tuple[int, dict[str, Any]] | None:
        """Status and body, or None while no worker answers."""
        try:
            answer = await self._http.get(f"{self.url}{path}", headers=self._headers)
            return answer.status_code, answer.json()
        except (httpx.HTTPError, ValueError):
            return None

    async def tell(self, path: str, body: dict[str, Any]) -> bool:
        """POST once; False while no worker answers."""
        try:
            return (await self._http.post(f"{self.url}{path}", json=body, headers=self._headers)).is_success
        except httpx.HTTPError:
            return False

    async def get(self, path: str, deadline: float) -> tuple[int, dict[str, Any]]:
        """Status and body, asked for again while the worker is away or busy. Raises WorkerAway at the deadline."""
        while (answer := await self.once(path)) is None or answer[0] in BUSY:
            if time.monotonic() >= deadline:
                raise WorkerAway(
                    say(
                        "{url}{path} does not answer; see `vision status` and `vision logs worker-1`",
                        url=self.url,
                        path=path,
                    )
                )
            await asyncio.sleep(RETRY_SECONDS)
        return answer


def token_for_all(pairs: Iterable[str]) -> str:
    """The token for all tenants among the `token=tenant` pairs; "" if there is none."""
    split = (pair.strip().rpartition("=") for pair in pairs)
    return next((token for token, _, tenant in split if tenant == "*"), "")
