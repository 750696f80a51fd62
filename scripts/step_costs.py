"""What single steps cost in processor time: figures of docs/performance.md that `vision bench all` does not show.

`python scripts/step_costs.py`: requests to S3 by aioboto3's client and by ours, requests to GigaChat by httpx and by
aiohttp, fetches from Kafka by aiokafka's fetcher and by ours, and the ways to encode a screenshot, each beside the
other in one run on embedded services; a signature for S3 by botocore and by ours; a row of a post deflated and
inflated.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aioboto3
import httpx
import orjson
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.protocol.fetch import FetchResponse_v11
from aiokafka.protocol.metadata import MetadataResponse_v1
from aiokafka.structs import TopicPartition
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from PIL import Image

from vision_app.clients.gigachat import gigachat_context
from vision_app.clients.gigachat_http import GigaChatHttp
from vision_app.clients.kafka_fetch import quicken_fetches
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


async def fetch(quick: bool) -> None:
    """Fetches of a consumer that owns all partitions and finds nothing: what each lone record costs beside itself."""
    places = [TopicPartition(topic.name, partition) for topic in ALL for partition in range(PARTITIONS)]
    answers = {
        name: [(at.partition, 0, 1, 1, 0, None, -1, b"") for at in them]
        for name, them in groupby(places, attrgetter("topic"))
    }
    frame = FetchResponse_v11(0, 0, 0, list(answers.items())).encode()
    led = [(0, name, False, [(0, one[0], 1, [1], [1]) for one in them]) for name, them in answers.items()]
    client, subscription = AIOKafkaClient(), SubscriptionState()
    client.cluster.update_metadata(MetadataResponse_v1([(1, "broker", 9092, None)], 1, led))
    subscription.assign_from_user(places)
    for place in places:
        subscription.seek(place, 12_345)
    ready, sent = asyncio.Event(), []

    def exchange(request: Any) -> Any:
        written = request.prepare({request.API_KEY: (11, 11)})
        written.encode()
        return written.RESPONSE_TYPE.decode(io.BytesIO(frame))

    async def send(_: int, request: Any) -> Any:
        sent.append(request)
        if len(sent) == REQUESTS:
            ready.set()
        await asyncio.sleep(0)
        return exchange(request)

    async def start() -> None:
        consumer._fetcher = Fetcher(client, subscription)

    client.send, consumer = send, SimpleNamespace(start=start, _fetcher=None)
    if quick:
        quicken_fetches(consumer)
    began = time.process_time()
    await consumer.start()
    await ready.wait()
    whole = time.process_time() - began
    await consumer._fetcher.close()
    began = time.process_time()
    for request in sent:
        exchange(request)
    codec = time.process_time() - began
    what = f"Kafka: a fetch of {len(places)}, {'ours' if quick else 'aiokafka'}"
    per_request = 1000 / REQUESTS
    print(f"{what:32} {whole * per_request:.2f} ms, of which written and read {codec * per_request:.2f} ms", flush=True)


async def requests(settings: Settings) -> None:
    await s3(settings)
    await gigachat(settings)


if __name__ == "__main__":
    png()
    signatures()
    row()
    for quick in (False, True):
        asyncio.run(fetch(quick))
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stack(Path(folder), services=("s3", "simulator")) as variables,
    ):
        asyncio.run(requests(load_settings(**{name.lower(): value for name, value in variables.items()})))
