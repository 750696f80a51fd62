"""What a process of its own costs a picture: `python -m tests.decoding_latency`, milliseconds, the best of 30 each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from vision_app import demo_media
from vision_app.providers.decoders import Decoders
from vision_app.providers.decoding import DecodeRequest, decode
from vision_app.settings import load_settings

ROUNDS = 30


async def best(work: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        await work()
        times.append((time.perf_counter() - started) * 1000)
    return min(times)


def pictures() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(demo_media.__path__[0]).glob("*.[jp][pn]g"))}


async def main() -> None:
    settings = load_settings()
    wish = DecodeRequest(settings.vision_preprocess_max_dim, settings.vision_preprocess_jpeg_quality)
    decoders = Decoders(settings)
    await decoders.open()
    for name, content in pictures().items():
        child = await best(partial(decoders.prepare, content, "image/jpeg"))
        thread = await best(partial(asyncio.to_thread, decode, content, "image/jpeg", wish))
        print(f"{name:24} in a process {child:7.2f}  in a thread {thread:7.2f}  more {child - thread:6.2f}")
    await decoders.close()


if __name__ == "__main__":
    asyncio.run(main())
