"""The S3 client, answers and call records, and post documents, on a real S3 service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from tests.samples import AT_MS, again, analyzed, missing, post, unique
from vision_app.domain.calls import StoredAnswer
from vision_app.settings import Settings
from vision_app.stores.answers import BAD_ANSWER_LIFETIME, AnswerStore
from vision_app.stores.keys import call_key, post_key
from vision_app.stores.post_documents import PostDocumentSink
from vision_app.stores.s3 import (
    ObjectForbidden,
    ObjectMissing,
    ObjectTooLarge,
    S3Store,
    StoreMisconfigured,
    StoreUnavailable,
)
from vision_app.telemetry import metrics

STRANGE = "тест/..%2F ?&=+#\\'\"<>"


@pytest.fixture
async def store(stack_settings: Settings) -> AsyncIterator[S3Store]:
    store = S3Store(stack_settings)
    await store.open()
    await store.ensure_bucket()
    yield store
    await store.close()


async def test_an_object_comes_back_with_type_and_metadata(store: S3Store) -> None:
    key = f"{unique('test')}/объект +?.png"
    await store.put(key, b"\x89PNG" * 100, "image/png", {"emission": "1-2"})
    head = await store.head(key)
    assert (head.size_bytes, head.content_type, head.metadata) == (400, "image/png", {"emission": "1-2"})
    assert await store.read(key, 400) == b"\x89PNG" * 100
    with pytest.raises(ObjectTooLarge):
        await store.read(key, 399)


async def test_an_empty_object_is_an_object(store: S3Store) -> None:
    key = unique("test/empty")
    await store.put(key, b"")
    head = await store.head(key)
    assert (head.size_bytes, head.last_modified is not None) == (0, True)
    assert await store.read(key, 0) == b""


async def test_a_missing_object_is_missing(store: S3Store) -> None:
    for request in (store.head("no/such/key.jpg"), store.read("no/such/key.jpg", 1)):
        with pytest.raises(ObjectMissing):
            await request


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "//",
        "..",
        "../../etc/passwd",
        "a/../b",
        "a/./b",
        "/a",
        "a//b",
        "a/",
        "a\0b",
        "a\nb",
        "\ud800",
        "é" * 513,
    ],
)
async def test_a_key_that_can_name_nothing_is_a_missing_object_not_an_outage(store: S3Store, key: str) -> None:
    for request in (store.head(key), store.read(key, 1)):
        with pytest.raises(ObjectMissing):
            await request


@pytest.mark.parametrize("key", ["a" * 1000, "x/" + "я" * 200, "%2e%2e/%2E", "a\\..\\b", "💥 ?&=+#", "sha..png"])
async def test_an_odd_key_is_only_a_key(store: S3Store, key: str) -> None:
    for request in (store.head(key), store.read(key, 1)):
        with pytest.raises(ObjectMissing):
            await request


async def test_objects_are_listed_and_deleted(store: S3Store) -> None:
    prefix = unique("test") + "/"
    keys = sorted(f"{prefix}{number:04}" for number in range(1005))
    await asyncio.gather(*(store.put(key, b"x") for key in keys))
    listed = [head async for head in store.list(prefix)]
    assert [head.key for head in listed] == keys, "more than one page"
    assert listed[0].last_modified is not None
    assert await store.delete([*keys, f"{prefix}never-was"]) == len(keys) + 1
    assert [head async for head in store.list(prefix)] == []


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"s3_bucket": "no-such-bucket"}, "S3_BUCKET"),
        ({"s3_secret_access_key": SecretStr("wrong")}, "S3_SECRET_ACCESS_KEY"),
        ({"s3_access_key_id": SecretStr("wrong")}, "S3_ACCESS_KEY_ID"),
    ],
)
async def test_a_wrong_setting_is_never_taken_for_a_missing_object(
    stack_settings: Settings, change: dict[str, Any], remedy: str
) -> None:
    store = S3Store(stack_settings.model_copy(update=change))
    await store.open()
    try:
        for request in (store.head("any"), store.read("any", 1), store.put("any", b"")):
            with pytest.raises(StoreMisconfigured, match=remedy):
                await request
    finally:
        await store.close()


async def test_keys_not_configured_are_named(stack_settings: Settings) -> None:
    store = S3Store(stack_settings.model_copy(update={"s3_access_key_id": SecretStr("")}))
    with pytest.raises(StoreMisconfigured, match="S3_ACCESS_KEY_ID"):
        await store.open()


class OddStore:
    """A store as Cloud.ru and others behave where the embedded one does not: answers by method and key."""

    def __init__(self, answers: dict[str, list[tuple[int, str]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.method)
        queue = self.answers[request.method]
        status, code = queue.pop(0) if len(queue) > 1 else queue[0]
        body = f"<Error><Code>{code}</Code><Message>m</Message></Error>" if code and request.method != "HEAD" else ""
        headers = {"Content-Range": "bytes 0-0/77"} if status == 206 else {}
        return web.Response(status=status, text=body, content_type="application/xml", headers=headers)


async def _ask(settings: Settings, odd: OddStore) -> Any:
    server = web.AppRunner(_application(odd), handle_signals=False)
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    host, port = server.addresses[0][:2]
    store = S3Store(settings.model_copy(update={"s3_endpoint_url": f"http://{host}:{port}"}))
    await store.open()
    try:
        return await store.head("key")
    finally:
        await store.close()
        await server.cleanup()


def _application(odd: OddStore) -> web.Application:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", odd.answer)
    return application


async def test_a_head_is_a_get_since_some_stores_answer_500_to_head(stack_settings: Settings) -> None:
    with pytest.raises(ObjectMissing):
        await _ask(stack_settings, OddStore({"HEAD": [(500, "")], "GET": [(404, "NoSuchKey")]}))
    assert (await _ask(stack_settings, OddStore({"HEAD": [(500, "")], "GET": [(206, "")]}))).size_bytes == 77


async def test_an_object_without_a_first_byte_is_empty(stack_settings: Settings) -> None:
    odd = OddStore({"HEAD": [(200, "")], "GET": [(416, "InvalidRange")]})
    assert (await _ask(stack_settings, odd)).size_bytes == 0
    assert odd.asked == ["GET", "HEAD"]


@pytest.mark.parametrize("code", ["KeyTooLongError", "InvalidArgument"])
async def test_a_key_that_the_store_refuses_is_no_outage(stack_settings: Settings, code: str) -> None:
    with pytest.raises(ObjectMissing, match=code):
        await _ask(stack_settings, OddStore({"HEAD": [(400, "")], "GET": [(400, code)]}))


async def test_a_proxys_page_instead_of_an_answer_is_an_outage(stack_settings: Settings) -> None:
    with pytest.raises(StoreUnavailable):
        await _ask(stack_settings, OddStore({"HEAD": [(502, "")], "GET": [(502, "</Code><html> & <br>")]}))


async def test_denied_access_is_the_objects_fault(stack_settings: Settings) -> None:
    with pytest.raises(ObjectForbidden):
        await _ask(stack_settings, OddStore({"HEAD": [(403, "")], "GET": [(403, "AccessDenied")]}))


async def test_an_outage_is_retried_and_then_named(stack_settings: Settings) -> None:
    odd = OddStore({"HEAD": [(503, "")], "GET": [(503, "SlowDown")]})
    with pytest.raises(StoreUnavailable, match="503 SlowDown"):
        await _ask(stack_settings, odd)
    assert odd.asked == ["GET"] * 3


async def test_a_passing_outage_is_not_noticed(stack_settings: Settings) -> None:
    odd = OddStore({"HEAD": [(503, "")], "GET": [(503, "SlowDown"), (206, "")]})
    before = _requests("head", "error"), _requests("head", "success")
    assert (await _ask(stack_settings, odd)).size_bytes == 77
    assert (_requests("head", "error"), _requests("head", "success")) == (before[0] + 1, before[1] + 1), "but counted"


async def test_a_write_over_a_connection_that_was_closed_is_sent_again_whole(stack_settings: Settings) -> None:
    """The HTTP client repeats a PUT itself then. It must not send what is left of a body that was read already."""
    bodies, content = [], bytes(range(256)) * 2000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(length)
            if number == 1:
                break
            bodies.append(body)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = S3Store(stack_settings.model_copy(update={"s3_endpoint_url": f"http://127.0.0.1:{port}"}))
        await store.open()
        for _ in range(2):
            await store.put("key", content)
        await store.close()
    assert bodies == [content, content]


def _requests(operation: str, result: str) -> float:
    count: float = metrics.S3_OPERATIONS.labels(operation=operation, result=result)._value.get()
    return count


# --- answers and calls ------------------------------------------------------------------------------------------------


def stored(tenant: str, sha256: str, verdict: str = "ok", age: timedelta = timedelta(0)) -> StoredAnswer:
    return StoredAnswer(
        answer=analyzed(verdict=verdict).answer,
        tenant_id=tenant,
        sha256=sha256,
        grant_id="g-1",
        content='{"classification": "photo"} привет',
        stored_at=datetime.now(UTC) - age,
    )


async def test_an_answer_is_found_by_tenant_picture_provider_model_and_prompt(store: S3Store) -> None:
    answers, tenant = AnswerStore(store, "GigaChat-Pro", "p1"), unique("tenant")
    answer = stored(tenant, "ab" * 32)
    assert await answers.find(tenant, "ab" * 32, "gigachat") is None
    assert await answers.save(answer) == f"vision/{tenant}/{'ab' * 32}_gigachat_GigaChat-Pro_v1.0_p1.json"
    assert await answers.find(tenant, "ab" * 32, "gigachat") == answer
    assert await answers.find(tenant, "ab" * 32, "ocr_fallback") is None
    assert await answers.find(unique("tenant"), "ab" * 32, "gigachat") is None
    for other in (AnswerStore(store, "GigaChat-Max", "p1"), AnswerStore(store, "GigaChat-Pro", "p2")):
        assert await other.find(tenant, "ab" * 32, "gigachat") is None


@pytest.mark.parametrize("verdict", ["refused", "unusable", "partial"])
async def test_a_bad_answer_is_given_out_for_a_day(store: S3Store, verdict: str) -> None:
    answers, tenant = AnswerStore(store, "GigaChat-Pro", "p1"), unique("tenant")
    await answers.save(stored(tenant, STRANGE, verdict, BAD_ANSWER_LIFETIME - timedelta(minutes=1)))
    assert await answers.find(tenant, STRANGE, "gigachat") is not None
    assert await answers.find(tenant, STRANGE, "gigachat", only_good=True) is None
    await answers.save(stored(tenant, STRANGE, verdict, BAD_ANSWER_LIFETIME))
    assert await answers.find(tenant, STRANGE, "gigachat") is None


async def test_a_good_answer_is_given_out_at_any_age(store: S3Store) -> None:
    answers, tenant = AnswerStore(store, "GigaChat-Pro", "p1"), unique("tenant")
    await answers.save(stored(tenant, "s", age=timedelta(days=400)))
    assert await answers.find(tenant, "s", "gigachat", only_good=True) is not None


async def test_an_unreadable_answer_is_no_answer(store: S3Store) -> None:
    answers, tenant = AnswerStore(store, "GigaChat-Pro", "p1"), unique("tenant")
    await store.put(answers.key(tenant, "s", "gigachat"), b"{half")
    assert await answers.find(tenant, "s", "gigachat") is None


async def test_a_calls_record_tells_how_far_it_got(store: S3Store) -> None:
    answers, tenant, grant = AnswerStore(store, "GigaChat-Pro", "p1"), unique("tenant"), STRANGE
    assert await answers.call(tenant, grant) is None
    await answers.start_call(tenant, grant, "worker-1/a")
    begun = await answers.call(tenant, grant)
    assert begun is not None
    assert (begun.state, begun.tokens, begun.owner) == ("started", None, "worker-1/a")
    await answers.finish_call(tenant, grant, 1320, "refused", "vision/key.json")
    done = await answers.call(tenant, grant)
    assert done is not None
    assert (done.state, done.tokens, done.verdict, done.answer_key) == ("done", 1320, "refused", "vision/key.json")
    await answers.clear_call(tenant, grant)
    assert await answers.call(tenant, grant) is None


async def test_an_unreadable_call_record_counts_as_begun(store: S3Store) -> None:
    answers, tenant = AnswerStore(store, "GigaChat-Pro", "p1"), unique("tenant")
    await store.put(call_key(tenant, "g"), b"\0")
    record = await answers.call(tenant, "g")
    assert record is not None
    assert record.state == "started"


# --- documents --------------------------------------------------------------------------------------------------------


async def test_only_finished_posts_have_a_document_and_an_analysis_is_kept(
    store: S3Store, stack_settings: Settings
) -> None:
    sink = PostDocumentSink(stack_settings, store)
    await sink.open()
    opened = post([None])
    key = post_key(opened.event.tenant_id, opened.event.post_id)
    assert await sink.write([opened]) == []
    with pytest.raises(ObjectMissing):
        await store.head(key)
    done = again(opened, [analyzed()], (AT_MS, 2))
    assert await sink.write([done]) == [done]
    assert await sink.write([again(opened, [missing()], (AT_MS, 3))]) == []
    assert (await store.head(key)).metadata == {"emission": f"{AT_MS}-2", "analyzed": "1"}
    await sink.close()
    assert (await store.head(key)).size_bytes, "a shared store stays open"
