"""What the workers report: whether they are ready, stalls, the oldest work of each stage.

If the API does not answer, the metrics port is asked: it answers also while a worker's event loop is blocked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from vision_app.settings import Settings, vision_home
from vision_app.stack import client
from vision_app.stack.checks import Finding, Level
from vision_app.stack.home import Home
from vision_app.stack.ports import LOOPBACK, reachable
from vision_app.stack.state import Condition, ServiceState
from vision_app.texts import heard, say

ASK_SECONDS = 3.0


@dataclass(frozen=True)
class Health:
    """One worker's GET /readyz; `answer` is None without an answer. `ours`: `vision up` started the worker here.

    `starting`: why ours need not answer: it starts, or was stopped by hand.
    """

    name: str
    urls: Sequence[str]
    answer: Mapping[str, Any] | None
    ours: bool = True
    starting: str = ""

    @property
    def stalls(self) -> list[Mapping[str, Any]]:
        return list((self.answer or {}).get("stalls", ()))

    @property
    def broken(self) -> list[Mapping[str, Any]]:
        """Processes, of a worker with several (VISION_WORKERS), that have ended or do not answer."""
        processes = (self.answer or {}).get("processes", ())
        return [one for one in processes if one.get("state") in ("down", "not_answering")]

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
    starting = [_starting(worker) for worker in workers] or [""]
    return [
        Health(name, urls, answer, bool(workers), why)
        for (name, urls), answer, why in zip(places, answers, starting, strict=True)
    ]


def describe_stall(stall: Mapping[str, Any]) -> str:
    """A stall in one sentence."""
    return say(
        "{stage} at {place} has stood still since {since}Z: {reason}",
        stage=stall["stage"],
        place=stall["place"],
        since=stall["since"][:19],
        reason=heard(stall["reason"]),
    )


def findings(found: Sequence[Health], hosts: Sequence[str] | None = None) -> list[Finding]:
    """What `vision doctor` says about the workers.

    `hosts`: the hosts of the workers that Kafka knows, None if it was not asked or did not answer.
    """
    return [finding for worker in found for finding in _findings(worker, hosts)]


def _findings(worker: Health, hosts: Sequence[str] | None) -> list[Finding]:
    if worker.answer is None:
        return [_no_answer(worker, hosts)]
    if worker.broken or worker.stalls:
        return [*map(_broken, worker.broken), *(_standing(worker.name, stall) for stall in worker.stalls)]
    if reason := worker.answer.get("reason"):
        return [Finding(check=worker.name, verdict=Level.HINT, detail=say("not ready: {reason}", reason=heard(reason)))]
    waiting = ", ".join(f"{name} ({heard(why)})" for name, why in worker.answer.get("waiting_for", {}).items())
    detail = (
        say("ready; it waits for {waiting}", waiting=waiting) if waiting else say("ready, and nothing stands still")
    )
    if names := [str(process["name"]) for process in worker.answer.get("processes", ())]:
        detail = say("{detail}; {count} processes: {names}", detail=detail, count=len(names), names=", ".join(names))
    if not worker.ours:  # in a container, started by hand, or of another folder
        detail = say(
            "the one at {url}, which `vision up` did not start here, is {detail}", url=worker.urls[0], detail=detail
        )
    return [Finding(check=worker.name, verdict=Level.HINT if waiting else Level.OK, detail=detail)]


def _standing(name: str, stall: Mapping[str, Any]) -> Finding:
    text = say("{stall}. Next: {remedy}", stall=describe_stall(stall), remedy=heard(stall["remedy"]))
    return Finding(check=name, verdict=Level.FAILED, detail=text)


def _broken(process: Mapping[str, Any]) -> Finding:
    text = say(
        "this process of the worker (VISION_WORKERS) is broken: {reason}; started again so far: {restarts}. "
        "The worker's log has its last lines",
        reason=heard(str(process.get("reason"))),
        restarts=process.get("restarts", 0),
    )
    return Finding(check=str(process["name"]), verdict=Level.FAILED, detail=text)


def _no_answer(worker: Health, hosts: Sequence[str] | None) -> Finding:
    where = worker.urls[0]
    if worker.starting:
        return Finding(check=worker.name, verdict=Level.HINT, detail=worker.starting)
    if worker.ours:
        text = say(
            "does not answer at {where}; `vision logs {name}`, `vision worker restart` starts it again",
            where=where,
            name=worker.name,
        )
        return Finding(check=worker.name, verdict=Level.FAILED, detail=text)
    if hosts:
        text = say(
            "none answers at {where}, but {hosts_count} are connected to Kafka, from {hosts}: run `vision "
            "doctor` there, or set VISION_API_HOST, VISION_API_PORT, METRICS_HOST and METRICS_PORT as there",
            where=where,
            hosts_count=len(hosts),
            hosts=", ".join(sorted(set(hosts))),
        )
        return Finding(check=worker.name, verdict=Level.HINT, detail=text)
    known = (
        say("and none is connected to Kafka")
        if hosts is not None
        else say("and Kafka does not tell whether one runs elsewhere")
    )
    text = say(
        "no worker answers at {where}, {known}: no post is analyzed; `vision up` starts one, or `vision worker` here",
        where=where,
        known=known,
    )
    return Finding(check=worker.name, verdict=Level.FAILED, detail=text)


def _starting(worker: ServiceState) -> str:
    if worker.condition is Condition.STOPPED:
        return say("stopped by `vision worker stop`; `vision worker start` starts it")
    young = worker.started_at is None or time.time() - worker.started_at < worker.start_seconds
    return (
        say("starting: {detail}", detail=heard(worker.detail) or say("its process"))
        if worker.condition is Condition.STARTING and young
        else ""
    )


async def _ask_readiness(http: httpx.AsyncClient, urls: Sequence[str]) -> Mapping[str, Any] | None:
    for url in urls:
        try:
            answer = (await http.get(f"{url}/readyz")).json()
        except (httpx.HTTPError, ValueError):
            continue
        if isinstance(answer, dict) and "status" in answer:
            return answer
    return None
