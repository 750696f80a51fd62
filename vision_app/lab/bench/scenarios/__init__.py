"""The scenarios of `vision bench all`, in the order in which they run, each a module with `run(laboratory, sizes)`.

The order saves starts of workers: none, then one, then up to three, then one. Growth and recovery fill the
tables, so they come after the others; but sinks write rows of posts that no worker has, so they come last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from vision_app.lab.bench.laboratory import Laboratory

from . import capacity, growth, letters, pace, provider, recovery, relay, replay, scaling, sinks


@dataclass(frozen=True)
class Scenario:
    """`sizes`: the usual ones, and `size_of`: what they count."""

    run: Callable[[Laboratory, Sequence[int]], Awaitable[None]]
    sizes: Sequence[int]
    size_of: str


SCENARIOS: dict[str, Scenario] = {
    relay.NAME: Scenario(relay.run, (5000,), "entries"),
    pace.NAME: Scenario(pace.run, (15,), "seconds of each pace"),
    capacity.NAME: Scenario(capacity.run, (200,), "posts of each kind"),
    scaling.NAME: Scenario(scaling.run, (200,), "posts of each number of workers"),
    provider.NAME: Scenario(provider.run, (100,), "pictures of each case"),
    replay.NAME: Scenario(replay.run, (2000,), "inputs"),
    letters.NAME: Scenario(letters.run, (200,), "dead letters"),
    growth.NAME: Scenario(growth.run, (5000, 100_000), "posts in the tables"),
    recovery.NAME: Scenario(recovery.run, (10_000,), "open posts"),
    sinks.NAME: Scenario(sinks.run, (1000,), "results for each store"),
}
