"""The acceptance guide's end-to-end test: one post through the whole pipeline, step by step, as the guide prints it.

It proves more than the guide's script: a real picture is uploaded, the wait ends with the result, and every failed step
ends the test and says what to do next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import puremagic
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from vision_app.messages import Medium
from vision_app.operations import neighbours
from vision_app.operations.api import Api, WorkerAway
from vision_app.retention import accounts
from vision_app.retention.limits import gib, limits_of
from vision_app.retention.quota import judge
from vision_app.retention.upload import QuotaExceeded, upload
from vision_app.settings import Settings
from vision_app.stores.keys import account_of
from vision_app.stores.posts import PostsReader, Row
from vision_app.stores.s3 import S3Store

from .connections import api_of, postgres_of, redis_of, s3_of
from .hops import entry_waits_for

LINE = "=" * 70
PICTURE = "meme_cat.jpg"
TICK_SECONDS = 15
POLL_SECONDS = 0.25
API_SECONDS = 10.0
ROOM = "освободите место: curl -X POST /api/v1/storage/cleanup, или увеличьте лимит (docs/storage.md)"
ROW_SECONDS = 10.0  # the row is committed before the event, so this only waits for a slow read

Tell = Callable[[str], None]


class StepFailed(Exception):
    """A step of the test did not succeed. `remedy` says what to do next, in Russian."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Order:
    """The parameters of the test. Without `image` a built-in picture, made unique so that the provider is asked."""

    tenant_id: str
    post_id: str
    trace_id: str
    image: Path | None
    wait_seconds: float


@dataclass
class _Run:
    """One run of the test: its parameters and the connections that the steps use."""

    settings: Settings
    order: Order
    tell: Tell
    redis: Redis
    s3: S3Store
    pool: Any
    posts: PostsReader
    api: Api


async def end_to_end(settings: Settings, order: Order, tell: Tell) -> None:
    """Run the seven steps. Raises StepFailed, and the errors of services that are away."""
    for line in ("", LINE, "🧪 E2E ТЕСТ VISION + S3 ПАЙПЛАЙНА", LINE, "", "📋 Параметры теста:"):
        tell(line)
    tell(f"  Post ID: {order.post_id}")
    tell(f"  Trace ID: {order.trace_id}")
    content, mime = await asyncio.to_thread(picture, order.image, order.trace_id)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(postgres_of(settings))
        run = _Run(
            settings,
            order,
            tell,
            await stack.enter_async_context(redis_of(settings)),
            await stack.enter_async_context(s3_of(settings)),
            pool,
            PostsReader(pool),
            await stack.enter_async_context(api_of(settings)),
        )
        await _quota(run, len(content))
        medium = await _upload(run, content, mime)
        repeated = await _answered_already(run, medium)
        since = await neighbours.newest_announcement(run.redis, settings)
        entry = await _publish(run, medium)
        await _wait(run, since, entry, repeated)
        row = await _row(run)
        await _api(run, row)
        await _streams(run)
    tell("")
    tell("✅ E2E ТЕСТ ЗАВЕРШЁН")


def picture(image: Path | None, mark: str) -> tuple[bytes, str]:
    """The bytes and type of the picture to send. Raises StepFailed if the file cannot be read."""
    if image is None:
        return commented(resources.files("vision_app").joinpath("demo_media", PICTURE).read_bytes(), mark), "image/jpeg"
    try:
        content = image.read_bytes()
        return content, puremagic.from_string(content, mime=True, filename=image.name)
    except (OSError, ValueError, puremagic.PureError) as fault:
        raise StepFailed(f"{image}: {fault}", "передайте в --image файл JPEG, PNG или документ") from fault


def commented(jpeg: bytes, text: str) -> bytes:
    """The same picture with a comment in it, which changes its sha256."""
    comment = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


# --- the steps --------------------------------------------------------------------------------------------------------


async def _quota(run: _Run, size_bytes: int) -> None:
    run.tell("")
    run.tell("📊 Шаг 1: Проверка S3 квот...")
    await run.s3.ensure_bucket()
    held = await accounts.usage_by_account(run.pool)
    own, bucket = held.get(account_of(run.order.tenant_id)), accounts.sum_usages(held)
    verdict, _ = judge(limits_of(run.settings), bucket, own, size_bytes, "media")
    figures = f"{gib(verdict.tenant_bytes):.2f} GB / {gib(verdict.tenant_limit_bytes):.2f} GB"
    if not verdict.allowed:
        raise StepFailed(f"Квота исчерпана: {verdict.reason} ({figures})", ROOM)
    run.tell(f"  ✅ Квота доступна ({figures})")


async def _upload(run: _Run, content: bytes, mime: str) -> Medium:
    run.tell("")
    run.tell("📤 Шаг 2: Создание VisionUploadedEventV1...")
    try:
        medium = (await upload(run.settings, run.pool, run.s3, run.order.tenant_id, content, mime)).medium
    except QuotaExceeded as fault:
        raise StepFailed(str(fault), ROOM) from fault
    run.tell(f"  Media SHA256: {medium.sha256}")
    run.tell(f"  S3 Key: {medium.s3_key}")
    return medium


async def _answered_already(run: _Run, medium: Medium) -> bool:
    """Whether the post already has an answer about this picture: then it is finished without a new event."""
    rows = await run.posts.get(run.order.post_id, run.order.tenant_id)
    media = [item for row in rows for item in (row["data"] or {}).get("media", ())]
    return any(item["sha256"] == medium.sha256 and item["status"] in ("analyzed", "partial") for item in media)


async def _publish(run: _Run, medium: Medium) -> str:
    order, stream = run.order, run.settings.input_streams[0]
    run.tell("")
    run.tell(f"🚀 Шаг 3: Публикация в {stream}...")
    event = neighbours.uploaded_event(
        order.tenant_id, order.post_id, [medium], order.trace_id, channel_id="e2e-channel", schema_version="v1"
    )
    entry = await neighbours.publish(run.redis, run.settings, event)
    run.tell(f"  ✅ Событие опубликовано: {entry}")
    run.tell(f"  Stream length: {await run.redis.xlen(stream)} messages")
    return entry


async def _wait(run: _Run, since: str, entry: str, repeated: bool) -> None:
    order = run.order
    run.tell("")
    run.tell(f"⏳ Шаг 4: Ожидание обработки Vision worker ({order.wait_seconds:.0f} секунд)...")
    if repeated:
        run.tell("  Эта картинка этого поста уже проанализирована: новое событие не ожидается")
    started = time.monotonic()
    ticking = asyncio.create_task(_tick(run.tell))
    try:
        done = await (_acknowledged(run, entry) if repeated else _announced(run, since))
    finally:
        ticking.cancel()
    if not done:
        raise StepFailed(
            f"Пост не обработан за {order.wait_seconds:.0f} секунд",
            f"vision status — запущен ли worker; vision trace {order.post_id} — где пост остановился",
        )
    run.tell(f"  ... ожидание ({time.monotonic() - started:.0f} секунд)")


async def _tick(tell: Tell) -> None:
    seconds = 0
    while True:
        await asyncio.sleep(TICK_SECONDS)
        seconds += TICK_SECONDS
        tell(f"  ... ожидание ({seconds} секунд)")


async def _announced(run: _Run, since: str) -> bool:
    """Wait for this run's event: an event of another run of the post has another trace."""
    order, found = run.order, asyncio.Event()

    def look(event: neighbours.Announced) -> None:
        if event.body.get("trace_id") == order.trace_id:
            found.set()

    deadline = time.monotonic() + order.wait_seconds
    while not found.is_set() and time.monotonic() < deadline:
        seen = await neighbours.await_announcements(
            run.redis, run.settings, [order.post_id], since, deadline, on_event=look
        )
        if seen:
            since = seen[order.post_id].entry_id
    return found.is_set()


async def _acknowledged(run: _Run, entry: str) -> bool:
    """Wait until a worker has acknowledged the entry, since a repeated post leads to no event."""
    deadline, stream = time.monotonic() + run.order.wait_seconds, run.settings.input_streams[0]
    while await entry_waits_for(run.redis, run.settings, stream, entry) is not None:
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def _row(run: _Run) -> Row:
    order = run.order
    run.tell("")
    run.tell("🔍 Шаг 5: Проверка результатов в БД...")
    deadline = time.monotonic() + ROW_SECONDS
    while True:
        rows = await run.posts.get(order.post_id, order.tenant_id)
        if rows or time.monotonic() >= deadline:
            break
        await asyncio.sleep(POLL_SECONDS)
    if not rows:
        raise StepFailed("В post_enrichment нет строки поста", f"vision trace {order.post_id}; vision logs worker-1")
    row = rows[0]
    if row["vision_analyzed_at"] is None:
        raise StepFailed(f"Vision анализ не выполнен: {_why(row)}", f"vision diag --post-id {order.post_id}")
    run.tell("  ✅ Vision анализ выполнен!")
    for line in _result(row):
        run.tell(f"    {line}")
    return row


def _result(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"Analyzed At: {row['vision_analyzed_at'].isoformat(sep=' ', timespec='seconds')}"
    yield f"Provider: {row['vision_provider']}"
    yield f"Model: {row['vision_model']}"
    yield f"Is Meme: {str(row['vision_is_meme']).lower()}"
    yield f"Tokens Used: {row['vision_tokens_used']}"


def _why(row: Mapping[str, Any]) -> str:
    media = (row["data"] or {}).get("media", ())
    reasons = {f"{item['status']} ({item.get('reason')})" for item in media}
    return f"status {row['status']}; {', '.join(sorted(reasons))}"


async def _api(run: _Run, row: Row) -> None:
    order = run.order
    run.tell("")
    run.tell("🔍 Шаг 6: Проверка через Vision API...")
    path = f"/api/v1/vision/posts/{quote(order.post_id, safe='')}?tenant_id={quote(order.tenant_id, safe='')}"
    try:
        status, body = await run.api.get(path, time.monotonic() + API_SECONDS)
    except WorkerAway as fault:
        raise StepFailed(str(fault), "vision status — запущен ли worker; VISION_API_PORT — где его API") from fault
    if status != 200:
        raise StepFailed(
            f"API ответил {status}: {body}", "vision logs worker-1; VISION_API_TOKENS, если это 401 или 404"
        )
    if (body.get("provider"), body.get("is_meme")) != (row["vision_provider"], row["vision_is_meme"]):
        raise StepFailed(f"API и БД расходятся: {body}", f"vision diag --post-id {order.post_id}")
    run.tell("  ✅ API endpoint работает")
    run.tell(f"    Provider: {body['provider']}")
    run.tell(f"    Is Meme: {str(body['is_meme']).lower()}")


async def _streams(run: _Run) -> None:
    """Lengths and the group's state: no entry of this run may be left pending."""
    settings, left = run.settings, 0
    run.tell("")
    run.tell("📈 Шаг 7: Проверка Redis Streams состояния...")
    for stream in (*settings.input_streams, settings.vision_output_stream, settings.vision_dlq_stream):
        run.tell(f"  {stream}: {await run.redis.xlen(stream)} messages")
    for stream in settings.input_streams:
        pending = await _pending(run.redis, stream, settings.vision_consumer_group)
        if pending is not None:
            left += pending
            run.tell(f"  Группа {settings.vision_consumer_group} ({stream}): pending {pending}")
    run.tell("  ✅ Необработанных событий нет" if not left else f"  ⚠️ Ещё обрабатываются чужие события: {left}")


async def _pending(redis: Redis, stream: str, group: str) -> int | None:
    try:
        return int((await redis.xpending(stream, group))["pending"])
    except ResponseError:
        return None  # no such stream yet
