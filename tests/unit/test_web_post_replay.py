"""POST /api/v1/posts/{post_id}/replay: who may, what it names first, when it pays again, and when it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.test_budget import TENANT
from tests.unit.test_web import Worker, served
from vision_app.domain.calls import StoredAnswer
from vision_app.messages import FORCE_HEADER, REPLAY_HEADER, Answer, Verdict
from vision_app.providers.pictures import estimate_tokens
from vision_app.settings import load_settings
from vision_app.stores.answers import AnswerStore
from vision_app.stores.s3 import ObjectHead, ObjectMissing
from vision_app.topics import UPLOADED

NOW = datetime.now(UTC)
URL = "/api/v1/posts/p/replay"
SEEN, BAD, NEW, GONE = (letter * 64 for letter in "abcd")
SIZE = 50_000
SETTINGS = load_settings()
ESTIMATE = estimate_tokens(SIZE, "image/png", SETTINGS)


class Bucket:
    """Objects of pictures with their sizes, and stored answers."""

    def __init__(self) -> None:
        self.heads = {f"media/{name}": SIZE for name in (SEEN, BAD, NEW)}
        self.answers: dict[str, bytes] = {}

    async def head(self, key: str) -> ObjectHead:
        if key not in self.heads:
            raise ObjectMissing(key)
        return ObjectHead(key, self.heads[key])

    async def read(self, key: str, limit: int) -> bytes:
        if key not in self.answers:
            raise ObjectMissing(key)
        return self.answers[key]

    def answered(self, sha256: str, verdict: Verdict = "ok", age: timedelta = timedelta(hours=1)) -> None:
        answer = Answer(
            provider="gigachat",
            model="m",
            verdict=verdict,
            analysis=None,
            tokens=900,
            prompt_version="1",
            vision_version="v",
            analyzed_at=NOW - age,
            duration_ms=1,
        )
        stored = StoredAnswer(
            answer=answer, tenant_id=TENANT, sha256=sha256, grant_id="g", content="{}", stored_at=NOW - age
        )
        key = AnswerStore(self, SETTINGS.gigachat_vision_model).key(TENANT, sha256, "gigachat")  # type: ignore[arg-type]  # as much of the store as it uses
        self.answers[key] = stored.model_dump_json().encode()


def medium(sha256: str, status: str, tokens: int = 0, provider: str | None = None) -> dict[str, Any]:
    listed = {"sha256": sha256, "s3_key": f"media/{sha256}", "mime_type": "image/png", "size_bytes": SIZE}
    return {**listed, "status": status, "tokens_billed": tokens, "provider": provider}


class Replaying(Worker):
    """A worker with one post, a bucket, Postgres and Kafka."""

    kafka_sender: Any

    def __init__(self, *media: dict[str, Any], status: str = "ok") -> None:
        super().__init__()
        self.s3 = Bucket()
        event = {"tenant_id": TENANT, "post_id": "p", "trace_id": "t-1", "event_type": "posts.vision.uploaded"}
        event |= {"occurred_at": NOW.isoformat(), "idempotency_key": "k"}
        self.rows = [
            {
                "tenant_id": TENANT,
                "post_id": "p",
                "status": status,
                "data": {"event": event, "media": list(media)},
            }
        ]
        self.records: list[tuple[str, bytes, dict[str, bytes]]] = []
        self.executed: list[tuple[Any, ...]] = []

    async def get(self, post_id: str, tenant_id: str | None) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["post_id"] == post_id and tenant_id in (None, row["tenant_id"])]

    @asynccontextmanager
    async def pool_for_page(self) -> AsyncIterator[Any]:
        yield self

    async def execute(self, query: str, *values: Any) -> None:
        self.executed.append(values)


@pytest.fixture
def worker() -> Replaying:
    one = Replaying(medium(SEEN, "analyzed", 900, "gigachat"), medium(BAD, "partial", 800, "gigachat"))

    class Sender:
        async def send(self, topic: str, key: bytes, value: bytes, headers: dict[str, bytes]) -> str:
            one.records.append((topic, value, headers))
            return f"{topic}-0-{len(one.records)}"

    @asynccontextmanager
    async def sender(settings: Any) -> AsyncIterator[Any]:
        yield Sender()

    one.kafka_sender = sender
    return one


async def ask(worker: Worker, body: Any, token: str = "every", url: str = URL) -> tuple[int, Any]:  # noqa: S107 - of a test
    async with served(worker, vision_api_tokens=f"every=*,mine={TENANT},theirs=other") as client:
        headers = {"Authorization": f"Bearer {token}", "X-Operator": "anna"}
        return await client.ask("POST", url, headers=headers, json=body)


def effects(body: Any) -> dict[str, str]:
    return {one["sha256"]: one["effect"] for one in body["media"]}


async def test_a_preview_sends_nothing_and_a_finished_call_is_free(worker: Replaying) -> None:
    worker.s3.answered(SEEN)
    worker.s3.answered(BAD, "partial")
    status, body = await ask(worker, {})
    assert (status, body["dry_run"], body["sent"]) == (200, True, None)
    assert effects(body) == {SEEN: "free", BAD: "free"}
    assert body["cost"] == {"asked": 0, "tokens_at_most": 0, "cached": 2, "gone": 0}
    assert (body["paid_again"], body["topic"], '"post_id": "p"' in body["payload"]) == (0, UPLOADED.name, True)
    assert worker.records == worker.executed == []


async def test_a_forced_replay_says_that_it_pays_again(worker: Replaying) -> None:
    worker.s3.answered(SEEN)
    worker.s3.answered(BAD, "partial")
    _, body = await ask(worker, {"force": True})
    assert effects(body) == {SEEN: "free", BAD: "paid_again"}
    assert (body["paid_again"], body["cost"]["tokens_at_most"]) == (1, ESTIMATE)


async def test_an_answer_that_is_no_longer_kept_is_paid_again_also_without_force(worker: Replaying) -> None:
    worker.s3.answered(BAD, "partial", timedelta(hours=25))
    _, body = await ask(worker, {})
    assert effects(body) == {SEEN: "paid_again", BAD: "paid_again"}
    assert (body["paid_again"], body["cost"]["tokens_at_most"]) == (2, 2 * ESTIMATE)


async def test_pictures_never_asked_about_and_without_an_object(worker: Replaying) -> None:
    worker.rows[0]["data"]["media"] = [medium(NEW, "failed"), medium(GONE, "skipped"), medium(NEW, "failed")]
    _, body = await ask(worker, {})
    assert effects(body) == {NEW: "asked", GONE: "no_object"}
    assert body["cost"] == {"asked": 1, "tokens_at_most": ESTIMATE, "cached": 0, "gone": 1}


@pytest.mark.parametrize("force", [False, True])
async def test_a_replay_sends_the_posts_event_and_records_who_and_why(worker: Replaying, force: bool) -> None:
    status, body = await ask(worker, {"dry_run": False, "force": force, "reason": "the model was changed"})
    assert (status, body["sent"]) == (200, f"{UPLOADED.name}-0-1")
    [(topic, value, headers)] = worker.records
    assert (topic, b'"post_id":"p"' in value.replace(b" ", b"")) == (UPLOADED.name, True)
    assert (REPLAY_HEADER in headers, headers.get(FORCE_HEADER)) == (True, b"1" if force else None)
    most = 2 * ESTIMATE
    assert worker.executed == [(TENANT, "p", force, most, body["sent"], "anna", "the model was changed")]


async def test_nothing_is_sent_if_it_costs_more_than_was_said(worker: Replaying) -> None:
    status, body = await ask(worker, {"dry_run": False, "tokens_at_most": 2 * ESTIMATE - 1})
    assert (status, body["error"]["code"]) == (409, "costs_more")
    assert body["error"]["details"] == {"tokens_at_most": 2 * ESTIMATE}
    assert worker.records == []
    status, _ = await ask(worker, {"dry_run": False, "tokens_at_most": 2 * ESTIMATE})
    assert (status, len(worker.records)) == (200, 1)


@pytest.mark.parametrize(("token", "body", "status"), [("mine", {}, 403), ("theirs", {"tenant_id": TENANT}, 404)])
async def test_a_tenants_token_may_not_replay(worker: Replaying, token: str, body: Any, status: int) -> None:
    assert (await ask(worker, {**body, "dry_run": False}, token))[0] == status
    assert worker.records == []


async def test_a_post_without_a_row_or_event_names_the_command(worker: Replaying) -> None:
    status, body = await ask(worker, {}, url="/api/v1/posts/unknown/replay")
    assert (status, "vision replay" in body["error"]["message"]) == (404, True)
    known = worker.rows[0]["data"]
    faulty: list[dict[str, Any]] = [{"media": []}, {**known, "event": {}}, {**known, "event": {"post_id": 5}}]
    for broken in faulty:
        worker.rows[0]["data"] = broken
        status, body = await ask(worker, {})
        assert (status, body["error"]["code"]) == (409, "cannot_replay")
        assert "vision replay" in body["error"]["message"]


async def test_an_unknown_field_is_refused(worker: Replaying) -> None:
    assert (await ask(worker, {"forced": True}))[0] == 422
