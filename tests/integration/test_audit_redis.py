"""From when on the output stream is complete, on a real server: trimmed entries are not lost announcements."""

from __future__ import annotations

from redis.asyncio import Redis

from tests.integration.pipeline import unique
from vision_app.audit.redis_reader import first_event_ms
from vision_app.settings import Settings


async def test_trimming_is_seen_and_a_deleted_entry_is_not_taken_for_it(stack_settings: Settings) -> None:
    stream = unique("out")
    settings = stack_settings.model_copy(update={"vision_output_stream": stream})
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        assert await first_event_ms(redis, settings) == 0, "no stream yet"
        for number in range(1, 7):
            await redis.xadd(stream, {"data": b"{}"}, id=f"{number}000-0")
        assert await first_event_ms(redis, settings) == 0
        await redis.xdel(stream, "1000-0")
        assert await first_event_ms(redis, settings) == 0, "an announcement that was deleted is missed"
        await redis.xtrim(stream, maxlen=3, approximate=False)
        assert await first_event_ms(redis, settings) == 4000
        await redis.xtrim(stream, maxlen=0, approximate=False)
        assert await first_event_ms(redis, settings) == 6000
