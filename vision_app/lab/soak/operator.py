"""The operator of a soak run: sets budgets through the API of any worker, and waits until all work is done."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import httpx
from redis.asyncio import Redis

from vision_app.operations.backlog import await_idle
from vision_app.settings import Settings

RETRY_SECONDS = 0.5
API_SECONDS = 600.0  # workers may die and recover at any time
REQUEST_SECONDS = 10.0


class Operator:
    """Asks the workers at these addresses in turn."""

    def __init__(self, settings: Settings, workers: Sequence[str]) -> None:
        self._settings = settings
        self._workers = itertools.cycle(workers)

    async def provider_rules(self, rules: Sequence[dict[str, Any]]) -> None:
        """Replace the simulator's faults. Raises httpx.HTTPError."""
        base = self._settings.gigachat_base_url.rpartition("/api")[0]
        async with httpx.AsyncClient(base_url=base, trust_env=False) as http:
            (await http.delete("/admin/faults")).raise_for_status()
            (await http.post("/admin/faults", json=list(rules))).raise_for_status()

    async def limit(self, tenant_id: str, tokens: int) -> None:
        """Set a tenant's tokens a day."""
        await self._asked("PUT", self._budget(tenant_id), {"limit": tokens})

    async def command(self, tenant_id: str, name: str) -> None:
        """`reset`, `pause` or `resume` a tenant's budget."""
        await self._asked("POST", f"{self._budget(tenant_id)}/{name}", None)

    async def waiting(self, tenants: Iterable[str]) -> str:
        """The tenants with work that waits for money or has a grant; "" if none."""
        found = []
        for tenant_id in tenants:
            budget = await self._asked("GET", self._budget(tenant_id), None)
            if budget["waiting"] or budget["open_grants"]:
                found.append(f"{tenant_id}: {budget['waiting']} waiting, {budget['open_grants']} open grants")
        return ", ".join(found)

    async def worked_off(self, redis: Redis, tenants: Sequence[str], deadline: float) -> str:
        """Wait until nothing is under way and no task waits for money, or until `deadline` (of `time.monotonic()`).

        Returns what is left, "" if nothing.
        """
        while True:
            left = await await_idle(redis, self._settings, deadline)
            waiting = await self.waiting(tenants)
            if not (left or waiting) or time.monotonic() >= deadline:
                return ", ".join(filter(None, [str(left) if left else "", waiting]))
            await asyncio.sleep(RETRY_SECONDS)

    @staticmethod
    def _budget(tenant_id: str) -> str:
        return f"/api/v1/budget/{quote(tenant_id, safe='')}"

    async def _asked(self, method: str, path: str, body: Any) -> dict[str, Any]:
        """Ask the workers in turn until one answers. Raises httpx.HTTPError after API_SECONDS."""
        deadline = time.monotonic() + API_SECONDS
        async with httpx.AsyncClient(trust_env=False, timeout=REQUEST_SECONDS) as http:
            while True:
                try:
                    answer = await http.request(method, f"{next(self._workers)}{path}", json=body)
                    return dict(answer.raise_for_status().json())
                except httpx.HTTPError:
                    if time.monotonic() >= deadline:
                        raise
                    await asyncio.sleep(RETRY_SECONDS)
