"""Every agent on Faust's own test context: the real app and shells, without a broker, a store or a provider.

Sent records, rows written to a changelog and acknowledgements are recorded in one list, in the order in which they
happened. S3 is a dictionary below `S3Store`'s interface, the provider `vision_app.testing.MockProvider`.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from faust.streams import Stream
from faust.tables.base import Collection
from faust.topics import Topic
from faust.types import TP
from PIL import Image

import vision_app.app as composition
from tests.fakes import QUICK, LocalDecoders, until
from vision_app.analysis.caller import CallTimes
from vision_app.domain.signatures import key_from, signed
from vision_app.messages import Analysis, Grant, MediaTask, Medium, Message, Ocr, Uploaded
from vision_app.providers.base import BeforeChat, CallTrace, Picture, RawAnswer, Refused, nothing
from vision_app.providers.gate import Gate, GateTimes
from vision_app.settings import Settings, load_settings
from vision_app.stores.base import Sink
from vision_app.stores.s3 import ObjectHead, ObjectMissing, S3Store, StoreUnavailable
from vision_app.streams.ownership import partition_of
from vision_app.testing import Call, MockProvider
from vision_app.topics import BUDGET


def png(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(out, "PNG")
    return out.getvalue()


PNG = png()
SHA = hashlib.sha256(PNG).hexdigest()
GOOD = '{"classification": "photo", "description": "Красный квадрат на экране", "labels": ["квадрат"]}'
REFUSED = "Не могу обсуждать это изображение."


@dataclass(frozen=True)
class Happened:
    """`what` is send, row, gone or ack; `where` a topic or a table; `body` a message or a row."""

    what: str
    where: str
    key: bytes | None = None
    body: Any = None
    headers: Any = None


class FakeS3(S3Store):
    """A bucket in memory. `faults` by method and key are raised as often as listed; `written` is called for puts."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.bucket = "bucket"
        self.objects: dict[str, bytes] = {}
        self.faults: dict[tuple[str, str], list[Exception]] = {}
        self.asked: list[tuple[str, str]] = []
        self.written: Callable[[str], None] = lambda key: None

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def head(self, key: str) -> ObjectHead:
        return ObjectHead(key, len(self._found("head", key)))

    async def read(self, key: str, limit_bytes: int) -> bytes:
        return self._found("read", key)

    async def put(self, key: str, body: bytes, content_type: str = "", metadata: Any = None) -> None:
        self._asked("put", key)
        self.objects[key] = body
        self.written(key)

    async def delete(self, keys: Sequence[str]) -> int:
        for key in keys:
            self._asked("delete", key)
            self.objects.pop(key, None)
        return len(keys)

    def fail(self, method: str, key_part: str, *faults: Exception) -> None:
        self.faults[method, key_part] = list(faults)

    def _found(self, method: str, key: str) -> bytes:
        self._asked(method, key)
        if key not in self.objects:
            raise ObjectMissing(key)
        return self.objects[key]

    def _asked(self, method: str, key: str) -> None:
        self.asked.append((method, key))
        for (wanted, part), faults in self.faults.items():
            if wanted == method and part in key and faults:
                raise faults.pop(0)

    def keys(self, part: str) -> list[str]:
        return [key for key in self.objects if part in key]


class FakeProvider(MockProvider):
    """The mock provider with hooks for the analyst's tests.

    `upload` is awaited before the call is begun, `before` after that. For each of `pauses` the request is refused for
    free, and repeated when the pause is over.
    """

    name = "gigachat"

    def __init__(self) -> None:
        super().__init__(GOOD, model="GigaChat-Pro:1")
        self.upload: Callable[[CallTrace], Any] | None = None
        self.before: Callable[[CallTrace], Any] | None = None
        self.pauses: list[Callable[[CallTrace], Any]] = []
        self.during = self._begun

    @asynccontextmanager
    async def analyze(
        self,
        picture: Picture | None,
        prompt: str,
        trace: CallTrace,
        before_chat: BeforeChat,
        refused: Refused = nothing,
    ) -> AsyncIterator[RawAnswer]:
        async def begin() -> None:
            await before_chat()
            for pause in self.pauses:
                await refused()
                await pause(trace)
                await before_chat()

        if self.upload is not None:
            await self.upload(trace)
        async with super().analyze(picture, prompt, trace, begin, refused) as answer:
            yield answer

    async def _begun(self, call: Call) -> None:
        if self.before is not None:
            await self.before(call.trace)


class FakeSlots:
    def __init__(self, settings: Settings | None = None) -> None:
        self.held: set[str] = set()
        self.given = 0

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def acquire(self) -> str:
        self.given += 1
        self.held.add(str(self.given))
        return str(self.given)

    async def release(self, lease: str) -> None:
        self.held.discard(lease)


class FakeOcr:
    """Reads one word in every picture, or raises `fault`."""

    def __init__(self) -> None:
        self.available = True
        self.fault: Exception | None = None
        self.read_pictures = 0

    async def read(self, picture: Picture) -> tuple[Analysis, str]:
        self.read_pictures += 1
        if self.fault is not None:
            raise self.fault
        ocr = Ocr(text="ПРИВЕТ", engine="tesseract", confidence=0.9)
        return Analysis(classification="document", description="Текст", ocr=ocr), "tesseract-5"


class FakeSink(Sink[Any]):
    """Takes everything. `gate` holds writes back; the next writes raise `faults`."""

    def __init__(self, name: str, world: World) -> None:
        self.name, self._world = name, world
        self.gate = asyncio.Event()
        self.gate.set()
        self.faults: list[Exception] = []
        self.older: set[str] = set()

    async def open(self) -> None:
        return

    async def close(self) -> None:
        return

    async def write(self, batch: Sequence[Any]) -> Sequence[Any]:
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        for record in batch:
            self._world.happened.append(Happened("written", self.name, body=record))
        return [record for record in batch if getattr(getattr(record, "event", None), "post_id", "") not in self.older]


class FakeReaders:
    """What Postgres knows. `faults` are raised first; `answers` holds back what was spent.

    `unfinished_posts`: by tenant the posts that wait, with the time in ms since when.
    """

    def __init__(self) -> None:
        self.spent, self.paused = 0, False
        self.limit: int | None = None
        self.asked = self.looked = 0
        self.faults: list[Exception] = []
        self.unfinished_posts: dict[str, dict[str, int]] = {}
        self.answers = asyncio.Event()
        self.answers.set()

    async def budget_of(self, tenant_id: str, day: str) -> tuple[int, int | None, bool]:
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        await self.answers.wait()
        return self.spent, self.limit, self.paused

    async def unfinished(self, tenant_id: str, before_ms: int) -> list[str]:
        return [post for post, since_ms in self.unfinished_posts.get(tenant_id, {}).items() if since_ms <= before_ms]

    async def tenants_with_unfinished(self, before_ms: int) -> list[str]:
        self.looked += 1
        if self.faults:
            raise self.faults.pop(0)
        return list(self.unfinished_posts)

    async def record_reset(self, tenant_id: str, operator: str) -> None:
        return


class FakeMirror:
    """What Redis shows of the tenants' spending; None: it is unknown."""

    def __init__(self) -> None:
        self.spent: int | None = 0
        self.asked: list[str] = []

    async def spent_today(self, tenant_id: str) -> int | None:
        self.asked.append(tenant_id)
        return self.spent

    async def last_shown(self, tenant_id: str, day: str) -> int:
        return 0


class World:
    """The app under test and everything around it."""

    def __init__(self) -> None:
        self.happened: list[Happened] = []
        self.refuse: Callable[[str, Any], Exception | None] = lambda topic, value: None
        self.s3, self.provider, self.slots = FakeS3(), FakeProvider(), FakeSlots()
        self.sinks = {name: FakeSink(name, self) for name in ("postgres", "s3", "neo4j", "redis")}
        self.ocr = FakeOcr()
        self.postgres, self.mirror = FakeReaders(), FakeMirror()
        self.unconfirmed: list[asyncio.Future[Any]] | None = None  # if a list: changelog records wait in it
        self.times = CallTimes(deadline=60.0, store_retry=0.001, foreign_poll=0.001, returned_again=0.05)
        self.app: Any = None

    # -- output

    def sent(self, topic: str) -> list[dict[str, Any]]:
        return [entry.body for entry in self.happened if entry.what == "send" and entry.where == topic]

    @property
    def acked(self) -> int:
        return sum(entry.what == "ack" for entry in self.happened)

    def order(self, *whats: str) -> list[str]:
        """What happened, as `send vision.media` or `row posts`; only these kinds."""
        return [f"{e.what} {e.where}".strip() for e in self.happened if not whats or e.what in whats]

    async def letters(self, count: int = 1) -> list[dict[str, Any]]:
        await until(lambda: len(self.sent("vision.dlq")) >= count)
        return self.sent("vision.dlq")

    def own(self, *keys: bytes) -> None:
        """Assign the partitions of these keys of the budget's topic to the worker, and no others."""
        mine = {TP(BUDGET.name, partition_of(self.app, key)) for key in keys}
        self.app.consumer.assignment = lambda: mine

    # -- input

    @asynccontextmanager
    async def agent(self, name: str) -> AsyncIterator[Any]:
        async with self.app.agents[name].test_context() as agent:
            yield agent

    async def tell(self, agent: Any, *messages: Message | Uploaded | bytes, key: bytes = b"key", **more: Any) -> None:
        """Send these to the agent and wait until all are acknowledged."""
        expected = self.acked + len(messages)
        for message in messages:
            await self.put(agent, message, key=key, **more)
        await until(lambda: self.acked >= expected)

    async def put(
        self, agent: Any, message: Message | Uploaded | bytes | None, *, key: bytes = b"key", **more: Any
    ) -> Any:
        value = message if isinstance(message, bytes) or message is None else message.encode()
        return await agent.put(value, key=key, wait=False, **more)

    # -- messages to send

    def store(self, content: bytes = PNG, key: str = "media/t1/red.png") -> str:
        self.s3.objects[key] = content
        return key

    def task(self, **fields: Any) -> MediaTask:
        given: dict[str, Any] = {
            "tenant_id": "t1",
            "post_id": "p1",
            "trace_id": "trace-1",
            "dispatch": 1,
            "medium": Medium(sha256=SHA, s3_key="media/t1/red.png", mime_type="image/png", size_bytes=len(PNG)),
        }
        return MediaTask(**{**given, **fields})

    def grant(self, id: str = "g1", *, granted: float | None = None, **fields: Any) -> Grant:
        """A grant as the ledger gives it, now or at this time in seconds."""
        at = time.time() if granted is None else granted
        task = (fields.pop("task", None) or self.task()).at(granted=round(at * 1000))
        grant = Grant(**{"id": id, "provider": "gigachat", "estimate": 3000, "task": task, **fields})
        return signed(grant, key_from(self.app.settings.grant_secret))


def uploaded(post_id: str = "p1", media: Sequence[Medium] | None = None, **fields: Any) -> Uploaded:
    listed = [Medium(sha256=SHA, s3_key="media/t1/red.png", mime_type="image/png", size_bytes=600_000)]
    given: dict[str, Any] = {
        "trace_id": "trace-1",
        "occurred_at": datetime(2026, 11, 22, tzinfo=UTC),
        "idempotency_key": "k",
        "tenant_id": "t1",
        "channel_id": "-100",
    }
    return Uploaded(post_id=post_id, media_files=listed if media is None else list(media), **{**given, **fields})


@pytest.fixture
def changes() -> dict[str, Any]:
    """Settings of the app under test; a test module overrides this fixture."""
    return {}


@pytest.fixture
def substitutes() -> dict[str, Any]:
    """Fields of the app's `Services` beside the world's own; a test module overrides this fixture."""
    return {}


@pytest.fixture
async def world(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, Any], substitutes: dict[str, Any]
) -> AsyncIterator[World]:
    world = World()
    _record_kafka(monkeypatch, world)
    monkeypatch.setenv("VISION_WORKER_ID", "worker-1")
    monkeypatch.setenv("VISION_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = load_settings(
        **{"vision_ocr_fallback_enabled": False, "s3_access_key_id": "k", "s3_secret_access_key": "s", **changes}
    )
    app: Any = composition.create_app(settings, _services(world, substitutes))
    app.loop = asyncio.get_running_loop()
    app.finalize()
    app.flow_control.resume()
    world.app = app
    yield world
    app._stopped.set()  # handlers that wait for something raise LeftUnacked
    if app._consumer is not None:
        app._consumer._thread.thread_loop.close()  # Faust creates one and closes it only if it was started


def _record_kafka(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    async def send(topic: Any, *, key: Any = None, value: Any = None, headers: Any = None, **_: Any) -> Any:
        done = asyncio.get_running_loop().create_future()
        name = topic.get_topic_name()
        if (fault := world.refuse(name, value)) is not None:
            done.set_exception(fault)
        else:
            world.happened.append(Happened("send", name, key, orjson.loads(value or b"null"), headers))
            done.set_result(SimpleNamespace(topic=name, partition=0, offset=len(world.happened)))
        return done

    def send_changelog(table: Any, partition: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        world.happened.append(
            Happened("gone" if value is None else "row", table.name, key, orjson.loads(value or b"null"))
        )
        done: Any = asyncio.get_running_loop().create_future()
        if world.unconfirmed is None:
            done.set_result(None)
        else:
            world.unconfirmed.append(done)
        done.message = SimpleNamespace(partition=partition)
        return done

    async def ack(stream: Any, event: Any) -> bool:
        world.happened.append(Happened("ack", "", event.key, event.message.offset))
        return True

    monkeypatch.setattr(Topic, "send", send)  # patched: Faust's, there is no broker
    monkeypatch.setattr(Collection, "send_changelog", send_changelog)  # patched: Faust's, there is no broker
    monkeypatch.setattr(Collection, "partition_for_key", lambda table, key: 0)  # patched: Faust's, it asks the broker
    monkeypatch.setattr(Stream, "ack", ack)  # patched: Faust's, it is recorded


def _services(world: World, more: dict[str, Any]) -> composition.Services:
    times = GateTimes(recovery=0.02, blocked=0.02, pauses=(0.02,))
    services: dict[str, Any] = {
        "s3": lambda settings: world.s3,
        "provider": lambda settings: world.provider,
        "slots": lambda settings: world.slots,
        "gate": lambda settings, slots: Gate(settings, slots, times),
        "decoders": LocalDecoders,
        "ocr": lambda settings: world.ocr,
        "postgres": lambda settings: world.sinks["postgres"],
        "documents": lambda settings, s3: world.sinks["s3"],
        "graph": lambda settings: world.sinks["neo4j"],
        "announcer": lambda settings: world.sinks["redis"],
        "call_times": lambda settings: world.times,
        "readers": lambda settings: world.postgres,
        "mirror": lambda settings: world.mirror,
        "times": QUICK,
    }
    return composition.Services(**services | more)


def away() -> StoreUnavailable:
    return StoreUnavailable("S3 is away")
