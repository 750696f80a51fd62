"""The fuzzer at the whole system, with 500 hostile events; `make fuzz` sends 10,000 and looks at the waits, too."""

from __future__ import annotations

import os
import random

import pytest

from tests.faults.fuzzing import fuzz
from tests.integration.pipeline import Pipeline, Worker, unique

SEED = int(os.environ.get("FUZZ_SEED") or random.SystemRandom().randrange(10**6))
EVENTS = int(os.environ.get("FUZZ_EVENTS", "10000"))
PER_SECOND = float(os.environ.get("FUZZ_PER_SECOND", "25"))
MOST_RESIDENT_BYTES = 900_000_000
SLOWER = 2.0


@pytest.mark.timeout(1_500)
async def test_hostile_events_end_and_leave_the_others_alone(pipe: Pipeline, worker: Worker) -> None:
    fuzzed = await fuzz(pipe, worker, seed=SEED, hostile=500, run=unique("f"))
    print(fuzzed)
    assert fuzzed.wrong == [], f"run it again with FUZZ_SEED={SEED}"
    assert fuzzed.left == "nothing"
    assert fuzzed.account.ended == fuzzed.account.inputs


@pytest.mark.load
@pytest.mark.timeout(7_200)
async def test_many_hostile_events(pipe: Pipeline, worker: Worker) -> None:
    fuzzed = await fuzz(pipe, worker, seed=SEED, hostile=EVENTS, run=unique("f"), per_second=PER_SECOND)
    print(fuzzed)
    assert fuzzed.wrong == [], f"run it again with FUZZ_SEED={SEED}"
    assert fuzzed.left == "nothing"
    assert fuzzed.account.ended == fuzzed.account.inputs
    assert fuzzed.most_resident <= MOST_RESIDENT_BYTES
    assert fuzzed.mixed_p95 <= SLOWER * fuzzed.calm_p95, fuzzed
