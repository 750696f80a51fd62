"""The checks of `vision doctor`. Each returns a finding, which says what to do next if something is wrong."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from pathlib import Path

import httpx
import psutil
from pydantic import BaseModel, Field

from vision_app.settings import Settings, SettingsError, half_given, misspelt, sources, without_effect
from vision_app.stack import java, postgres, redis, s3
from vision_app.stack.environment import plain
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home, cache_folder
from vision_app.stack.jars import is_complete
from vision_app.stack.plan import StackPlan
from vision_app.stack.ports import describe_holder, holder, is_free, reachable
from vision_app.stack.reachable import PROBES, Incomplete, Unfit, Unreachable
from vision_app.stack.state import Condition, StackState
from vision_app.texts import say

FREE_DISK_BYTES = 1_000_000_000
MEMORY_BYTES = 2_500_000_000
PROBE_SECONDS = 10.0
WORKER_SECONDS = 5.0


class Level(StrEnum):
    OK = "ok"
    HINT = "hint"  # works, but not completely, or not yet
    FAILED = "failed"


class Finding(BaseModel):
    """The outcome of one check. `answers`: the service answers, although the check has failed."""

    check: str
    verdict: Level
    detail: str
    answers: bool = Field(default=False, exclude=True)


def disk_space(folder: Path) -> Finding:
    """Free space where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < FREE_DISK_BYTES:
        return _failed(
            say("disk"),
            say(
                "{free:.1f} GB free at {folder}; free at least 1 GB, or set VISION_HOME elsewhere",
                free=free / 1e9,
                folder=folder,
            ),
        )
    return _ok(say("disk"), say("{free:.0f} GB free at {folder}", free=free / 1e9, folder=folder))


def supervisor(home: Home, state: StackState | None) -> list[Finding]:
    """Whether the supervisor still reports; nothing if none runs."""
    if state is None:
        return []
    name = say("supervisor")
    if not state.is_outdated:
        return [_ok(name, say("reports each second (pid {pid})", pid=state.supervisor.pid))]
    text = say(
        "its last report is {age:.0f} s old: it is frozen, or it cannot write {path}; free disk space there, see "
        "`vision logs supervisor`, or restart it: `vision down`, then `vision up`",
        age=state.age_seconds,
        path=home.state,
    )
    return [_failed(name, text)]


def memory(state: StackState | None) -> Finding:
    available = psutil.virtual_memory().available
    if state is None and available < MEMORY_BYTES:
        return _hint(
            say("memory"),
            say(
                "{available:.1f} GB available, the stack takes up to 2.5 GB; close other programs",
                available=available / 1e9,
            ),
        )
    return _ok(say("memory"), say("{available:.1f} GB available", available=available / 1e9))


def packages(plan: StackPlan) -> Iterator[Finding]:
    """The programs of the embedded services, and the jars of those written in Java."""
    programs: dict[str, Callable[[], object]] = {
        "redis": redis.server_program,
        "postgres": postgres.programs,
        "s3": s3.program,
        "kafka": java.executable,
        "neo4j": java.executable,
    }
    for name in dict.fromkeys(_kind(service.name) for service in plan.services):
        if name in programs:
            yield _program(name, programs[name])
        if name in ("kafka", "neo4j"):
            yield _jars(name)


def _kind(service: str) -> str:
    """`kafka` for each broker of a cluster; the service's name for all others."""
    return service.partition("-")[0]


def _program(name: str, find: Callable[[], object]) -> Finding:
    try:
        return _ok(say("{name} program", name=name), str(find()))
    except StackError as error:
        return _failed(say("{name} program", name=name), str(error))


def _jars(name: str) -> Finding:
    if is_complete(name):
        return _ok(say("{name} jars", name=name), say("in {cache_folder}", cache_folder=cache_folder()))
    return _hint(
        say("{name} jars", name=name),
        say("not downloaded yet; `vision up` does it, which needs a network connection once"),
    )


async def worker_ports(settings: Settings, state: StackState | None) -> list[Finding]:
    """The API and metrics ports are free, or used by this stack, or by a worker that runs without this stack."""
    ours = {s.process.pid for s in state.services if s.process} if state else set()
    managed = any(service.is_worker for service in state.services) if state else False
    pairs = (
        ("VISION_API_PORT", settings.vision_api_host, settings.vision_api_port),
        ("METRICS_PORT", settings.metrics_host, settings.metrics_port),
    )
    found = []
    for variable, host, port in pairs:
        if not port or is_free(port):
            found.append(_ok(say("port {port}", port=port), say("free")))
        elif (process := holder(port)) and process.pid in ours:
            found.append(_ok(say("port {port}", port=port), say("used by our worker")))
        elif not managed and await is_worker(f"http://{reachable(host)}:{port}"):
            found.append(
                _ok(
                    say("port {port}", port=port),
                    say(
                        "used by a worker that `vision up` did not start ({describe_holder})",
                        describe_holder=describe_holder(port),
                    ),
                )
            )
        else:
            text = say(
                "used by {describe_holder}; stop it or set {variable} to another port",
                describe_holder=describe_holder(port),
                variable=variable,
            )
            found.append(_failed(say("port {port}", port=port), text))
    return found


async def is_worker(url: str) -> bool:
    """Whether a worker of this program answers at an address: a container's, or one started by hand."""
    try:
        async with httpx.AsyncClient(timeout=WORKER_SECONDS, trust_env=False) as client:
            answer = (await client.get(f"{url}/readyz")).json()
    except (httpx.HTTPError, ValueError):
        return False
    return isinstance(answer, dict) and {"status", "waiting_for"} <= answer.keys()


def expected(plan: StackPlan, state: StackState | None) -> dict[str, bool]:
    """The services by name, and whether each is expected to answer: an embedded one must have been started."""
    running = {_kind(s.name) for s in state.services if s.condition is not Condition.STOPPED} if state else set()
    embedded = {(kind := _kind(service.name)): kind in running for service in plan.services}
    return embedded | dict.fromkeys(plan.external, True)


async def services(settings: Settings, plan: StackPlan, state: StackState | None) -> list[Finding]:
    """Every service answers and accepts our credentials. An embedded service that is not started is only a hint."""
    names = expected(plan, state)
    return await asyncio.gather(*(_reach(name, settings, up) for name, up in names.items()))


async def _reach(name: str, settings: Settings, expected: bool) -> Finding:
    if not expected:
        return _hint(name, say("not running; start it with `vision up`"))
    return await check_service(name, PROBES[name], settings)


async def check_service(name: str, probe: Callable[[Settings], Awaitable[str]], settings: Settings) -> Finding:
    """Whether a service answers and accepts our credentials, within PROBE_SECONDS."""
    try:
        return _ok(name, await asyncio.wait_for(probe(settings), PROBE_SECONDS))
    except TimeoutError:
        return _failed(
            name,
            say(
                "no answer within {probe_seconds:.0f} s; check that it runs at the address `vision config` shows",
                probe_seconds=PROBE_SECONDS,
            ),
        )
    except Incomplete as error:
        return _hint(name, str(error))
    except (Unreachable, SettingsError) as error:
        return _failed(name, str(error)).model_copy(update={"answers": isinstance(error, Unfit)})


def tesseract(languages: str) -> Finding:
    """OCR is only the fallback for a spent budget, so its absence is only a hint."""
    remedy = say("OCR is off; install it with: apt-get install tesseract-ocr tesseract-ocr-rus")
    program = shutil.which("tesseract")
    if program is None:
        return _hint("tesseract", say("not found: {remedy}", remedy=remedy))
    command = [program, "--list-langs"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False, env=plain())
    missing = set(languages.split("+")) - set(listing.stdout.split())
    if missing:
        return _hint(
            "tesseract", say("has no data for {missing}: {remedy}", missing=", ".join(sorted(missing)), remedy=remedy)
        )
    return _ok("tesseract", say("{program} with {languages}", program=program, languages=languages))


async def ocr_of_worker(settings: Settings) -> list[Finding]:
    """Whether the running worker has OCR: it may have lost Tesseract, or run on another machine."""
    url = f"http://{reachable(settings.metrics_host)}:{settings.metrics_port}/metrics"
    try:
        async with httpx.AsyncClient(timeout=WORKER_SECONDS, trust_env=False) as client:
            page = (await client.get(url)).text
    except httpx.HTTPError:
        return []  # no worker here; other findings report it
    found = re.findall(r"^vision_ocr_available(?:\{[^}]*\})? ([\d.]+)$", page, re.MULTILINE)  # one for each process
    if not settings.vision_ocr_fallback_enabled or not found:
        return []
    if all(map(float, found)):
        return [_ok(say("OCR in the worker"), say("Tesseract can be run"))]
    text = say(
        "Tesseract has gone or was never there: what has no money waits; install it, the worker notices in a minute"
    )
    return [_hint(say("OCR in the worker"), text)]


def given_settings(settings: Settings) -> Iterator[Finding]:
    """Settings that can be used, and hardly mean what was wished."""
    wrong = [_failed(say("settings"), text) for text in half_given(settings, sources())]
    wrong += [
        _hint(
            say("settings"),
            say("{name} is set and no setting has this name; {meant} is meant?", name=name, meant=meant),
        )
        for name, meant in misspelt().items()
    ]
    wrong += [
        _hint(say("settings"), say("{name} is set but has no effect: {why}", name=name, why=why))
        for name, why in without_effect().items()
    ]
    if not settings.feature_vision_enabled:
        text = say(
            "FEATURE_VISION_ENABLED is false: no input is read, posts wait on the streams; set it to true to go on"
        )
        wrong.append(_hint(say("settings"), text))
    yield from wrong or [_ok(say("settings"), say("all values can be used; see `vision config`"))]


def before_start(home: Home) -> None:
    """Check for conditions that would make a start fail half-way. Raises StackError."""
    finding = disk_space(home.root)
    if finding.verdict is Level.FAILED:
        raise StackError(finding.detail)


def _ok(check: str, detail: str) -> Finding:
    return Finding(check=check, verdict=Level.OK, detail=detail)


def _hint(check: str, detail: str) -> Finding:
    return Finding(check=check, verdict=Level.HINT, detail=detail)


def _failed(check: str, detail: str) -> Finding:
    return Finding(check=check, verdict=Level.FAILED, detail=detail)
