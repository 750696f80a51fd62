"""What single steps cost in processor time: figures of docs/performance.md that `vision bench all` does not show.

`python scripts/step_costs.py`: requests to S3 by aioboto3's client and by ours, requests to GigaChat by httpx and by
aiohttp, and the ways to encode a screenshot, each beside the other in one run on embedded services; a signature for S3
by botocore and by ours; a row of a post deflated and inflated; and what Kafka's client takes for one fetch.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aioboto3
import httpx
import orjson
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from PIL import Image

from vision_app.clients.gigachat import gigachat_context
from vision_app.clients.gigachat_http import GigaChatHttp
from vision_app.clients.s3 import s3_arguments
from vision_app.clients.s3_signature import Signer
from vision_app.domain.posts import PostRow
from vision_app.providers.decoding import PNG_LEVEL
from vision_app.settings import Settings, load_settings
from vision_app.stack.client import running_stack
from vision_app.stores.s3 import S3Store
from vision_app.streams.packed_store import PackedValues
from vision_app.topics import ALL

REQUESTS, AT_ONCE = 1000, 8
PARTITIONS = Settings.model_fields["kafka_topic_partitions"].default
BODY = bytes(2000)
SCREENSHOT = Path(__file__).parents[1] / "vision_app" / "demo_media" / "screenshot_chat.png"


async def cost(what: str, step: Callable[[str], Awaitable[Any]]) -> None:
    """Print the processor time of this process for one of many requests, eight at a time."""

    async def some(name: int) -> None:
        for number in range(REQUESTS // AT_ONCE):
            await step(f"cost/{name}-{number % 20}")

    await asyncio.gather(*map(some, range(AT_ONCE)))
    began = time.process_time()
    await asyncio.gather(*map(some, range(AT_ONCE)))
    print(f"{what:32} {1000 * (time.process_time() - began) / REQUESTS:.2f} ms", flush=True)


async def s3(settings: Settings) -> None:
    store = S3Store(settings)
    await store.open()
    await store.ensure_bucket()
    place = {"Bucket": settings.s3_bucket}

    async def read(client: Any, key: str) -> None:
        await (await client.get_object(**place, Key=key))["Body"].read()

    async with aioboto3.Session().client("s3", **s3_arguments(settings)) as client:
        await cost("S3 PUT, aioboto3", lambda key: client.put_object(**place, Key=key, Body=BODY))
        await cost("S3 PUT, ours", lambda key: store.put(key, BODY))
        await cost("S3 GET, aioboto3", partial(read, client))
        await cost("S3 GET, ours", lambda key: store.read(key, 10_000))
    await store.close()


async def gigachat(settings: Settings) -> None:
    url = settings.gigachat_base_url.partition("/api")[0] + "/health"  # any answer of the simulator will do
    async with httpx.AsyncClient(trust_env=False) as client:
        await cost("GigaChat's host, httpx", lambda _: client.get(url))
    ours = GigaChatHttp(
        settings,
        url,
        gigachat_context(settings),
        connections=AT_ONCE,
        connect_seconds=5,
        silent_seconds=5,
        keepalive_seconds=4,
        user_agent="step_costs",
    )
    await cost("GigaChat's host, ours", lambda _: ours.exchange("GET", url, {}, None, 100_000))
    await ours.close()


def signatures() -> None:
    keys, bucket = ReadOnlyCredentials("key", "secret", None), "http://127.0.0.1:9000/vision/"
    signer = Signer("ru-central-1", bucket)

    def by_botocore() -> None:
        S3SigV4Auth(keys, "s3", "ru-central-1").add_auth(AWSRequest("PUT", f"{bucket}a", headers={}, data=BODY))

    timed("S3 signature, botocore", by_botocore)
    timed("S3 signature, ours", lambda: signer.signed(keys, "PUT", "a", {}, BODY))


def row() -> None:
    """A text of the size of an analyzed post's row; how far a row shrinks is in docs/performance.md."""
    text = orjson.dumps(PostRow.model_json_schema())[:3000]
    packed = PackedValues()
    packed[0] = text
    timed("a row of 3 kB, deflated", lambda: packed.update({0: text}))
    timed("a row of 3 kB, inflated", lambda: packed[0])


def timed(what: str, step: Callable[[], Any]) -> None:
    """Print the processor time of one of many calls."""
    began = time.process_time()
    for _ in range(REQUESTS):
        step()
    print(f"{what:32} {1e6 * (time.process_time() - began) / REQUESTS:.0f} µs", flush=True)


def png() -> None:
    image = Image.open(SCREENSHOT).convert("RGB")
    for name, options in (("optimize", {"optimize": True}), (f"level {PNG_LEVEL}", {"compress_level": PNG_LEVEL})):
        began, out = time.process_time(), io.BytesIO()
        for _ in range(5):
            out = io.BytesIO()
            image.save(out, "PNG", **options)
        spent = 1000 * (time.process_time() - began) / 5
        print(f"{f'a screenshot as PNG, {name}':32} {spent:.1f} ms, {len(out.getvalue()):,} bytes", flush=True)


def fetch() -> None:
    """One fetch of a worker that owns all partitions, and finds nothing: what each lone record costs beside itself."""
    topics = [topic.name for topic in ALL]
    asked = [(name, [(partition, -1, 12_345, -1, 2**20) for partition in range(PARTITIONS)]) for name in topics]
    request = FetchRequest_v11(-1, 500, 1, 52_428_800, 0, 0, -1, asked, [], "")
    told: list[tuple[str, list[Any]]] = [
        (name, [(partition, 0, 1, 1, 0, [], -1, b"") for partition in range(PARTITIONS)]) for name in topics
    ]
    answer = FetchResponse_v11(0, 0, 0, told).encode()
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("written", request.encode),
        ("read", lambda: FetchResponse_v11.decode(io.BytesIO(answer))),
    ]
    for what, step in steps:
        timed(f"Kafka: a fetch of {len(ALL) * PARTITIONS}, {what}", step)


async def requests(settings: Settings) -> None:
    await s3(settings)
    await gigachat(settings)


if __name__ == "__main__":
    png()
    signatures()
    row()
    fetch()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stack(Path(folder), services=("s3", "simulator")) as variables,
    ):
        asyncio.run(requests(load_settings(**{name.lower(): value for name, value in variables.items()})))
