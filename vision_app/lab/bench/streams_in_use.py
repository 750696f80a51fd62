"""How much of the provider's streams is used, sampled from the simulator; and how many calls were billed twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import httpx

from vision_app.audit.material import BilledCall
from vision_app.settings import Settings

SAMPLE_SECONDS = 0.1


@dataclass
class StreamsInUse:
    """Samples of the calls in flight, of all clients together: (time of `time.monotonic()`, calls)."""

    samples: list[tuple[float, int]] = field(default_factory=list)

    def busy_seconds(self, until: float) -> float:
        """Stream-seconds until a time: each sample counts until the next."""
        ends = [(at, calls) for at, calls in self.samples if at < until]
        return sum((end - at) * calls for (at, calls), (end, _) in pairwise([*ends, (until, 0)]))

    def share(self, streams: int, until: float) -> float:
        """What part of so many streams was in use, from the first sample until a time."""
        seconds = until - self.samples[0][0] if self.samples else 0.0
        return self.busy_seconds(until) / (streams * seconds) if seconds > 0 else 0.0


@asynccontextmanager
async def sampled(settings: Settings) -> AsyncIterator[StreamsInUse]:
    """Sample the simulator during the block. Raises httpx.HTTPError."""
    found = StreamsInUse()
    base = settings.gigachat_base_url.rpartition("/api")[0]
    async with httpx.AsyncClient(base_url=base, trust_env=False) as http:
        await _sample(http, found)
        task = asyncio.create_task(_sample_for_ever(http, found))
        try:
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _sample_for_ever(http: httpx.AsyncClient, found: StreamsInUse) -> None:
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        await _sample(http, found)


async def _sample(http: httpx.AsyncClient, found: StreamsInUse) -> None:
    bill = (await http.get("/admin/bill", params={"entries": 0})).raise_for_status().json()
    found.samples.append((time.monotonic(), sum(account["in_flight"] for account in bill.values())))


def billed_again(calls: Sequence[BilledCall]) -> int:
    """Calls about a picture that had been paid for already: the answer of an earlier call was lost."""
    return sum(count - 1 for count in Counter(call.pictures for call in calls if call.pictures).values())
