"""The provider's gate: which tasks wait, how long and in which order, and what opens and shuts it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import cast

import pytest

from vision_app.providers.base import AccountBlocked, CallLost, InputFault, ProviderError, ProviderOutage, RateLimited
from vision_app.providers.gate import Gate, GateTimes
from vision_app.providers.slots import Slots
from vision_app.settings import load_settings
from vision_app.telemetry.metrics import BREAKER_STATE, PROVIDER_WAITING

DOWN = ProviderOutage("cannot be reached")
BUSY = RateLimited("too many requests")
UNPAID = AccountBlocked("the paid package is used up", 402)
QUICK = GateTimes(recovery=0.15, blocked=0.25, pauses=(0.15, 0.3))
NEVER = GateTimes(recovery=3600, blocked=3600, pauses=(3600,))


class LocalSlots:
    """Slots of one process: the gate's side of the contract, without Redis (that is in the integration tests)."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self.taken = 0

    async def acquire(self) -> str:
        await self._free.acquire()
        self.taken += 1
        return "lease"

    async def release(self, lease: str) -> None:
        self.taken -= 1
        self._free.release()


def gate_of(times: GateTimes = QUICK, slots: LocalSlots | None = None, threshold: int = 3) -> Gate:
    settings = load_settings(gigachat_circuit_breaker_failure_threshold=threshold)
    return Gate(settings, cast(Slots, slots or LocalSlots(10)), times)


async def once(gate: Gate, outcome: ProviderError | None = None) -> float:
    """Pass once. Returns how long that took, in seconds."""
    started = time.monotonic()
    async with gate.slot():
        waited = time.monotonic() - started
        gate.report(outcome)
    return waited


async def fails(gate: Gate, times: int, outcome: ProviderError = DOWN) -> None:
    for _ in range(times):
        await once(gate, outcome)


def state(gate: Gate) -> str:
    return gate.state.state


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def shown() -> dict[str, float]:
    samples = [sample for family in BREAKER_STATE.collect() for sample in family.samples]
    return {sample.labels["state"]: sample.value for sample in samples if sample.labels["name"] == "gigachat"}


async def test_a_closed_gate_lets_every_task_pass_at_once() -> None:
    gate = gate_of(NEVER)
    assert await once(gate) < 1
    assert state(gate) == "closed"


async def test_outages_in_a_row_open_the_breaker_and_one_success_closes_it() -> None:
    gate = gate_of()
    await fails(gate, 2)
    assert state(gate) == "closed"
    await fails(gate, 1)
    assert (state(gate), gate.state.reason, shown()["open"]) == ("open", str(DOWN), 1)
    assert await once(gate) >= 0.1
    assert (state(gate), shown()) == ("closed", {"closed": 1, "half_open": 0, "open": 0})


async def test_a_success_between_outages_starts_the_count_again() -> None:
    gate = gate_of(NEVER)
    for _ in range(5):
        await fails(gate, 2)
        await once(gate)
    assert state(gate) == "closed"


async def test_lost_calls_open_the_breaker_and_faults_of_pictures_do_not() -> None:
    gate = gate_of(NEVER)
    await fails(gate, 20, InputFault("refused", 400))
    assert state(gate) == "closed"
    await fails(gate, 3, CallLost("no answer"))
    assert state(gate) == "open"


async def test_a_half_open_gate_lets_exactly_one_probe_through() -> None:
    gate, inside, go = gate_of(), [0], asyncio.Event()
    await fails(gate, 3)

    async def probe() -> None:
        async with gate.slot():
            inside[0] += 1
            await go.wait()
            gate.report(None)

    waiting = [asyncio.create_task(probe()) for _ in range(5)]
    await until(lambda: inside[0])
    for _ in range(20):
        await asyncio.sleep(0)
    assert (inside[0], state(gate), shown()["half_open"]) == (1, "half_open", 1)
    go.set()
    await asyncio.gather(*waiting)
    assert (inside[0], state(gate)) == (5, "closed")


async def test_a_probe_that_fails_shuts_the_gate_again() -> None:
    gate = gate_of()
    await fails(gate, 3)
    await fails(gate, 1)
    assert state(gate) == "open"
    assert await once(gate) >= 0.1


async def test_probes_that_are_charged_come_ever_less_often_and_free_ones_do_not() -> None:
    """Two pictures whose calls are always cut off, and no other posts: each probe costs an estimate."""
    gate, lost = gate_of(GateTimes(recovery=0.1, longest=0.5)), CallLost("no answer")
    await fails(gate, 3, lost)
    waits = [await once(gate, each) for each in (lost, lost, lost, DOWN, None)]
    for waited, least in zip(waits, (0.1, 0.2, 0.4, 0.5, 0.5), strict=True):
        assert waited > least - 0.02
    await fails(gate, 3, DOWN)
    assert await once(gate, DOWN) < 0.5, "after an answer it begins anew"


async def test_a_probe_without_an_outcome_is_followed_by_another_probe() -> None:
    gate = gate_of()
    await fails(gate, 3)
    with contextlib.suppress(LookupError):
        async with gate.slot():
            raise LookupError
    assert await once(gate) < 1
    assert state(gate) == "closed"


async def test_429_pauses_and_never_opens_the_breaker() -> None:
    gate = gate_of()
    await fails(gate, 1, BUSY)
    assert (state(gate), shown()["closed"]) == ("paused", 1)
    assert 0.1 <= await once(gate, BUSY) < 0.28
    assert await once(gate, BUSY) >= 0.25  # the second pause in a row is longer
    await asyncio.sleep(0)
    assert state(gate) == "paused"


async def test_many_429_at_the_same_time_are_one_pause() -> None:
    gate = gate_of()
    for _ in range(10):
        gate.report(BUSY)
    assert 0.1 <= await once(gate) < 0.28


async def test_retry_after_is_obeyed() -> None:
    gate = gate_of(NEVER)
    gate.report(RateLimited("too many requests", 0.2))
    assert 0.15 <= await once(gate) < 1


async def test_429_says_that_the_service_is_up() -> None:
    gate = gate_of(threshold=3)
    await fails(gate, 2)
    gate.report(RateLimited("too many requests", 0.01))
    await fails(gate, 2)
    assert state(gate) == "closed"


async def test_a_refused_account_holds_everything_then_probes() -> None:
    gate = gate_of()
    await once(gate, UNPAID)
    assert (state(gate), gate.state.reason, shown()["open"]) == ("blocked", str(UNPAID), 1)
    assert await once(gate, UNPAID) >= 0.2
    assert state(gate) == "blocked"
    await once(gate)
    assert state(gate) == "closed"


async def test_waiters_pass_first_come_first_served() -> None:
    gate, order = gate_of(slots=LocalSlots(1)), list[int]()
    await fails(gate, 3)

    async def pass_(number: int) -> None:
        async with gate.slot():
            order.append(number)
            gate.report(None)

    tasks = []
    for number in range(8):
        tasks.append(asyncio.create_task(pass_(number)))
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == list(range(8))


async def test_a_cancelled_waiter_holds_nothing_up() -> None:
    slots = LocalSlots(1)
    gate = gate_of(slots=slots)
    async with gate.slot():
        tasks = [asyncio.create_task(once(gate)) for _ in range(3)]
        await until(lambda: waiting() == 3)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
    await asyncio.gather(*tasks[1:])
    assert (slots.taken, waiting()) == (0, 0)


@pytest.mark.parametrize("turns", range(4))
async def test_a_waiter_cancelled_while_the_gate_changes_leaves(turns: int) -> None:
    """Python 3.11's `wait_for` swallows that cancellation: the waiter would stay until the outage ends."""
    gate = gate_of(NEVER, threshold=1)
    await fails(gate, 1)
    waiter = asyncio.create_task(once(gate))
    while not waiting():
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    gate.report(DOWN)
    for _ in range(turns):
        await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.wait({waiter}, timeout=5)
    assert waiter.cancelled()
    assert waiting() == 0


async def test_a_gate_shut_while_waiting_for_a_slot_is_not_passed() -> None:
    slots = LocalSlots(1)
    gate = gate_of(slots=slots)
    async with gate.slot():
        late = asyncio.create_task(once(gate))
        await until(lambda: waiting() == 1)
        for _ in range(3):
            gate.report(DOWN)
    assert await late >= 0.1


def waiting() -> float:
    return next(sample.value for family in PROVIDER_WAITING.collect() for sample in family.samples)
