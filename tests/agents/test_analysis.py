"""The one call of a grant: what is recorded before it, stored after it, and charged if it is cut off."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from tests.agents.conftest import GOOD, PNG, REFUSED, SHA, World, away, png
from tests.fakes import until
from vision_app.analysis.caller import CallTimes
from vision_app.domain.calls import CallRecord
from vision_app.messages import MediaTask, Medium
from vision_app.providers.base import (
    AccountBlocked,
    CallLost,
    CallTrace,
    InputFault,
    ProviderError,
    ProviderOutage,
    RateLimited,
)
from vision_app.providers.ocr import OcrFault
from vision_app.providers.pictures import estimate_tokens
from vision_app.stores.keys import call_key
from vision_app.stores.s3 import ObjectForbidden, ObjectTooLarge
from vision_app.telemetry import metrics

RECORD = call_key("t1", "g1")


@pytest.fixture(autouse=True)
def _stored(world: World) -> None:
    world.store()


def record(world: World, state: str, **fields: Any) -> None:
    given = {"state": state, "grant_id": "g1", "owner": "worker-1/before", "at": datetime.now(UTC), **fields}
    world.s3.objects[RECORD] = CallRecord(**given).model_dump_json().encode()


def found_record(world: World, grant: str = "g1") -> dict[str, Any] | None:
    body = world.s3.objects.get(call_key("t1", grant))
    return None if body is None else orjson.loads(body)


def settled(world: World) -> list[tuple[str, int]]:
    return [(c["grant_id"], c["tokens"]) for c in world.sent("vision.budget") if c["type"] == "settle"]


def outcomes(world: World) -> list[dict[str, Any]]:
    return [message["outcome"] for message in world.sent("vision.posts")]


async def one(world: World, **fields: Any) -> dict[str, Any]:
    """Handle one grant. Returns its outcome."""
    before = world.acked
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant(**fields))
    assert world.acked == before + 1
    return outcomes(world)[-1] if outcomes(world) else {}


# --- the call that goes well ------------------------------------------------------------------------------------------


async def test_the_order_of_a_call(world: World) -> None:
    async def upload(trace: CallTrace) -> None:
        assert found_record(world) is None, "an upload costs nothing: cut off there, the call is simply made anew"

    world.provider.upload = upload

    async def before(trace: CallTrace) -> None:
        started = found_record(world)
        assert started is not None
        assert started["state"] == "started", "the request goes out before its record says so"
        assert len(world.slots.held) == 1, "the request goes out without a slot"
        world.s3.asked.append(("call", trace.request_id))

    world.provider.before = before
    outcome = await one(world)
    assert outcome["kind"] == "analyzed"
    assert (outcome["cached"], outcome["tokens_billed"]) == (False, 1000)
    assert outcome["answer"]["analysis"]["description"] == "Красный квадрат на экране"
    assert settled(world) == [("g1", 1000)]
    assert sorted(world.order()[:2]) == ["send vision.budget", "send vision.posts"]
    assert world.order()[2:] == ["ack"]
    steps = [(method, key == RECORD) for method, key in world.s3.asked]
    calls = steps.index(("call", False))
    assert steps[0] == ("read", True), "the own record is looked at first"
    assert ("put", True) in steps[:calls]
    assert steps[calls + 1 :] == [("put", False), ("put", True)], "the answer is stored before the record is closed"
    done = found_record(world)
    assert done is not None
    assert (done["state"], done["tokens"], done["verdict"]) == ("done", 1000, "ok")
    assert world.slots.held == set()
    assert [(call.trace.trace_id, call.trace.request_id) for call in world.provider.calls] == [("trace-1", "g1")]


async def test_between_two_attempts_that_cost_nothing_nothing_is_under_way(world: World) -> None:
    """If the worker is killed during such a pause, the call is made again. It is not charged as lost."""
    seen: list[Any] = []

    async def pause(trace: CallTrace) -> None:
        seen.append(found_record(world))

    async def before(trace: CallTrace) -> None:
        seen.append((found_record(world) or {}).get("state"))

    world.provider.pauses, world.provider.before = [pause, pause], before
    outcome = await one(world)
    assert seen == [None, None, "started"]
    assert outcome["kind"] == "analyzed"
    assert settled(world) == [("g1", 1000)]


async def test_a_record_that_cannot_be_cleared_for_a_pause_counts_as_begun(world: World) -> None:
    seen: list[Any] = []

    async def pause(trace: CallTrace) -> None:
        seen.append((found_record(world) or {}).get("state"))

    world.s3.fail("delete", ".calls/", away())
    world.provider.pauses = [pause]
    assert (await one(world))["kind"] == "analyzed"
    assert seen == ["started"], "cut off now it is lost, never free"


async def test_a_grant_too_small_for_what_the_object_is_asks_for_more_before_it_calls(world: World) -> None:
    """Cases: a document declared as a picture; a picture declared text/plain and reserved by an older version."""
    await one(world, estimate=1555)
    assert world.provider.calls == []
    release, reserve = world.sent("vision.budget")
    assert (release["type"], release["grant_id"]) == ("release", "g1")
    bound = estimate_tokens(len(PNG), "image/png", world.app.settings)
    assert (reserve["type"], reserve["estimate"], reserve["purpose"]) == ("reserve", bound, "answer")
    assert found_record(world) is None
    await one(world, id="g2", estimate=reserve["estimate"])
    assert len(world.provider.calls) == 1


# --- whose grant it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "flaw"),
    [
        ({"signature": ""}, "unsigned"),  # of the previous version, or written by hand
        ({"signature": "0" * 64}, "foreign"),
        ({"id": "invented"}, "foreign"),
        ({"estimate": 10**6}, "foreign"),
    ],
    ids=str,
)
async def test_a_grant_that_the_ledger_did_not_give_is_turned_back_into_a_reservation(
    world: World, changed: dict[str, Any], flaw: str
) -> None:
    grant = world.grant().model_copy(update=changed)
    before = metrics.GRANTS_RETURNED.labels(flaw)._value.get()
    async with world.agent("analysis") as agent:
        await world.tell(agent, grant)
    assert world.provider.calls == []
    assert world.s3.keys(".calls/") == []
    release, reserve = world.sent("vision.budget")
    assert (release["type"], release["grant_id"]) == ("release", grant.id)
    bound = estimate_tokens(len(PNG), "image/png", world.app.settings)
    assert (reserve["type"], reserve["estimate"], reserve["task"]["post_id"]) == ("reserve", bound, "p1")
    assert (world.sent("vision.posts"), world.sent("vision.dlq")) == ([], []), "nothing is lost, nobody is told"
    assert metrics.GRANTS_RETURNED.labels(flaw)._value.get() == before + 1


async def test_a_grant_older_than_a_day_is_not_called_on(world: World) -> None:
    """The ledger has charged it as lost and queued its task again. Reading the topic again must spend nothing."""
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant(granted=time.time() - 24 * 3600))
    assert world.provider.calls == []
    assert [command["type"] for command in world.sent("vision.budget")] == ["release", "reserve"]


async def test_what_was_called_under_an_unsigned_grant_is_settled(world: World) -> None:
    """The previous version paid for the call and was replaced before it could settle."""
    record(world, "done", tokens=777, verdict="ok")
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant().model_copy(update={"signature": ""}))
    assert settled(world) == [("g1", 777)]


async def test_a_task_that_comes_back_unsigned_again_and_again_is_slowed_down(world: World) -> None:
    """The ledger has the previous version or another key. The task is returned again and again, but with pauses."""
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant().model_copy(update={"signature": ""}))
        task = MediaTask.model_validate(world.sent("vision.budget")[-1]["task"])
        begun = time.monotonic()
        await world.tell(agent, world.grant("g2", task=task).model_copy(update={"signature": ""}))
        assert time.monotonic() - begun >= world.times.returned_again
        await world.tell(agent, world.grant("g3", task=task))
    assert len(world.provider.calls) == 1, "once the ledger signs, it goes on"


@pytest.mark.parametrize("substitutes", [{"call_times": lambda _: CallTimes(deadline=60.0, returned_again=3600.0)}])
async def test_a_task_that_comes_back_unsigned_for_the_first_time_is_not_slowed_down(world: World) -> None:
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant().model_copy(update={"signature": ""}))
    assert [command["type"] for command in world.sent("vision.budget")] == ["release", "reserve"]


async def test_an_unsigned_repair_is_asked_for_anew_as_a_repair(world: World) -> None:
    world.provider.answers = ["На картинке кот. classification - фото"]
    await one(world)
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant("g2", purpose="repair").model_copy(update={"signature": ""}))
    assert len(world.provider.calls) == 1
    release, reserve = world.sent("vision.budget")[-2:]
    assert (release["type"], reserve["type"], reserve["purpose"]) == ("release", "reserve", "repair")


async def test_the_answer_is_stored_with_the_key_the_post_is_told(world: World) -> None:
    outcome = await one(world)
    stored = orjson.loads(world.s3.objects[outcome["s3_key"]])
    assert (stored["grant_id"], stored["sha256"], stored["content"]) == ("g1", SHA, GOOD)


# --- what is known already --------------------------------------------------------------------------------------------


async def test_a_redelivered_grant_that_was_paid_settles_the_same_and_does_not_call(world: World) -> None:
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant())
        await world.tell(agent, world.grant())
    assert len(world.provider.calls) == 1
    assert settled(world) == [("g1", 1000), ("g1", 1000)]
    assert [outcome["cached"] for outcome in outcomes(world)] == [False, False]


async def test_a_call_that_was_cut_off_is_lost_and_not_made_again(world: World) -> None:
    record(world, "started")
    await one(world)
    assert world.provider.calls == []
    (lost,) = world.sent("vision.budget")
    assert (lost["type"], lost["grant_id"], lost["estimate"]) == ("lost", "g1", 3000)
    assert lost["task"]["attempt"] == 2
    assert world.sent("vision.posts") == []


async def test_an_unreadable_record_counts_as_begun(world: World) -> None:
    world.s3.objects[RECORD] = b"{"
    await one(world)
    assert world.provider.calls == []
    assert world.sent("vision.budget")[0]["type"] == "lost"


async def test_another_workers_call_gets_time_to_end(world: World) -> None:
    record(world, "started", owner="worker-2/x")
    async with world.agent("analysis") as agent:
        await world.put(agent, world.grant())
        await until(lambda: sum(asked == ("read", RECORD) for asked in world.s3.asked) > 3)
        assert world.happened == []
        record(world, "done", owner="worker-2/x", tokens=777, verdict="refused")
        await until(lambda: world.acked == 1)
    assert world.provider.calls == []
    assert settled(world) == [("g1", 777)]
    assert outcomes(world)[0]["reason"] == "answer_expired"


async def test_a_call_cut_off_between_its_stored_answer_and_its_record_is_paid_once(world: World) -> None:
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant())
        record(world, "started")
        await world.tell(agent, world.grant(task=world.task(force=True)))
    assert len(world.provider.calls) == 1
    assert settled(world) == [("g1", 1000)] * 2
    assert [outcome["kind"] for outcome in outcomes(world)] == ["analyzed"] * 2


async def test_a_partition_that_moves_during_the_upload_takes_the_call_along(world: World) -> None:
    uploading, go_on = asyncio.Event(), asyncio.Event()

    async def upload(trace: CallTrace) -> None:
        uploading.set()
        await go_on.wait()

    world.provider.upload = upload
    async with world.agent("analysis") as agent:
        await world.put(agent, world.grant())
        await uploading.wait()
        world.app.consumer_generation_id += 1
        go_on.set()
        await until(lambda: world.app.flow.running == 0)
    assert (world.provider.calls, found_record(world), world.happened) == ([], None, [])
    assert world.slots.held == set()


async def test_a_call_begun_elsewhere_during_the_upload_is_not_made_here(world: World) -> None:
    async def upload(trace: CallTrace) -> None:
        record(world, "started", owner="worker-2/x")

    world.provider.upload = upload
    async with world.agent("analysis") as agent:
        await world.put(agent, world.grant())
        await until(lambda: sum(asked == ("read", RECORD) for asked in world.s3.asked) > 3)
        assert world.slots.held == set(), "nobody waits for another worker while holding a slot"
        record(world, "done", owner="worker-2/x", tokens=777, verdict="refused")
        await until(lambda: world.acked == 1)
    assert world.provider.calls == []
    assert settled(world) == [("g1", 777)]


async def test_a_picture_answered_elsewhere_during_the_upload_is_not_paid_again(world: World) -> None:
    async def upload(trace: CallTrace) -> None:
        if not world.s3.keys(SHA):
            world.s3.objects[elsewhere[0]] = elsewhere[1]

    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant("g0"))
        (key,) = world.s3.keys(SHA)
        elsewhere = (key, world.s3.objects.pop(key))
        world.provider.upload = upload
        await world.tell(agent, world.grant("g1", task=world.task(post_id="p2")))
    assert len(world.provider.calls) == 1
    assert settled(world) == [("g0", 1000), ("g1", 0)]
    assert found_record(world, "g1") is None


async def test_a_store_that_is_away_when_the_call_begins_is_waited_for_without_a_slot(world: World) -> None:
    world.s3.fail("put", ".calls", away(), away())
    outcome = await one(world)
    assert (outcome["kind"], len(world.provider.calls), world.slots.given) == ("analyzed", 1, 3)
    assert settled(world) == [("g1", 1000)]


async def test_while_an_answer_is_being_stored_the_slot_is_free_for_the_next_call(world: World) -> None:
    faults = [away() for _ in range(1000)]
    world.s3.fail("put", SHA, *faults)
    async with world.agent("analysis") as agent:
        await world.put(agent, world.grant())
        await until(lambda: len(world.provider.calls) == 1 and not world.slots.held)
        assert (world.acked, settled(world)) == (0, []), "the answer is not stored yet, and nothing is told of it"
        world.s3.faults.clear()
        await until(lambda: world.acked == 1)
    assert settled(world) == [("g1", 1000)]
    assert world.slots.given == 1


async def test_a_call_whose_record_took_too_long_is_begun_anew(world: World) -> None:
    """Otherwise other workers would count the running call as cut off."""
    allowed = iter((-1.0, 60.0))

    async def upload(trace: CallTrace) -> None:
        object.__setattr__(world.times, "begin", next(allowed))

    world.provider.upload = upload
    outcome = await one(world)
    assert ("delete", RECORD) in world.s3.asked
    assert (outcome["kind"], len(world.provider.calls)) == ("analyzed", 1)
    assert settled(world) == [("g1", 1000)]


async def test_a_call_that_moves_while_its_record_is_written_is_not_made(world: World) -> None:
    def moved(key: str) -> None:
        world.app.consumer_generation_id += 1

    world.s3.written = moved
    async with world.agent("analysis") as agent:
        await world.put(agent, world.grant())
        await until(lambda: ("delete", RECORD) in world.s3.asked and world.app.flow.running == 0)
    assert (world.provider.calls, found_record(world), world.happened) == ([], None, [])


async def test_a_record_written_elsewhere_while_ours_was_stays(world: World) -> None:
    def moved(key: str) -> None:
        world.app.consumer_generation_id += 1
        record(world, "started", owner="worker-2/x")

    world.s3.written = moved
    async with world.agent("analysis") as agent:
        await world.put(agent, world.grant())
        await until(lambda: ("put", RECORD) in world.s3.asked and world.app.flow.running == 0)
    assert world.provider.calls == []
    left = found_record(world)
    assert left is not None
    assert left["owner"] == "worker-2/x"


async def test_another_workers_call_of_long_ago_is_lost(world: World) -> None:
    record(world, "started", owner="worker-2/x", at=datetime.now(UTC) - timedelta(minutes=5))
    await one(world)
    assert world.sent("vision.budget")[0]["type"] == "lost"


async def test_an_answer_of_another_grant_costs_nothing(world: World) -> None:
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant("g0"))
        await world.tell(agent, world.grant("g1", task=world.task(post_id="p2")))
    assert len(world.provider.calls) == 1
    assert settled(world) == [("g0", 1000), ("g1", 0)]
    assert (outcomes(world)[1]["cached"], outcomes(world)[1]["tokens_billed"]) == (True, 0)


async def test_an_answer_is_its_tenants_own(world: World) -> None:
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant("g0"))
        await world.tell(agent, world.grant("g1", task=world.task(tenant_id="t2")))
    assert len(world.provider.calls) == 2


async def test_twins_at_the_same_time_cost_one_call(world: World) -> None:
    go_on = asyncio.Event()

    async def before(trace: CallTrace) -> None:
        await go_on.wait()

    world.provider.before = before
    async with world.agent("analysis") as agent:
        for number in range(5):
            await world.put(agent, world.grant(f"g{number}", task=world.task(post_id=f"p{number}")))
        await until(lambda: world.provider.calls)
        await asyncio.sleep(0.01)
        assert len(world.provider.calls) == 1
        go_on.set()
        await until(lambda: world.acked == 5)
    assert len(world.provider.calls) == 1
    assert sorted(tokens for _, tokens in settled(world)) == [0, 0, 0, 0, 1000]
    assert [outcome["kind"] for outcome in outcomes(world)] == ["analyzed"] * 5


# --- the picture's own faults -----------------------------------------------------------------------------------------


async def test_a_missing_object_spends_nothing(world: World) -> None:
    world.s3.objects.clear()
    outcome = await one(world)
    assert (outcome["kind"], outcome["reason"]) == ("skipped", "s3_missing")
    assert [command["type"] for command in world.sent("vision.budget")] == ["release"]
    assert found_record(world) is None
    assert world.slots.given == 0


@pytest.mark.parametrize(
    ("fault", "reason"), [(ObjectForbidden("denied"), "s3_forbidden"), (ObjectTooLarge("50 MB"), "too_large")]
)
async def test_an_object_that_cannot_be_read_spends_nothing(world: World, fault: Any, reason: str) -> None:
    world.s3.fail("read", "media/t1", fault)
    outcome = await one(world)
    assert outcome["reason"] == reason
    assert [command["type"] for command in world.sent("vision.budget")] == ["release"]


async def test_bytes_with_another_hash_are_not_sent_to_the_provider(world: World) -> None:
    other = png("blue")
    world.store(other)
    outcome = await one(world)
    assert (outcome["kind"], outcome["reason"]) == ("failed", "hash_mismatch")
    assert outcome["details"] == {"expected": SHA, "found": hashlib.sha256(other).hexdigest()}
    assert world.provider.calls == []


async def test_an_invalid_picture_is_not_sent_to_the_provider(world: World) -> None:
    content = b"MZ\x90\x00 not a picture" * 50
    sha256 = hashlib.sha256(content).hexdigest()
    world.store(content)
    outcome = await one(
        world, task=world.task(medium=Medium(sha256=sha256, s3_key="media/t1/red.png", mime_type="image/png"))
    )
    assert outcome["kind"] == "failed"
    assert world.provider.calls == []
    assert [command["type"] for command in world.sent("vision.budget")] == ["release"]


async def test_a_refused_picture_spends_nothing_and_is_not_sent_again(world: World) -> None:
    world.provider.answers = [InputFault("422", 422)]
    outcome = await one(world)
    assert (outcome["kind"], outcome["reason"], outcome["details"]["status"]) == ("failed", "analysis_failed", 422)
    assert len(world.provider.calls) == 1
    assert [command["type"] for command in world.sent("vision.budget")] == ["release"]
    assert found_record(world) is None


async def test_a_refusal_is_paid_and_the_next_post_does_not_pay_again(world: World) -> None:
    world.provider.answers = [REFUSED]
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant("g0"))
        await world.tell(agent, world.grant("g1", task=world.task(post_id="p2")))
    assert [(o["kind"], o["reason"]) for o in outcomes(world)] == [("failed", "refused")] * 2
    assert settled(world) == [("g0", 1000), ("g1", 0)]
    assert len(world.provider.calls) == 1


async def test_force_asks_again_after_a_refusal(world: World) -> None:
    world.provider.answers = [REFUSED, GOOD]
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant("g0"))
        await world.tell(agent, world.grant("g1", task=world.task(force=True)))
    assert [o["kind"] for o in outcomes(world)] == ["failed", "analyzed"]


async def test_a_redelivered_grant_that_paid_for_a_refusal_does_not_ask_again_by_force(world: World) -> None:
    world.provider.answers = [REFUSED]
    grant = world.grant(task=world.task(force=True))
    async with world.agent("analysis") as agent:
        await world.tell(agent, grant)
        await world.tell(agent, grant)
    assert len(world.provider.calls) == 1
    assert settled(world) == [("g1", 1000)] * 2


# --- the provider's own faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [ProviderOutage("503"), RateLimited("429"), AccountBlocked("package used up", 402)])
async def test_outages_are_waited_out_at_the_gate_and_cost_nothing(world: World, fault: ProviderError) -> None:
    records: list[dict[str, Any] | None] = []

    async def before(trace: CallTrace) -> None:
        records.append(found_record(world))

    world.provider.before = before
    world.provider.answers = [fault, fault, GOOD]
    outcome = await one(world)
    assert outcome["kind"] == "analyzed"
    assert len(world.provider.calls) == 3
    assert settled(world) == [("g1", 1000)]
    assert world.sent("vision.dlq") == []
    deleted = [asked for asked in world.s3.asked if asked == ("delete", RECORD)]
    assert len(deleted) == 2, "each attempt that cost nothing is forgotten"
    assert all(r is not None and r["state"] == "started" for r in records)
    assert world.slots.held == set()


async def test_a_task_waiting_at_the_gate_leaves_when_its_partition_moves(world: World) -> None:
    world.provider.answers = [ProviderOutage("503")]
    async with world.agent("analysis") as agent:
        await world.put(agent, world.grant())
        await until(lambda: len(world.provider.calls) > 1)
        world.app.consumer_generation_id += 1
        await until(lambda: world.app.flow.running == 0)
    assert world.happened == []
    assert world.slots.held == set()


async def test_a_record_that_could_not_be_cleared_counts_as_lost_later_never_as_free(world: World) -> None:
    world.s3.fail("delete", ".calls", away())
    world.provider.answers = [ProviderOutage("503"), GOOD]
    outcome = await one(world)
    assert outcome["kind"] == "analyzed"
    assert settled(world) == [("g1", 1000)]


async def test_a_lost_call_is_charged_and_asked_again_on_another_grant(world: World) -> None:
    world.provider.answers = [CallLost("connection reset")]
    await one(world)
    assert len(world.provider.calls) == 1
    (lost,) = world.sent("vision.budget")
    assert (lost["type"], lost["task"]["attempt"]) == ("lost", 2)
    record_ = found_record(world)
    assert record_ is not None
    assert record_["state"] == "started", "a redelivery must not call on this grant"


async def test_after_enough_lost_calls_the_picture_is_to_blame(world: World) -> None:
    world.provider.answers = [CallLost("connection reset")]
    attempts = world.app.settings.vision_api_max_retries
    outcome = await one(world, task=world.task(attempt=attempts))
    assert (outcome["kind"], outcome["reason"]) == ("failed", "analysis_failed")
    assert settled(world) == [("g1", 3000)], "nobody knows what it cost: the estimate is charged"


async def test_no_picture_is_to_blame_when_others_fail_too_or_the_gate_is_shut(world: World) -> None:
    """Three of five failures in a row may be caused by one picture. The fifth opens the breaker."""
    world.provider.answers = [CallLost("HTTP 500")]
    attempts = world.app.settings.vision_api_max_retries
    async with world.agent("analysis") as agent:
        for number in range(world.app.settings.gigachat_circuit_breaker_failure_threshold):
            await world.tell(agent, world.grant(f"g{number}", task=world.task(attempt=attempts)))
        assert [outcome["reason"] for outcome in outcomes(world)] == ["analysis_failed"] * 3
        assert [command["type"] for command in world.sent("vision.budget")] == ["settle"] * 3 + ["lost"] * 2
        world.provider.answers = [GOOD]
        await world.tell(agent, world.grant("later", task=world.task(attempt=attempts + 1)))
    assert outcomes(world)[-1]["kind"] == "analyzed"


async def test_a_paid_answer_is_kept_however_long_s3_is_away(world: World) -> None:
    world.s3.fail("put", "vision/t1/", away())  # the record of the start
    world.s3.fail("put", SHA, away(), away(), away())
    outcome = await one(world)
    assert outcome["kind"] == "analyzed"
    assert len(world.provider.calls) == 1
    assert len(world.s3.keys(SHA)) == 1


async def test_a_call_under_way_survives_a_rebalance_and_its_answer_serves_the_next(world: World) -> None:
    go_on = asyncio.Event()

    async def before(trace: CallTrace) -> None:
        await go_on.wait()

    world.provider.before = before
    async with world.agent("analysis") as agent:
        await world.put(agent, world.grant())
        await until(lambda: world.provider.calls)
        world.app.consumer_generation_id += 1
        await world.put(agent, world.grant())  # delivered again to the same worker
        await asyncio.sleep(0.02)
        go_on.set()
        await until(lambda: world.acked == 1)
        await until(lambda: world.app.flow.running == 0)
    assert len(world.provider.calls) == 1
    assert set(settled(world)) == {("g1", 1000)}


async def test_an_unexpected_error_frees_the_slot_of_the_budget_and_answers_the_post(world: World) -> None:
    world.s3.fail("read", "media/t1", ZeroDivisionError())
    outcome = await one(world)
    (letter,) = world.sent("vision.dlq")
    assert (outcome["kind"], outcome["dead_letter_id"]) == ("failed", letter["id"])
    assert [command["type"] for command in world.sent("vision.budget")] == ["release"]
    assert world.order()[-2:] == ["send vision.dlq", "ack"]


async def test_an_unexpected_error_after_a_paid_call_charges_what_it_cost(world: World) -> None:
    world.s3.fail("read", f"{SHA}_gigachat", ZeroDivisionError())
    record(world, "done", tokens=777, verdict="ok")
    await one(world)
    assert len(world.sent("vision.dlq")) == 1
    assert settled(world) == [("g1", 777)]


async def test_a_message_that_is_not_a_grant_is_dead_lettered_alone(world: World) -> None:
    async with world.agent("analysis") as agent:
        await world.tell(agent, b"{}")
    assert len(world.sent("vision.dlq")) == 1
    assert world.sent("vision.budget") == world.sent("vision.posts") == []


# --- OCR --------------------------------------------------------------------------------------------------------------


class TestWithOcr:
    @pytest.fixture
    def changes(self) -> dict[str, Any]:
        return {"vision_ocr_fallback_enabled": True}

    async def test_a_refused_answer_is_paid_and_ocr_stands_in(self, world: World) -> None:
        world.provider.answers = [REFUSED]
        outcome = await one(world, task=world.task(ocr_allowed=True))
        assert outcome["answer"]["provider"] == "ocr_fallback"
        assert outcome["answer"]["analysis"]["ocr"]["text"] == "ПРИВЕТ"
        assert settled(world) == [("g1", 1000)]

    async def test_where_ocr_is_not_allowed_a_refusal_is_a_failure(self, world: World) -> None:
        world.provider.answers = [REFUSED]
        outcome = await one(world)
        assert outcome["kind"] == "failed"
        assert world.ocr.read_pictures == 0

    async def test_ocr_that_gives_nothing_leaves_the_failure(self, world: World) -> None:
        world.provider.answers = [InputFault("400", 400)]
        world.ocr.fault = OcrFault("failed", "no text")
        outcome = await one(world, task=world.task(ocr_allowed=True))
        assert (outcome["kind"], outcome["reason"]) == ("failed", "analysis_failed")

    async def test_an_unexpected_error_of_ocr_after_a_refusal_charges_the_refusal(self, world: World) -> None:
        world.provider.answers = [REFUSED]
        world.ocr.fault = ZeroDivisionError()
        outcome = await one(world, task=world.task(ocr_allowed=True))
        assert (outcome["kind"], len(world.sent("vision.dlq"))) == ("failed", 1)
        assert [command["type"] for command in world.sent("vision.budget")] == ["settle"]

    async def test_an_ocr_grant_calls_no_provider_and_spends_nothing(self, world: World) -> None:
        grant: dict[str, Any] = {"provider": "ocr_fallback", "estimate": 0, "task": world.task(ocr_allowed=True)}
        outcome = await one(world, **grant)
        assert outcome["kind"] == "analyzed"
        assert world.provider.calls == []
        assert [command["type"] for command in world.sent("vision.budget")] == ["release"]
        async with world.agent("analysis") as agent:
            await world.tell(agent, world.grant("g2", **grant))
        assert world.ocr.read_pictures == 1, "the second finds the answer of the first"

    @pytest.mark.parametrize("gone", [True, False], ids=["gone", "it cannot read this one"])
    async def test_an_ocr_grant_that_ocr_cannot_use_makes_its_task_wait_for_money(
        self, world: World, gone: bool
    ) -> None:
        """Preflight reserves for it as for any other task, but without OCR, so that it gets no OCR grant again."""
        world.ocr.available = not gone
        world.ocr.fault = OcrFault("not_available" if gone else "timeout", "no text")
        await one(world, provider="ocr_fallback", estimate=0, task=world.task(ocr_allowed=True))
        assert outcomes(world) == []
        assert [command["type"] for command in world.sent("vision.budget")] == ["release"]
        (task,) = world.sent("vision.media")
        assert (task["post_id"], task["dispatch"], task["ocr_allowed"]) == ("p1", 1, False)

    async def test_a_cached_refusal_is_read_by_ocr_too(self, world: World) -> None:
        world.provider.answers = [REFUSED]
        async with world.agent("analysis") as agent:
            await world.tell(agent, world.grant("g0"))
            await world.tell(agent, world.grant("g1", task=world.task(post_id="p2", ocr_allowed=True)))
        assert outcomes(world)[1]["answer"]["provider"] == "ocr_fallback"
        assert settled(world) == [("g0", 1000), ("g1", 0)]


def test_the_picture_of_these_tests_is_what_its_hash_says() -> None:
    assert hashlib.sha256(PNG).hexdigest() == SHA


async def test_an_unexpected_error_of_a_call_counts_as_lost_since_it_may_have_been_paid(world: World) -> None:
    async def break_down(trace: CallTrace) -> None:
        raise ZeroDivisionError

    world.provider.before = break_down
    async with world.agent("analysis") as agent:
        await world.tell(agent, world.grant())
    [lost] = world.sent("vision.budget")
    assert (lost["type"], lost["grant_id"], lost["estimate"]) == ("lost", "g1", 3000)
    assert found_record(world)["state"] == "started"  # type: ignore[index]  # None fails it, too
    assert world.sent("vision.dlq") == []
