"""Each dependency misbehaves in each way under load: nothing lost, nothing twice, only what must wait waits.

FAULT_SECONDS (10) is how long each fault lasts, FAULT_POSTS_PER_SECOND (4) the load; `make faults` runs
them all and writes the table.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import pytest_asyncio

from tests.faults.report import write_outcomes
from tests.faults.trial import NOTHING_PASSES, Outcome, Seen, Trial
from tests.integration.pipeline import Worker, pipeline
from vision_app.lab.faults import FAULTS, Fault, proxied
from vision_app.settings import load_settings
from vision_app.streams.last_resort import GOODBYE_SECONDS

SECONDS = float(os.environ.get("FAULT_SECONDS", "10"))
DEADLINE_SECONDS = 20
CALLS_PER_PICTURE = 3
WORKER = {
    "VISION_HANDLER_DEADLINE_SECONDS": str(DEADLINE_SECONDS),
    "VISION_MAX_DAILY_TOKENS": "100000000",
    "VISION_API_MAX_RETRIES": str(CALLS_PER_PICTURE),
    "GIGACHAT_VISION_TIMEOUT": "6",  # a hanging call is told from a long one by this alone
    "GIGACHAT_CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3",
    "GIGACHAT_CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "5",
    "VISION_PEL_MIN_IDLE_MS": "5000",
}
DEPENDENCIES = ("redis", "kafka", "postgres", "s3", "neo4j", "gigachat")
SETTLING_MS = 1500
"""After a fault began, what was past the dependency may still come out."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def outcomes() -> Iterator[list[Outcome]]:
    """Collects the rows; the table is written even if a test failed."""
    rows: list[Outcome] = []
    yield rows
    if len(rows) > 1:
        write_outcomes(rows)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trial(stack: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Trial]:
    settings = load_settings(**{name.lower(): value for name, value in stack.items()})
    async with proxied(stack) as proxies, pipeline(settings) as pipe:
        worker = Worker(stack, tmp_path_factory.mktemp("logs"), 1, **proxies.env, **WORKER)
        worker.start()
        try:
            await worker.ready()
            yield Trial(pipe, worker, proxies)
        finally:
            worker.end()


@pytest.mark.load
@pytest.mark.timeout(SECONDS + 500)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("dependency", DEPENDENCIES)
async def test_nothing_is_lost_or_doubled(trial: Trial, outcomes: list[Outcome], dependency: str, fault: Fault) -> None:
    outcome, seen = await trial.run(dependency, fault, SECONDS, passes=dependency == "neo4j")
    outcomes.append(outcome)
    _check(outcome, seen)
    if fault in NOTHING_PASSES:
        assert outcome.named, outcome.readiness
    if check := CHECKS.get(dependency):
        check(outcome, seen)


@pytest.mark.load
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", NOTHING_PASSES)
async def test_a_missing_graph_holds_back_nothing_when_its_own_buffers_are_full(trial: Trial, fault: Fault) -> None:
    """Several times more posts than a sink and its stream hold in memory, all announced before the graph is back."""
    posts = await trial.skipped_posts(500, "neo4j", fault)
    assert len(posts) == 500


@pytest.mark.load
@pytest.mark.parametrize("fault", NOTHING_PASSES)
@pytest.mark.parametrize("dependency", DEPENDENCIES)
async def test_a_worker_stopped_during_a_fault_ends(trial: Trial, dependency: str, fault: Fault) -> None:
    assert await trial.end_during(dependency, fault) < DEADLINE_SECONDS + GOODBYE_SECONDS + 10


@pytest.mark.timeout(100)
async def test_a_short_fault_of_the_stores(trial: Trial) -> None:
    """The smoke test of the above."""
    _check(*await trial.run("postgres", "reset", 2))


def _check(outcome: Outcome, seen: Seen) -> None:
    assert outcome.discrepancies == []
    found = outcome.account
    assert (found["missing"], found["duplicate_events"], found["dead_lettered"]) == (0, 0, 0), outcome
    assert len(seen.ended_by) == found["inputs"]
    _check_answers(outcome, seen)
    assert outcome.recovery_seconds is not None
    assert found["tokens_ledger"] >= found["tokens_billed"] > 0
    if outcome.dependency != "gigachat":
        assert found["calls"] == found["inputs"]
        assert found["tokens_ledger"] == found["tokens_billed"]


def _check_answers(outcome: Outcome, seen: Seen) -> None:
    """Every picture has GigaChat's answer, unless its answers were cut in the middle as often as it may be asked."""
    without = [post for post, kind in seen.ended_by.items() if kind != "gigachat"]
    if (outcome.dependency, outcome.fault) != ("gigachat", "half_written"):
        assert without == [], outcome.kinds
    for post in without:
        calls = [call for call in seen.calls if call["session_id"] == f"t-{post}"]
        assert len(calls) == CALLS_PER_PICTURE, (post, seen.ended_by[post])


def _neo4j(outcome: Outcome, seen: Seen) -> None:
    """It holds back nothing but the graph."""
    assert seen.passed


def _postgres(outcome: Outcome, seen: Seen) -> None:
    """No row, no event; but analysis goes on, also after a tenant came whose budget cannot be loaded."""
    if outcome.fault not in NOTHING_PASSES:
        return
    assert not [at for at in seen.events_ms if seen.began_ms + SETTLING_MS < at < seen.healed_ms]
    late = [call for call in seen.calls if seen.newcomer_ms + SETTLING_MS < call["time"] * 1000 < seen.healed_ms]
    assert late, "analysis goes on after the newcomer"
    newcomers = {each.post for each in seen.load.published if each.tenant == seen.newcomer}
    assert not [call for call in late if call["session_id"].removeprefix("t-") in newcomers], "it waits for its budget"


def _gigachat(outcome: Outcome, seen: Seen) -> None:
    """Work waits and nothing is billed. What was asked when a hang began is given up later, and charged as lost."""
    if outcome.fault in NOTHING_PASSES:
        meanwhile = [c for c in seen.calls if seen.began_ms + SETTLING_MS < c["time"] * 1000 < seen.healed_ms]
        assert meanwhile == []
    if outcome.fault == "down":
        assert len(set(seen.spent_during)) == 1


def _redis(outcome: Outcome, seen: Seen) -> None:
    """Budgets are the ledger's, whatever Redis shows."""
    assert outcome.account["tokens_ledger"] >= max(seen.spent_during)


CHECKS: dict[str, Callable[[Outcome, Seen], None]] = {
    "neo4j": _neo4j,
    "postgres": _postgres,
    "gigachat": _gigachat,
    "redis": _redis,
}
