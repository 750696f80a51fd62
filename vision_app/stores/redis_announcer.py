"""Announces finished posts on the Redis output stream: each emission once, never an older one after a newer.

One script does the check, adds the entry, remembers the emission and sets the marks `vision:processed:*`. So a crash
cannot separate them. The script touches keys of several hash slots: Redis must be a single server or a replicated one,
not a cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from redis.exceptions import NoScriptError, RedisError

from vision_app import events
from vision_app.clients.redis import check_server, redis_client, redis_fault
from vision_app.messages import Emission
from vision_app.settings import Settings
from vision_app.telemetry import metrics

from .base import Rejected, Sink, SinkUnavailable

EMITTED_TTL_SECONDS = 48 * 3600
"""How long the last emission of a post is remembered: longer than a redelivery may take."""
PROCESSED_TTL_SECONDS = 24 * 3600
STREAM_MAXLEN = 100_000
TIMEOUT_SECONDS = 5
CONFIRM_MS = 1000
"""How long a replica may take to confirm announcements."""

# Times in ms and offsets stay far below 2^53, so Lua's numbers hold them exactly.
# All or nothing: if the second command were refused for a missing right, each try would add the entry once more.
ANNOUNCE = """
if redis.acl_check_cmd then -- from Redis 7 on
  local refused = redis.acl_check_cmd('XADD', KEYS[2], '*', 'f', 'v') and '' or KEYS[2]
  for i = 1, #KEYS do
    if i ~= 2 and not redis.acl_check_cmd('SET', KEYS[i], '1') then refused = KEYS[i] end
  end
  if refused ~= '' then return redis.error_reply('NOPERM the user of REDIS_URL may not write ' .. refused) end
end
local time, offset = tonumber(ARGV[1]), tonumber(ARGV[2])
local last = redis.call('GET', KEYS[1])
if last then
  local last_time, last_offset = string.match(last, '^(%d+)-(%d+)$')
  last_time, last_offset = tonumber(last_time), tonumber(last_offset)
  if last_time then
    if time == last_time and offset == last_offset then
      redis.call('SET', KEYS[1], last, 'EX', ARGV[4]) -- WAIT waits for writes of its own connection only
      return 0
    end
    if time < last_time or (time == last_time and offset < last_offset) then return -1 end
  end
end
local fields = {}
for i = 6, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', unpack(fields))
redis.call('SET', KEYS[1], ARGV[1] .. '-' .. ARGV[2], 'EX', ARGV[4])
for i = 3, #KEYS do redis.call('SET', KEYS[i], '1', 'EX', ARGV[5]) end
return 1
"""
_OLDER = -1


@dataclass(frozen=True)
class Announcement:
    """A public event as it is on Kafka. `emission` in `body` says which state of the post it announces."""

    event_type: str
    body: dict[str, Any]


def emitted_key(tenant_id: str, post_id: str) -> str:
    """The Redis key of the last announced emission of a post."""
    return f"vision:emitted:{quote(tenant_id, safe='')}:{quote(post_id, safe='')}"


def processed_key(post_id: str, sha256: str) -> str:
    """The Redis key that marks a medium of a post as analyzed, in the form that the assistant uses."""
    return f"vision:processed:{post_id}:{sha256}"


class RedisAnnouncer(Sink[Announcement]):
    """Writes announcements to `VISION_OUTPUT_STREAM`; `write` returns those that are the latest state of their post."""

    name = "redis"

    def __init__(self, settings: Settings) -> None:
        self._stream = self.destination = settings.vision_output_stream
        self._settings = settings
        self._redis = redis_client(settings, timeout=TIMEOUT_SECONDS, decode_responses=True)
        self._confirmed = bool(settings.redis_sentinels)
        self._sha = self._redis.register_script(ANNOUNCE).sha

    async def open(self) -> None:
        """Check that Redis answers and lets us do what we need. Raises SinkUnavailable."""
        try:
            await check_server(self._redis, self._settings)
        except (RedisError, OSError) as fault:
            raise self._unavailable(fault) from fault

    async def close(self) -> None:
        await self._redis.aclose()

    async def write(self, batch: Sequence[Announcement]) -> Sequence[Announcement]:
        """Announce a batch in one round trip, in order. One made before counts as written, an older one does not.

        After a failure in the middle the first part is announced. The next try skips that part. Behind Sentinels a
        replica must have the announcements: else they would be lost if the master moves right then.
        """
        calls = [_call(index, announcement, self._stream) for index, announcement in enumerate(batch)]
        try:
            try:
                answers = await self._announce(calls)
            except NoScriptError:  # a new server or a restarted one; what it has announced is recognised
                await self._redis.script_load(ANNOUNCE)
                answers = await self._announce(calls)
        except (RedisError, OSError) as fault:
            raise self._unavailable(fault) from fault
        if self._confirmed and not answers.pop():
            raise SinkUnavailable(
                "Redis: no replica has the announcements yet, and they could be lost if the master moves; see that a "
                "replica is connected to the master that the Sentinels name"
            )
        for announcement, answer in zip(batch, answers, strict=True):
            metrics.ANNOUNCED.labels(event=announcement.event_type).inc(max(0, int(answer)))
        return [announcement for announcement, answer in zip(batch, answers, strict=True) if answer != _OLDER]

    async def _announce(self, calls: Sequence[tuple[list[str], list[str | int]]]) -> list[Any]:
        """The answers of the script, and then of WAIT where a replica has to confirm. Raises NoScriptError."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for keys, arguments in calls:
                pipeline.evalsha(self._sha, len(keys), *keys, *arguments)
            if self._confirmed:
                pipeline.execute_command("WAIT", 1, CONFIRM_MS)
            answers: list[Any] = await pipeline.execute()
        return answers

    def _unavailable(self, fault: Exception) -> SinkUnavailable:
        return SinkUnavailable(redis_fault(fault, self._settings))


def _call(index: int, announcement: Announcement, stream: str) -> tuple[list[str], list[str | int]]:
    """Keys and arguments of the script for one announcement. Raises Rejected if its post or state is missing."""
    body = announcement.body
    try:
        tenant_id, post_id = str(body["tenant_id"]), str(body["post_id"])
        emission = _emission(str(body["emission"]))
        fields = events.redis_fields(announcement.event_type, body)
        marks = _analyzed(body) if announcement.event_type == events.ANALYZED_EVENT else []
        keys = [emitted_key(tenant_id, post_id), stream, *(processed_key(post_id, sha256) for sha256 in marks)]
        arguments = [emission.time_ms, emission.offset, STREAM_MAXLEN, EMITTED_TTL_SECONDS, PROCESSED_TTL_SECONDS]
        flat = [text for name, value in fields.items() for text in (name, value)]
        for text in (*keys, *flat):
            text.encode()  # lone surrogates cannot be sent
    except (KeyError, TypeError, ValueError) as fault:
        raise Rejected(index, f"not an announcement: {type(fault).__name__}: {fault}") from fault
    return keys, [*arguments, *flat]


def _emission(text: str) -> Emission:
    time_ms, _, offset = text.partition("-")
    if not (time_ms.isdecimal() and offset.isdecimal()):
        raise ValueError(f"emission is {text!r}, not <time>-<offset>")
    return Emission(time_ms=int(time_ms), offset=int(offset))


def _analyzed(body: dict[str, Any]) -> list[str]:
    """The media of an analyzed event that have an analysis, each once."""
    return list(dict.fromkeys(str(item["sha256"]) for item in body.get("enrichments", ()) if "analysis" in item))
