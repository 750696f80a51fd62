"""The supervisor's report to the commands in `.vision/state.json`: one document, always complete."""

from __future__ import annotations

import signal
import time
from enum import StrEnum

from pydantic import BaseModel, Field, ValidationError

from vision_app.stack.files import write_atomically
from vision_app.stack.home import Home
from vision_app.stack.process import Identity

OUTDATED_SECONDS = 15.0
"""An older report no longer shows how things are: the supervisor is frozen, or it cannot write."""


class Condition(StrEnum):
    """The condition of one service."""

    STARTING = "starting"
    READY = "ready"
    NOT_ANSWERING = "not answering"  # it was ready, its process runs, and it does not answer any more
    BACKOFF = "backoff"  # it failed and will be started again
    STOPPED = "stopped"
    EXTERNAL = "external"  # not embedded: its URL was set


class ServiceState(BaseModel):
    """One line of `vision status`. Times are seconds since the epoch."""

    name: str
    condition: Condition = Condition.STARTING
    url: str = ""
    port: int | None = None
    process: Identity | None = None
    stop_signal: int = int(signal.SIGTERM)
    stop_seconds: float = 20
    start_seconds: float = 60  # after which a start counts as failed
    is_worker: bool = False
    metrics_port: int | None = None
    started_at: float | None = None  # the process now running
    restarts: int = 0
    failures: int = 0  # since it was last ready
    detail: str = ""  # what it is doing or waiting for
    last_error: str = ""
    log: str = ""


class StackState(BaseModel):
    """The whole stack of one home."""

    supervisor: Identity
    stopping: bool = False
    gigachat: str = ""  # "simulated", or the URL
    services: list[ServiceState] = Field(default_factory=list)
    written_at: float = Field(default_factory=time.time)  # seconds since the epoch

    @property
    def is_ready(self) -> bool:
        usable = not (self.stopping or self.is_outdated)
        return usable and all(s.condition in (Condition.READY, Condition.EXTERNAL) for s in self.services)

    @property
    def age_seconds(self) -> float:
        """How old this report is. A supervisor that works writes a new one every second."""
        return max(0.0, time.time() - self.written_at)

    @property
    def is_outdated(self) -> bool:
        return self.age_seconds > OUTDATED_SECONDS

    def service(self, name: str) -> ServiceState:
        """Raises KeyError when there is no such service."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)


def write_state(home: Home, state: StackState) -> None:
    write_atomically(home.state, state.model_dump_json(indent=1))


def read_state(home: Home) -> StackState | None:
    """The last written state, or None. Does not check whether that supervisor still lives."""
    try:
        return StackState.model_validate_json(home.state.read_bytes())
    except (FileNotFoundError, ValidationError):  # the latter: written by another version
        return None
