"""Ends the processes of a killed supervisor, by their recorded identity, so a reused pid is never touched."""

from __future__ import annotations

import signal

import psutil

from vision_app.stack.home import Home
from vision_app.stack.process import end
from vision_app.stack.state import ServiceState, read_state


def end_leftovers(home: Home) -> list[str]:
    """End every live process of the last recorded state, workers first; returns the names of those found.

    Call it only while no supervisor of this home is alive.
    """
    state = read_state(home)
    if state is None:
        return []
    ended = []
    for workers in (True, False):
        found = [(service, process) for service in state.services if (process := _alive(service, workers))]
        end((process, signal.Signals(service.stop_signal), service.stop_seconds) for service, process in found)
        ended += [service.name for service, _ in found]
    return ended


def _alive(service: ServiceState, workers: bool) -> psutil.Process | None:
    if service.process is None or service.is_worker is not workers:
        return None
    return service.process.process()
