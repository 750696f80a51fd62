"""What the workers report: whether they are ready, stalls, the oldest work of each stage.

If the API does not answer, the metrics port is asked: it answers also while a worker's event loop is blocked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from vision_app.settings import Settings, vision_home
from vision_app.stack import client
from vision_app.stack.checks import Finding, Level
from vision_app.stack.home import Home
from vision_app.stack.ports import LOOPBACK, reachable

ASK_SECONDS = 3.0


@dataclass(frozen=True)
class Health:
    """One worker's GET /readyz; `answer` is None without an answer. `ours`: `vision up` started the worker here."""

    name: str
    urls: Sequence[str]
    answer: Mapping[str, Any] | None
    ours: bool = True

    @property
    def stalls(self) -> list[Mapping[str, Any]]:
        return list((self.answer or {}).get("stalls", ()))

    @property
    def oldest(self) -> list[Mapping[str, Any]]:
        return list((self.answer or {}).get("oldest", ()))


async def health(settings: Settings) -> list[Health]:
    """The health of each worker of the embedded stack, else of the one in the settings."""
    state = client.live_state(Home(vision_home()))
    workers = [service for service in state.services if service.is_worker] if state else []
    places = [
        (worker.name, [worker.url, *([f"http://{LOOPBACK}:{worker.metrics_port}"] if worker.metrics_port else [])])
        for worker in workers
    ]
    if not places:
        api = f"http://{reachable(settings.vision_api_host)}:{settings.vision_api_port}"
        places = [("worker", [api, f"http://{reachable(settings.metrics_host)}:{settings.metrics_port}"])]
    async with httpx.AsyncClient(trust_env=False, timeout=ASK_SECONDS) as http:
        answers = await asyncio.gather(*(_ask_readiness(http, urls) for _, urls in places))
    return [Health(name, urls, answer, bool(workers)) for (name, urls), answer in zip(places, answers, strict=True)]


def describe_stall(stall: Mapping[str, Any]) -> str:
    """A stall in one sentence."""
    return f"{stall['stage']} at {stall['place']} has stood still since {stall['since'][:19]}Z: {stall['reason']}"


def findings(found: Sequence[Health]) -> list[Finding]:
    """What `vision doctor` says about the workers. If none runs, that is no failure: the services' findings say so."""
    return [finding for worker in found for finding in _findings(worker)]


def _findings(worker: Health) -> list[Finding]:
    if worker.answer is None:
        text = f"no worker answers at {worker.urls[0]}; `vision status` shows what runs, `vision up` starts it"
        return [Finding(check=worker.name, verdict=Level.HINT, detail=text)]
    if worker.stalls:
        return [
            Finding(check=worker.name, verdict=Level.FAILED, detail=f"{describe_stall(stall)}. Next: {stall['remedy']}")
            for stall in worker.stalls
        ]
    if reason := worker.answer.get("reason"):
        return [Finding(check=worker.name, verdict=Level.HINT, detail=f"not ready: {reason}")]
    waiting = ", ".join(f"{name} ({why})" for name, why in worker.answer.get("waiting_for", {}).items())
    detail = f"ready; it waits for {waiting}" if waiting else "ready, and nothing stands still"
    if not worker.ours:  # in a container, started by hand, or of another folder
        detail = f"the one at {worker.urls[0]}, which `vision up` did not start here, is {detail}"
    return [Finding(check=worker.name, verdict=Level.OK, detail=detail)]


async def _ask_readiness(http: httpx.AsyncClient, urls: Sequence[str]) -> Mapping[str, Any] | None:
    for url in urls:
        try:
            answer = (await http.get(f"{url}/readyz")).json()
        except (httpx.HTTPError, ValueError):
            continue
        if isinstance(answer, dict) and "status" in answer:
            return answer
    return None
