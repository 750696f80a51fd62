"""Where a post is now: from its owner, its tenant's ledger and every worker's stages, without any store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.fakes import until
from tests.unit.test_budget import TENANT
from tests.unit.test_changes import Reader, Stream
from tests.unit.test_timeline import T, open_post
from tests.unit.test_web import TOKENS, Worker, served
from tests.web_app import application
from vision_app.messages import key_of
from vision_app.settings import load_settings
from vision_app.telemetry.watch import RecordPlace, Subject, Watch, note_subjects, taking_step, waiting_for
from vision_app.web.changes import ChangeTail
from vision_app.web.models import LiveMedium, ParkedTask
from vision_app.web.post_models import HeldRecord
from vision_app.web.post_now import medium_now

SHA = "a" * 64
NOW = datetime.now(UTC)


class Live(Worker):
    """A worker with stages and other workers."""

    def __init__(self) -> None:
        super().__init__()
        self.watch = Watch()
        self.others: list[Any] = []
        self.router = SimpleNamespace(key_store=lambda table, key: self.owner, tables_metadata=lambda: self.others)
        self.changes: Any = None


async def now_of(worker: Worker, caller: str = "own", query: str = "") -> tuple[int, Any]:
    async with served(worker, vision_api_tokens=f"every=*,mine={TENANT}") as client:
        return await client.ask("GET", f"/api/v1/posts/p/live{query}", headers=TOKENS[caller])


def live(status: str = "in_work") -> LiveMedium:
    return LiveMedium(sha256=SHA, status=status, dispatch=1, dispatched_ms=T)


def held(stage: str, step: str = "", sha256: str | None = SHA) -> HeldRecord:
    return HeldRecord(stage=stage, sha256=sha256, since=NOW, step=step, waits_for="gigachat")


TASK = ParkedTask(
    number=1,
    post_id="p",
    trace_id="t",
    sha256=SHA,
    estimate=5,
    purpose="answer",
    ocr_allowed=False,
    since_ms=T,
    announced=True,
)


@pytest.mark.parametrize(
    ("status", "waiting", "granted", "in_hand", "place"),
    [
        ("in_work", [], False, [], "between"),
        ("in_work", [], False, [held("media")], "look_up"),
        ("in_work", [TASK], False, [], "parked"),
        ("deferred", [TASK], False, [], "parked"),
        ("in_work", [], True, [], "granted"),
        ("in_work", [], True, [held("analysis")], "decoding"),
        ("in_work", [], True, [held("analysis", "turn")], "turn"),
        ("in_work", [], True, [held("analysis", "call")], "call"),
        ("deferred", [], False, [held("analysis", "call")], "call"),
        ("analyzed", [], False, [held("sink-postgres", sha256=None)], "ended"),
        ("in_work", [], False, [held("analysis", "call", "b" * 64)], "between"),
        ("in_work", [TASK.model_copy(update={"sha256": "b" * 64})], False, [], "between"),
    ],
)
def test_where_a_picture_is(status: str, waiting: Any, granted: bool, in_hand: Any, place: str) -> None:
    found = medium_now(live(status), waiting, granted, in_hand)
    assert (found.place, found.status, found.since is None) == (place, status, place == "ended")


def test_the_watch_knows_what_its_records_are_about_and_their_step() -> None:
    watch = Watch()
    with watch.stage("analysis").work(RecordPlace("vision.analysis", 0, "5")):
        note_subjects(Subject("t", "p", SHA), Subject("t", "other"))
        with taking_step("turn"), waiting_for("gigachat"):
            (one,) = watch.held_of("t", "p")
            assert (one.stage, one.sha256, one.step, one.waits_for) == ("analysis", SHA, "turn", "gigachat")
        assert [(one.step, one.waits_for) for one in watch.held_of("t", "p")] == [("", None)]
        assert watch.held_of("u", "p") == []
        note_subjects()
        assert watch.held_of("t", "p") == []
    note_subjects(Subject("t", "p"))  # outside of any work
    with taking_step("call"):
        assert watch.held_of("t", "p") == []


async def test_a_post_in_work_is_shown_without_any_store() -> None:
    worker = Live()
    worker.postgres = False
    open_post(worker)
    status, body = await now_of(worker)
    assert (status, body["status"], body["unknown"]) == (200, "in_work", [])
    assert [(one["sha256"], one["place"], one["status"]) for one in body["media"]] == [(SHA, "between", "in_work")]


async def test_a_post_that_a_sink_has_in_hand_says_which_and_what_it_waits_for() -> None:
    worker = Live()
    open_post(worker)
    with worker.watch.stage("sink-postgres").work(RecordPlace("vision.sink.postgres", 0, "1")):
        note_subjects(Subject(TENANT, "p"))
        with waiting_for("postgres"):
            _, body = await now_of(worker)
    assert [(one["stage"], one["sha256"], one["waits_for"]) for one in body["held"]] == [
        ("sink-postgres", None, "postgres")
    ]


async def test_a_parked_task_is_found_among_those_of_its_tenant() -> None:
    worker = Live()
    row = open_post(worker)
    (sha256,) = row.media
    worker.park("q", sha256, "r")
    for key, entry in list(worker.parked.items()):
        of = "p" if entry.task.medium.sha256 == sha256 else "another"
        worker.parked[key] = entry.model_copy(update={"task": entry.task.model_copy(update={"post_id": of})})
    _, body = await now_of(worker)
    assert [(one["place"], one["waits_for"]) for one in body["media"]] == [("parked", "its tenant's budget or a slot")]


async def test_nothing_is_said_of_a_post_that_nobody_holds_or_that_is_anothers() -> None:
    worker = Live()
    _, body = await now_of(worker)
    assert (body["status"], body["media"], body["held"]) == ("not_open", [], [])
    open_post(worker)
    worker.posts[key_of("another", "p")] = worker.posts[key_of(TENANT, "p")]
    assert (await now_of(worker, "own", "?tenant_id=another"))[0] == 404
    assert (await now_of(worker, "all", "?tenant_id=another"))[0] == 200


@asynccontextmanager
async def other_worker(answer: Any) -> AsyncIterator[Any]:
    owner = web.Application()
    owner.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(owner) as server:
        yield server.make_url("/")


async def test_all_workers_are_asked_and_a_silent_one_is_named() -> None:
    here, there = Live(), Live()
    open_post(there)

    async def answer(request: web.Request) -> web.Response:
        with there.watch.stage("analysis").work(RecordPlace("vision.analysis", 0, "5")):
            note_subjects(Subject(TENANT, "p", SHA))
            with taking_step("call"):
                async with served(there) as client:
                    status, body = await client.ask("GET", str(request.rel_url))
        return web.json_response(body, status=status)

    async def broken(request: web.Request) -> web.Response:
        return web.json_response({}, status=500)

    async with other_worker(answer) as owner, other_worker(broken) as silent, aiohttp.ClientSession() as session:
        here.http_client, here.owner, here.others = session, owner, [owner, silent]
        _, body = await now_of(here)
        assert (body["status"], body["media"][0]["place"]) == ("in_work", "call")
        assert body["unknown"] == [f"{silent.host}:{silent.port}"]
        here.owner = silent
        _, body = await now_of(here)
        assert (body["status"], body["media"]) == ("not_open", [])
        assert set(body["unknown"]) == {f"{silent.host}:{silent.port}", "its owner", "its tenant's ledger"}


async def test_the_stream_of_changes_tells_where_a_post_is_whenever_that_changes() -> None:
    worker = Live()
    worker.settings = load_settings(vision_api_tokens=f"every=*,mine={TENANT}")
    stream = Stream()
    worker.changes = ChangeTail(worker.settings, stream, poll_seconds=0.01)  # type: ignore[arg-type]  # a fake
    open_post(worker)
    async with TestClient(TestServer(application(worker.settings, worker))) as client:
        url = "/api/v1/changes?post_id=p&seconds=60"
        async with client.get(url, headers=TOKENS["own"]) as answer, asyncio.timeout(20):
            reader = Reader(answer)
            assert (await state(reader))["media"][0]["place"] == "between"
            await until(lambda: worker.changes.place != "")
            with worker.watch.stage("media").work(RecordPlace("vision.media", 0, "5")):
                note_subjects(Subject(TENANT, "p", SHA))
                assert (await state(reader))["media"][0]["place"] == "look_up"
            assert (await state(reader))["media"][0]["place"] == "between"
            worker.posts.clear()
            assert (await state(reader))["status"] == "not_open"
        async with client.get(f"{url}&tenant_id=another", headers=TOKENS["own"]) as answer:
            assert answer.status == 404
        worker.should_stop = True
    await worker.changes.close()


async def state(reader: Reader) -> Any:
    while (found := await reader.event())["event"] != "state":
        pass
    assert "id" not in found
    return orjson.loads(found["data"])
