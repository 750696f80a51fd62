"""How the state of the stack is shown: as a table, as lines of progress, as JSON. Reads nothing but the state given."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from vision_app.printable import printable
from vision_app.stack.process import resident_bytes
from vision_app.stack.state import Condition, ServiceState, StackState
from vision_app.texts import heard, noted, said, say

STYLES = {
    Condition.READY: "green",
    Condition.EXTERNAL: "cyan",
    Condition.STARTING: "yellow",
    Condition.BACKOFF: "red",
    Condition.NOT_ANSWERING: "red",
    Condition.STOPPED: "dim",
}
CONDITIONS = {
    Condition.READY: noted("ready"),
    Condition.EXTERNAL: noted("external"),
    Condition.STARTING: noted("starting"),
    Condition.BACKOFF: noted("backoff"),
    Condition.NOT_ANSWERING: noted("not answering"),
    Condition.STOPPED: noted("stopped"),
}
DOWNLOAD_SECONDS = 5.0  # at least so long between two lines about a download


def status_table(state: StackState) -> Table:
    """The table of `vision status`."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in said("SERVICE", "STATE"):
        table.add_column(heading, no_wrap=True)
    table.add_column("PID", justify="right", no_wrap=True)
    table.add_column(say("WHERE"), overflow="fold")
    for heading in said("RESTARTS", "UPTIME", "RSS MB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(say("LAST ERROR"), overflow="fold")
    for service in state.services:
        table.add_row(
            service.name,
            _condition(service, state),
            str(service.process.pid) if service.process else "",
            service.url,
            str(service.restarts),
            _uptime(service),
            f"{_resident(service) / 1e6:.0f}" if service.process else "",
            escape(printable(_trouble(service))),
        )
    return table


def outdated_line(state: StackState, path: Path) -> str:
    """That the state shown is an old one, and what to do; empty if it is not."""
    if not state.is_outdated:
        return ""
    return say(
        "This was so {age:.0f} s ago: the supervisor (pid {pid}) is frozen, or it cannot write {path}. Free disk space "
        "there, or see `vision logs supervisor`; `vision doctor` asks each service itself",
        age=state.age_seconds,
        pid=state.supervisor.pid,
        path=path,
    )


def total_line(state: StackState) -> str:
    return say("Memory: {total:.0f} MB resident in all, the supervisor included", total=_total(state) / 1e6)


def gigachat_line(state: StackState) -> str:
    return f"GigaChat: {heard(state.gigachat) or say('not configured')}"


def as_json(state: StackState | None) -> dict[str, Any]:
    """The document of `vision status --json`."""
    if state is None:
        return {"running": False, "ready": False, "services": []}
    services = [
        {
            "name": service.name,
            "state": service.condition,
            "pid": service.process.pid if service.process else None,
            "port": service.port,
            "url": service.url,
            "restarts": service.restarts,
            "uptime_seconds": round(time.time() - service.started_at, 1) if service.started_at else None,
            "rss_bytes": _resident(service),
            "detail": service.detail,
            "last_error": service.last_error,
            "log": service.log,
        }
        for service in state.services
    ]
    return {
        "running": True,
        "ready": state.is_ready,
        "stopping": state.stopping,
        "state_age_seconds": round(state.age_seconds, 1),
        "supervisor_pid": state.supervisor.pid,
        "gigachat": state.gigachat,
        "rss_bytes": _total(state),
        "services": services,
    }


class Progress:
    """What to show while the stack starts."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._begun, self._took = time.monotonic(), dict[str, float]()
        self._next_download_line: dict[str, float] = {}

    def table(self, state: StackState) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        for service in state.services:
            mark = f"[{STYLES[service.condition]}]{say(CONDITIONS[service.condition])}[/]"
            texts = (heard(service.detail) or f"{service.url}{self._after(service)}", heard(service.last_error))
            self._told.setdefault(service.name, "")
            table.add_row(service.name, mark, *(escape(printable(text)) for text in texts))
        return table

    def news(self, state: StackState) -> Iterator[str]:
        """One line for each service whose condition, or what it downloads, has changed."""
        for service in state.services:
            line = self._line(service)
            if line and self._told.get(service.name) != line:
                self._told[service.name] = line
                yield f"{service.name}: {line}"

    def _line(self, service: ServiceState) -> str:
        if service.condition in (Condition.READY, Condition.EXTERNAL):
            return say(
                "{condition} at {url}{after}",
                condition=say(CONDITIONS[service.condition]),
                url=service.url,
                after=self._after(service),
            )
        if service.condition is Condition.BACKOFF:
            return say(
                "failed: {last_error}; {detail}", last_error=heard(service.last_error), detail=heard(service.detail)
            )
        if service.detail.startswith("downloading") and self._is_due(service.name):
            return heard(service.detail)
        return self._told.get(service.name) or say("starting")

    def _after(self, service: ServiceState) -> str:
        """How long the service took to become ready, if this command has seen its start; otherwise empty."""
        if service.name not in self._told or service.condition is not Condition.READY:
            return ""
        if service.name not in self._took:
            self._took[service.name] = time.monotonic() - self._begun
        return say(" after {took:.0f} s", took=self._took[service.name])

    def _is_due(self, service: str) -> bool:
        now = time.monotonic()
        if now < self._next_download_line.get(service, 0.0):
            return False
        self._next_download_line[service] = now + DOWNLOAD_SECONDS
        return True


def _condition(service: ServiceState, state: StackState) -> str:
    """The condition, as far as it is known: of an old state, at least whether the process is still there."""
    if state.is_outdated and service.process is not None and service.process.process() is None:
        return f"[red]{say('gone')}[/]"
    style = "yellow" if state.is_outdated else STYLES[service.condition]
    return f"[{style}]{say(CONDITIONS[service.condition])}{' ?' if state.is_outdated else ''}[/]"


def _total(state: StackState) -> int:
    return resident_bytes(state.supervisor.pid)  # the services are its children


def _resident(service: ServiceState) -> int:
    return resident_bytes(service.process.pid) if service.process else 0


def _trouble(service: ServiceState) -> str:
    """The service's last error, also after a recovery, and what the service is doing now."""
    if service.last_error and service.detail:
        return f"{heard(service.last_error)} ({heard(service.detail)})"
    return heard(service.last_error or service.detail)


def _uptime(service: ServiceState) -> str:
    if service.started_at is None:
        return ""
    seconds = int(time.time() - service.started_at)
    if seconds < 60:
        return say("{seconds} s", seconds=seconds)
    return (
        say("{minutes} min", minutes=seconds // 60)
        if seconds < 3600
        else say("{hours} h {minutes} min", hours=seconds // 3600, minutes=seconds % 3600 // 60)
    )
