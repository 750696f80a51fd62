"""Operators' commands against a running worker and real services, run as an operator runs them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from tests.integration.pipeline import PICTURES, Pipeline, Worker, picture, unique
from vision_app.cli import main
from vision_app.messages import Grant, MediaTask, SetLimit, key_of
from vision_app.operations.neighbours import never_uploaded, uploaded_event
from vision_app.settings import Settings
from vision_app.stores.policy_file import default_policy_path
from vision_app.streams.dead_letters import Origin, dead_letter
from vision_app.topics import ANALYSIS, BUDGET, DLQ

LIMIT_SECONDS = 60
HEADINGS = [
    "🧪 E2E ТЕСТ VISION + S3 ПАЙПЛАЙНА",
    "📋 Параметры теста:",
    "📊 Шаг 1: Проверка S3 квот...",
    "📤 Шаг 2: Создание VisionUploadedEventV1...",
    "🚀 Шаг 3: Публикация в stream:posts:vision:uploaded...",
    "⏳ Шаг 4: Ожидание обработки Vision worker (90 секунд)...",
    "🔍 Шаг 5: Проверка результатов в БД...",
    "🔍 Шаг 6: Проверка через Vision API...",
    "📈 Шаг 7: Проверка Redis Streams состояния...",
    "✅ E2E ТЕСТ ЗАВЕРШЁН",
]
FIELDS = [
    r"  Post ID: (?P<post>\S+)",
    r"  Trace ID: e2e_test_[0-9a-f]{16}",
    r"  ✅ Квота доступна \(\d+\.\d\d GB / 2\.00 GB\)",
    r"  Media SHA256: [0-9a-f]{64}",
    r"  S3 Key: media/\S+\.jpg",
    r"  ✅ Событие опубликовано: \d+-\d+",
    r"  Stream length: \d+ messages",
    r"  \.\.\. ожидание \(\d+ секунд\)",
    r"  ✅ Vision анализ выполнен!",
    r"    Analyzed At: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00",
    r"    Provider: gigachat",
    r"    Model: GigaChat-Pro\S*",
    r"    Is Meme: true",
    r"    Tokens Used: [1-9]\d*",
    r"  ✅ API endpoint работает",
]


class Vision:
    """The command line with the stack's variables and a home of its own, run within this process to save its start."""

    def __init__(self, stack: Mapping[str, str], folder: Path, url: str) -> None:
        port = url.rpartition(":")[2]
        self._environment = {**stack, "VISION_API_PORT": port, "VISION_HOME": str(folder / "home")}

    async def __call__(self, *arguments: str, code: int = 0, **extra: str) -> str:
        """Standard output, with errors if any were expected; fails if the exit code is another."""
        ended = await self.run(*arguments, **extra)
        assert ended.exit_code == code, f"exit code {ended.exit_code}\n{ended.output}\n{ended.exception!r}"
        return ended.stdout if code in (0, 3) else ended.output

    async def run(self, *arguments: str, **extra: str) -> Result:
        environment = {**self._environment, **extra}
        return await asyncio.to_thread(CliRunner().invoke, main, arguments, env=environment)

    async def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(await self(*arguments, "--json", code=code))

    async def as_process(self, *arguments: str) -> str:
        """As an operator runs it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("VISION_")}
        command = [str(Path(sys.executable).with_name("vision")), *arguments]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**inherited, **self._environment}
        )
        out, err = await asyncio.wait_for(process.communicate(), LIMIT_SECONDS)
        assert process.returncode == 0, f"{out.decode()}\n{err.decode()}"
        return out.decode()


@pytest.fixture
def vision(stack: Mapping[str, str], tmp_path: Path, worker: Worker) -> Vision:
    return Vision(stack, tmp_path, worker.url)


# --- e2e, diag --------------------------------------------------------------------------------------------------------


async def test_e2e_prints_the_guide_and_diag_and_trace_know_the_post(pipe: Pipeline, vision: Vision) -> None:
    tenant = unique("e2e")
    printed = await vision.as_process("e2e", "--tenant-id", tenant)
    lines = printed.splitlines()
    assert [line for line in lines if line in HEADINGS] == HEADINGS
    assert lines.count("=" * 70) == 2
    found = [next((m for line in lines if (m := re.fullmatch(field, line))), None) for field in FIELDS]
    assert all(found), [field for field, match in zip(FIELDS, found, strict=True) if match is None]
    assert found[0] is not None
    post = found[0]["post"]

    [told] = await vision.json("diag", "--post-id", post)
    assert (told["Status"], told["Provider"], told["Is Meme"], told["S3 Keys Count"]) == ("ok", "gigachat", True, 1)
    assert told["Tokens Used"] > 0
    assert told["Has Classification"]
    assert told["Has Description"]
    table = await vision("diag", "check", "--post-id", post)
    assert re.search(r"^Analyzed At +\d{4}-", table, re.MULTILINE)
    assert re.search(r"^Classification: \{", table, re.MULTILINE)

    await pipe.idle()  # until what was read is committed, trace rightly says that it is not finished
    [way] = await vision.json("trace", post)
    assert (way["stopped"], way["whole"], way["tenant_id"]) == (None, True, tenant)
    where = [hop["where"] for hop in way["hops"]]
    for place in (
        "stream:posts:vision:uploaded",
        "posts.vision.uploaded",
        "vision.posts",
        "vision.media",
        "vision.budget",
        "vision.analysis",
        "vision.sink.postgres",
        "posts.vision.analyzed",
        "stream:posts:vision:analyzed",
    ):
        assert place in where, place
    settled = [hop for hop in way["hops"] if hop["what"].startswith("settle")]
    assert len(settled) == 1
    by_trace = await vision.json("trace", way["trace_id"])
    by_entry = await vision.json("trace", way["hops"][where.index("stream:posts:vision:analyzed")]["place"])
    by_record = await vision.json("trace", way["hops"][where.index("vision.analysis")]["place"])
    assert by_trace[0]["post_id"] == by_entry[0]["post_id"] == by_record[0]["post_id"] == post


async def test_e2e_again_with_a_picture_that_is_answered_expects_no_event(pipe: Pipeline, vision: Vision) -> None:
    arguments = ("e2e", "--tenant-id", unique("again"), "--post-id", unique("again"))
    image = str(PICTURES / "photo_cat.jpg")
    await vision(*arguments, "--image", image)
    assert "новое событие не ожидается" in await vision(*arguments, "--image", image)


async def test_e2e_fails_with_what_to_do(pipe: Pipeline, vision: Vision, tmp_path: Path) -> None:
    text = tmp_path / "archive.zip"
    text.write_bytes(b"PK\x03\x04nothing else")
    failed = await vision("e2e", "--tenant-id", unique("zip"), "--image", str(text), code=1)
    assert "❌ E2E ТЕСТ НЕ ПРОЙДЕН" in failed
    assert "Что делать: vision diag --post-id" in failed
    full = await vision("e2e", "--tenant-id", unique("full"), code=1, S3_PER_TENANT_LIMIT_GB="0.00001")
    assert "Квота исчерпана: tenant_limit (0.00 GB / 0.00 GB)" in full
    assert "Шаг 2" not in full


async def test_diag_of_nothing_of_a_file_and_in_figures(pipe: Pipeline, vision: Vision) -> None:
    assert "No vision result for post nobody" in await vision("diag", "--post-id", "nobody")
    assert "vision doctor" in await vision("diag", "--post-id", "x", code=1, DATABASE_URL="postgresql://127.0.0.1:1/x")
    judged = await vision.json("diag", "test", "--media-file", str(PICTURES / "meme_cat.jpg"))
    assert (judged["Allowed"], judged["MIME"], judged["Reason"]) == (True, "image/jpeg", "policy_passed")
    denied = await vision.json("diag", "test", "--media-file", __file__, code=3)
    assert denied["Reason"] == "policy / unsupported_mime"

    group, stream = pipe.settings.vision_consumer_group, pipe.settings.input_streams[1]
    before = await vision.json("diag", "stats")
    assert (
        before["groups"][stream] | {"unread": 0}
        == before["groups"][stream]
        == {
            "pending": 0,
            "oldest_idle_seconds": None,
            "unread": 0,
            "exists": True,
        }
    )
    assert before["s3"]["media"]["objects"] > 0
    assert group == "vision_workers"


# --- publish, dead letters --------------------------------------------------------------------------------------------


async def test_a_mix_is_published_and_its_unreadable_posts_can_be_replayed_twice(
    pipe: Pipeline, vision: Vision
) -> None:
    tenant, prefix = unique("mix"), unique("mix")
    since = await pipe.newest()
    sent = await vision.json(
        "publish", "--count", "10", "--type", "mixed", "--tenant-id", tenant, "--post-id-prefix", prefix, "--parallel"
    )
    assert [one["post_id"] for one in sent] == [f"{prefix}-{number:04d}" for number in range(1, 11)]
    assert sent[0]["trace_id"] == "t-test-0001"
    readable = [one["post_id"] for one in sent if one["kind"] != "poison"]
    events = await pipe.announced(readable, since)
    assert [events[post].event_type.rpartition(".")[2] for post in readable] == ["analyzed"] * 6 + ["skipped"] * 3

    stream = pipe.settings.input_streams[0]
    entry = sent[-1]["entry_id"]
    replayed = [entry]
    for _ in range(2):
        dead = f"{stream}-{replayed[-1]}"
        await _letter(vision, dead)
        plan = await vision.json("dlq", "replay", "--id", dead, "--dry-run")
        assert (plan["letters"][0]["destination"], plan["cost"]["tokens_at_most"]) == (stream, 0)
        done = await vision.json("dlq", "replay", "--id", dead)
        assert bool(done["letters"][0]["warning"]) is (len(replayed) > 1)
        replayed.append(done["letters"][0]["sent"].rpartition(" ")[2])
    dead = f"{stream}-{replayed[-1]}"
    await _letter(vision, dead)
    assert "--again" in await vision("dlq", "replay", "--id", dead, code=1)
    assert replayed[0] not in await vision("dlq", "ls", "--origin", stream), "dealt with already"
    assert replayed[0] in await vision("dlq", "ls", "--origin", stream, "--all")
    assert "Discarded 1" in await vision("dlq", "discard", "--id", dead)
    assert dead not in await vision("dlq", "ls")
    assert "discarded" in await vision("dlq", "show", dead)
    assert dead in await vision("dlq", "ls", "--id", dead, DATABASE_URL="postgresql://127.0.0.1:1/x"), "as far as known"
    assert "say which letters" in await vision("dlq", "replay", code=2)
    assert "no such letter" in await vision("dlq", "replay", "--id", "nothing", code=1)


async def test_a_dead_lettered_post_is_found_by_each_of_its_ids(pipe: Pipeline, vision: Vision) -> None:
    """An entry that was cut in the middle is no JSON, but its bytes name tenant, post and trace."""
    tenant, post, stream = unique("buried"), unique("buried"), pipe.settings.input_streams[0]
    data = json.dumps(uploaded_event(tenant, post, [never_uploaded(tenant, post)], f"t-{post}"))
    entry = (await pipe.redis.xadd(stream, {"data": data[: data.index("media_files")]})).decode()
    dead = f"{stream}-{entry}"
    await _letter(vision, dead)
    assert dead in await vision("dlq", "ls", "--tenant", tenant)
    for known_as in (post, f"t-{post}", entry, dead):
        [way] = await vision.json("trace", known_as)
        assert (way["post_id"], way["letters"], way["stopped"]) == (post, [dead], None), known_as
        assert f"vision dlq show {dead}" in await vision("trace", known_as)
        [told] = await vision.json("diag", "--post-id", known_as)
        assert (told["Dead Letter"], told["Tenant"], told["Post"]) == (dead, tenant, post), known_as
    await vision("dlq", "discard", "--id", dead)
    assert "It came to its end." in await vision("trace", post)


async def test_a_grants_letter_is_replayed_under_a_new_grant(pipe: Pipeline, vision: Vision, worker: Worker) -> None:
    tenant, post = unique("grant"), unique("grant")
    content = picture()
    medium = await pipe.upload(tenant, content)
    await pipe.s3.delete([medium.s3_key])
    since = await pipe.newest()
    await pipe.publish(tenant, post, [medium])
    assert (await pipe.announced([post], since))[post].event_type == "posts.vision.skipped"
    await pipe.idle()

    await pipe.upload(tenant, content)
    task = MediaTask(tenant_id=tenant, post_id=post, trace_id=f"t-{post}", medium=medium, dispatch=1)
    grant = Grant(id=unique("old"), provider="gigachat", estimate=3000, task=task)
    dead = dead_letter(Origin(unique("vision.analysis"), ANALYSIS.name, 1), grant.encode(), "boom")
    await _produce(pipe.settings, DLQ.name, dead.id.encode(), dead.encode())
    plan = await vision.json("dlq", "replay", "--tenant", tenant, "--dry-run")
    assert (plan["cost"]["asked"], plan["letters"][0]["destination"]) == (1, "vision.media")
    assert plan["cost"]["tokens_at_most"] > 1000
    assert await pipe.billed(post) == [], "a dry run sends nothing"

    since = await pipe.newest()
    await vision("dlq", "replay", "--tenant", tenant)
    assert (await pipe.announced([post], since))[post].event_type == "posts.vision.analyzed"
    await pipe.idle()
    [call] = await pipe.billed(post)
    assert call["client_request_id"] != grant.id
    assert call["total_tokens"] <= plan["cost"]["tokens_at_most"]
    budget = await pipe.budget(worker, tenant)
    assert (budget["spent"], budget["open_grants"]) == (call["total_tokens"], 0)


async def test_a_stale_letter_starts_its_post_again_from_its_row(pipe: Pipeline, vision: Vision) -> None:
    tenant, post = unique("stale"), unique("stale")
    media = [await pipe.upload(tenant, picture()), never_uploaded(tenant, post)]
    since = await pipe.newest()
    await pipe.publish(tenant, post, media)
    await pipe.announced([post], since)
    await pipe.idle()
    task = MediaTask(tenant_id=tenant, post_id=post, trace_id="t", medium=media[0], dispatch=1)
    dead = dead_letter(Origin(unique("m"), "vision.media", 1), task.encode(), "boom")
    old = dead.model_copy(update={"last_seen_ms": dead.last_seen_ms - 25 * 3600 * 1000})
    await _produce(pipe.settings, DLQ.name, old.id.encode(), old.encode())
    plan = await vision.json("dlq", "replay", "--id", old.id, "--dry-run")
    assert plan["letters"][0]["whole_post"]
    assert plan["cost"] == {"cached": 1, "gone": 1, "asked": 0, "tokens_at_most": 0}
    since = await pipe.newest()
    await vision("dlq", "replay", "--id", old.id)
    event = (await pipe.announced([post], since))[post]
    assert [item["status"] for item in event.body["enrichments"]] == ["analyzed", "skipped"]
    assert len(await pipe.billed(post)) == 1, "the answer was there"


async def test_an_entry_with_the_largest_timestamp_is_shown_and_traced(pipe: Pipeline, vision: Vision) -> None:
    """A producer may choose the ids of its entries, up to 2^64 - 1 in the place of the milliseconds."""
    tenant, post, stream, far = unique("far"), unique("far"), unique("stream:far"), 2**64 - 616
    body = {"event_type": "posts.vision.uploaded", "tenant_id": tenant, "post_id": post, "trace_id": f"t-{post}"}
    entry = (await pipe.redis.xadd(stream, {"data": json.dumps(body)}, id=f"{far}-0")).decode()
    value = json.dumps({"type": "none", **body}).encode()
    letter = dead_letter(Origin(f"{stream}-{entry}", stream, far), value, "boom")
    await _produce(pipe.settings, DLQ.name, letter.id.encode(), letter.encode())
    shown = await vision("dlq", "show", letter.id)
    assert f"first_seen_ms: not in the years 1 to 9999 ({far} ms)" in shown
    assert (await vision.json("dlq", "show", letter.id))["first_seen_ms"] == far
    await vision("dlq", "ls", "--tenant", tenant)
    for identity in (entry, post, letter.id):
        traced = await vision("trace", identity, "--tenant", tenant, code=3, VISION_INPUT_STREAMS=stream)
        assert f"({far} ms)" in traced
        assert stream in traced
    beyond = await vision("trace", f"{2**64}-0", code=1, VISION_INPUT_STREAMS=stream)
    assert "nothing is known" in beyond
    assert "Traceback" not in beyond


# --- replay, stuck ----------------------------------------------------------------------------------------------------


async def test_posts_answered_by_ocr_are_asked_about_again(pipe: Pipeline, vision: Vision, worker: Worker) -> None:
    tenant, post = unique("ocr"), unique("ocr")
    await _limit(pipe, worker, tenant, 0)
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, "screenshot_chat.png")])
    event = (await pipe.announced([post], since))[post]
    assert event.body["enrichments"][0]["provider"] == "ocr_fallback"
    await pipe.idle()
    await _limit(pipe, worker, tenant, None)

    plan = await vision.json("replay", "--provider", "ocr_fallback", "--tenant", tenant, "--dry-run")
    assert (plan["inputs"], plan["posts"], plan["force"], plan["cost"]["asked"]) == (1, 1, True, 1)
    since = await pipe.newest()
    await vision("replay", "--provider", "ocr_fallback", "--tenant", tenant)
    event = (await pipe.announced([post], since))[post]
    assert event.body["enrichments"][0]["provider"] == "gigachat"
    await pipe.idle()
    [call] = await pipe.billed(post)
    assert 0 < call["total_tokens"] <= plan["cost"]["tokens_at_most"]
    assert (await vision.json("replay", "--provider", "ocr_fallback", "--tenant", tenant, "--dry-run"))["inputs"] == 0


async def test_recorded_inputs_are_sent_again_by_time_and_by_offsets(pipe: Pipeline, vision: Vision) -> None:
    tenant, post = unique("input"), unique("input")
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await pipe.announced([post], since)
    await pipe.idle()
    plan = await vision.json("replay", "--since", "1h", "--tenant", tenant, "--dry-run")
    assert (plan["inputs"], plan["cost"]["cached"], plan["cost"]["tokens_at_most"]) == (1, 1, 0)
    _, partition, offset = plan["origins"][0].rsplit("-", 2)

    since = await pipe.newest()
    await vision("replay", "--offsets", f"{partition}:{offset}-{offset}")
    await pipe.idle()
    assert (await pipe.all_announced([post], since))[post] == [], "nothing new: silent"
    await vision("replay", "--offsets", f"{partition}:{offset}-{offset}", "--force")
    await pipe.idle()
    assert len(await pipe.billed(post)) == 1, "a good answer is free, also by force"
    [way] = await vision.json("trace", post)
    assert sum("replayed from posts.vision.uploaded-" in hop["what"] for hop in way["hops"]) == 2
    again = await vision.json("replay", "--since", "1h", "--post", post, "--dry-run")
    assert (again["inputs"], again["repeated"]) == (1, 2), "earlier replays are not replayed again"
    assert "no partition 999" in await vision("replay", "--offsets", "999:1-2", code=1)
    assert "say which inputs" in await vision("replay", code=2)


async def test_a_post_that_hangs_is_listed_with_its_reason(pipe: Pipeline, vision: Vision) -> None:
    tenant, post = unique("hang"), unique("hang")
    assert await vision.json("posts", "--stuck", "--older-than", "0s", "--tenant", tenant) == []
    await pipe.faults({"endpoint": "chat", "fault": {"kind": "latency", "seconds": 15}})
    since = await pipe.newest()
    try:
        await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
        found: list[Any] = []
        while not found or not found[0]["media"] or "1 call(s)" not in found[0]["waits_for"]:
            listed = await vision.run("posts", "--stuck", "--older-than", "0s", "--tenant", tenant, "--json")
            found = json.loads(listed.stdout)
        assert listed.exit_code == 3
        assert (found[0]["post_id"], found[0]["media"][0]["status"]) == (post, "in_work")
        [way] = await vision.json("trace", post, code=3)
        assert way["stopped"].startswith("in vision.analysis at vision.analysis-")
    finally:
        await pipe.faults()
    await pipe.announced([post], since)
    await pipe.idle()
    assert (await vision.json("trace", post))[0]["stopped"] is None
    assert await vision.json("posts", "--stuck", "--older-than", "0s", "--tenant", tenant) == []


async def test_an_unknown_id(pipe: Pipeline, vision: Vision) -> None:
    assert "nothing is known" in await vision("trace", unique("nobody"), "--since", "1m", code=1)


# --- around -----------------------------------------------------------------------------------------------------------


async def _letter(vision: Vision, letter_id: str) -> None:
    """Wait until a letter is there."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not (await vision("dlq", "ls", "--id", letter_id, "--json")).strip():
            await asyncio.sleep(0.1)


async def _limit(pipe: Pipeline, worker: Worker, tenant: str, limit: int | None) -> None:
    """Set a tenant's limit and wait until it is in force."""
    command = SetLimit(tenant_id=tenant, limit=limit)
    await _produce(pipe.settings, BUDGET.name, key_of(tenant), command.encode())
    wanted = pipe.settings.vision_max_daily_tokens if limit is None else limit
    async with asyncio.timeout(LIMIT_SECONDS):
        while (await pipe.budget(worker, tenant))["limit"] != wanted:
            await asyncio.sleep(0.1)


async def _produce(settings: Settings, topic: str, key: bytes, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        await producer.send_and_wait(topic, value, key=key)


async def test_a_policy_is_tried_on_the_recorded_inputs(pipe: Pipeline, vision: Vision, tmp_path: Path) -> None:
    tenant, post = unique("trial"), unique("trial")
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await pipe.announced([post], since)
    shipped, other = default_policy_path(), tmp_path / "other.yml"
    other.write_text(shipped.read_text("utf-8").replace("    - image/png\n", "", 1))
    tried = await vision.json("policy", "dry-run", "--policy", str(other), "--tenant", tenant)
    assert tried["changed"] == [{"now": "analyze", "then": "unsupported_mime", "media": 1}]
    assert tried["tokens_at_most"]["now"] > tried["tokens_at_most"]["then"] == 0
    same = await vision.json("policy", "dry-run", "--policy", str(shipped), "--tenant", tenant)
    assert same["changed"] == []
