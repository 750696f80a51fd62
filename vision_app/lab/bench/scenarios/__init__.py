"""The scenarios of `vision bench all`, in the order in which they run. Each is a module with `run(laboratory, sizes)`.

Growth comes last: it fills the tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from vision_app.lab.bench.laboratory import Laboratory

from . import capacity, growth, letters, pace, provider, relay, replay, scaling, sinks


@dataclass(frozen=True)
class Scenario:
    """`sizes`: the usual ones, and `size_of`: what they count."""

    run: Callable[[Laboratory, Sequence[int]], Awaitable[None]]
    sizes: Sequence[int]
    size_of: str


SCENARIOS: dict[str, Scenario] = {
    capacity.NAME: Scenario(capacity.run, (200,), "posts of each kind"),
    pace.NAME: Scenario(pace.run, (15,), "seconds of each pace"),
    provider.NAME: Scenario(provider.run, (100,), "pictures of each case"),
    scaling.NAME: Scenario(scaling.run, (200,), "posts of each number of workers"),
    replay.NAME: Scenario(replay.run, (2000,), "inputs"),
    letters.NAME: Scenario(letters.run, (200,), "dead letters"),
    relay.NAME: Scenario(relay.run, (5000,), "entries"),
    sinks.NAME: Scenario(sinks.run, (1000,), "results for each store"),
    growth.NAME: Scenario(growth.run, (1000, 5000), "posts in the tables"),
}
