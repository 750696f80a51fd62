"""The commands and keys that the worker's user in Redis needs: the least rights, as docs/connecting.md lists them."""

from __future__ import annotations

from vision_app.settings import Settings

_PROBE = "rights-probe"


def needed_commands(settings: Settings) -> list[tuple[str, ...]]:
    """One call of each command on each kind of key, complete enough to be queued in a transaction."""
    group = settings.vision_consumer_group
    inputs, output, dead = settings.input_streams, settings.vision_output_stream, settings.vision_dlq_stream
    emitted, mark = f"vision:emitted:{_PROBE}:{_PROBE}", f"vision:processed:{_PROBE}:{_PROBE}"
    slots, workers = f"vision:slots:{{{_PROBE}}}", f"vision:slots:{{{_PROBE}}}:workers"
    sentinel, spent, watched = f"budget:tenant:{_PROBE}:*", f"budget:tenant:{_PROBE}:{_PROBE}", "budget:sentinel"
    aside = "vision:set_aside"
    calls: list[tuple[str, ...]] = [("PING",), ("INFO", "cluster"), ("TIME",)]
    for stream in inputs:
        calls += [
            ("XGROUP", "CREATE", stream, group, "0", "MKSTREAM"),
            ("XREADGROUP", "GROUP", group, _PROBE, "STREAMS", stream, ">"),
            ("XPENDING", stream, group),
            ("XCLAIM", stream, group, _PROBE, "0", "0-1"),
            ("XRANGE", stream, "-", "+", "COUNT", "1"),
            ("XACK", stream, group, "0-1"),
            ("XLEN", stream),
            ("XINFO", "GROUPS", stream),
        ]
    calls += [("XADD", stream, "*", _PROBE, "") for stream in (output, dead)]
    calls += [
        ("SCRIPT", "EXISTS", _PROBE),
        ("SCRIPT", "LOAD", "return 1"),
        ("EVALSHA", _PROBE, "3", emitted, output, mark),
        ("EVALSHA", _PROBE, "2", slots, workers),
    ]
    calls += [("GET", emitted), ("MGET", emitted), ("SET", emitted, ""), ("SET", mark, "")]
    for key in (slots, workers):
        calls += [
            ("ZREMRANGEBYSCORE", key, "0", "0"),
            ("ZADD", key, "0", _PROBE),
            ("ZCARD", key),
            ("ZREM", key, _PROBE),
            ("PEXPIRE", key, "1"),
        ]
    if settings.redis_sentinels:
        calls.append(("WAIT", "1", "1"))
    calls += [("HGETALL", aside), ("HDEL", aside, _PROBE)]
    calls += [("SISMEMBER", watched, _PROBE), ("SADD", watched, _PROBE)]
    calls += [("EXISTS", sentinel), ("SET", sentinel, ""), ("EXISTS", spent), ("SET", spent, ""), ("GET", spent)]
    return calls
