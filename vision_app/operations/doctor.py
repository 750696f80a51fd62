"""What `vision doctor` finds beyond services and machine: policy, workers elsewhere, dead letters, a full bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from asyncpg import UndefinedColumnError, UndefinedTableError

from vision_app.clients.faults import cause_of
from vision_app.domain.policy import PolicyError
from vision_app.retention import accounts
from vision_app.retention.accounts import Usage
from vision_app.retention.limits import gib, limits_of
from vision_app.settings import Settings
from vision_app.stack.checks import PROBE_SECONDS, Finding, Level
from vision_app.stores.policy_file import default_policy_path, read_policy
from vision_app.stores.postgres import STORE_FAULTS
from vision_app.texts import say

from .connections import FAULTS, postgres_of
from .health import findings, health
from .kafka_log import kafka_log
from .letters import Filter, read_letters, waiting_letters
from .traces import collector

Count = Callable[[], Awaitable[int]]


async def operation(settings: Settings, up: Mapping[str, bool], waiting_letters: Count | None = None) -> list[Finding]:
    """The findings, each within PROBE_SECONDS. `up`: services by name, whether they answer.

    What needs a service that does not answer is not looked at again: a hint says so.
    `waiting_letters` counts the dead letters that wait for a decision; without it the whole topic is read.
    """
    count = waiting_letters or partial(_count_letters, settings)
    hosts, found = await asyncio.gather(_workers_hosts(settings) if up.get("kafka") else _unknown(), health(settings))
    checks: list[tuple[str, bool, Callable[[], Awaitable[Finding]]]] = [
        (say("dead letters"), all(up.get(name) for name in ("kafka", "postgres")), partial(_dead_letters, count)),
        (say("bucket"), bool(up.get("postgres")), partial(_bucket, settings)),
    ]
    asked = [_within(name, check) if possible else _not_looked_at(name) for name, possible, check in checks]
    found_here = [policy(settings.vision_policy_config_path), *await collector(settings)]
    return [*found_here, *findings(found, hosts), *await asyncio.gather(*asked)]


def policy(path: Path | None) -> Finding:
    """Whether the policy file can be used. A running worker keeps its previous policy when it refuses a file."""
    where = path or default_policy_path()
    try:
        read_policy(where)
    except PolicyError as fault:
        first, *others = str(fault).splitlines()
        more = say(" (and {others_count} more)", others_count=len(others)) if others else ""
        text = say(
            "{first}{more}; running workers keep the previous policy, a new one does not start", first=first, more=more
        )
        return Finding(
            check=say("policy"),
            verdict=Level.FAILED,
            detail=say("{text}; correct it, then: vision policy check {where}", text=text, where=where),
        )
    return Finding(check=say("policy"), verdict=Level.OK, detail=say("{where} can be used", where=where))


def bucket(settings: Settings, usage: Usage) -> Finding:
    """Whether there is room: for all, and for each type of content."""
    limits = limits_of(settings)
    percent = 100 * usage.total_bytes / limits.total_bytes
    text = say(
        "{used:.2f} of {limit:g} GB used ({percent:.0f} %)",
        used=gib(usage.total_bytes),
        limit=gib(limits.total_bytes),
        percent=percent,
    )
    remedy = say("`vision storage cleanup --dry-run` says what can go, S3_TOTAL_LIMIT_GB is the limit")
    if usage.total_bytes >= limits.total_bytes:
        return Finding(
            check=say("bucket"),
            verdict=Level.FAILED,
            detail=say("{text}, uploads are refused; {remedy}", text=text, remedy=remedy),
        )
    if usage.total_bytes >= limits.emergency_bytes:
        threshold = say(
            "above S3_EMERGENCY_THRESHOLD_GB ({threshold:g}), so clean-ups run",
            threshold=gib(limits.emergency_bytes),
        )
        return Finding(check=say("bucket"), verdict=Level.HINT, detail=f"{text}, {threshold}; {remedy}")
    full = [
        say(
            "{kind}/ holds {used:.2f} of {limit:g} GB (S3_{variable}_MAX_GB)",
            kind=kind,
            used=gib(usage.size_bytes.get(kind, 0)),
            limit=gib(limit),
            variable=kind.upper(),
        )
        for kind, limit in limits.type_bytes.items()
        if usage.size_bytes.get(kind, 0) >= limit
    ]
    if full:
        return Finding(check=say("bucket"), verdict=Level.HINT, detail=f"{text}; {'; '.join(full)}; {remedy}")
    return Finding(check=say("bucket"), verdict=Level.OK, detail=text)


async def _bucket(settings: Settings) -> Finding:
    async with postgres_of(settings) as pool:
        return bucket(settings, await accounts.usage(pool))


async def _count_letters(settings: Settings) -> int:
    async with kafka_log(settings) as kafka, postgres_of(settings) as pool:
        return len(await waiting_letters(pool, await read_letters(kafka, Filter())))


async def _dead_letters(waiting: Count) -> Finding:
    count = await waiting()
    if not count:
        return Finding(check=say("dead letters"), verdict=Level.OK, detail=say("none waits for a decision"))
    text = say(
        "{count} wait for a decision; `vision dlq ls` shows them, `vision dlq replay` and `discard` decide", count=count
    )
    return Finding(check=say("dead letters"), verdict=Level.HINT, detail=text)


async def _workers_hosts(settings: Settings) -> list[str] | None:
    """The hosts of the workers that Kafka knows, also those of other machines; None if Kafka does not tell."""
    try:
        async with asyncio.timeout(PROBE_SECONDS), kafka_log(settings) as kafka:
            return await kafka.members()
    except (*FAULTS, TimeoutError):
        return None  # Kafka's own finding says why


async def _unknown() -> None:
    return None


async def _not_looked_at(name: str) -> Finding:
    text = say("not looked at: a service that holds them does not run or answer; its own finding says why")
    return Finding(check=name, verdict=Level.HINT, detail=text)


async def _within(name: str, check: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        return await asyncio.wait_for(check(), PROBE_SECONDS)
    except TimeoutError:
        text = say("could not be seen within {probe_seconds:.0f} s", probe_seconds=PROBE_SECONDS)
    except (UndefinedTableError, UndefinedColumnError):
        return Finding(
            check=name, verdict=Level.HINT, detail=say("not known: a worker makes the tables when it starts")
        )
    except (*FAULTS, *STORE_FAULTS) as fault:
        text = say("could not be seen: {cause}", cause=cause_of(fault))
    return Finding(
        check=name, verdict=Level.HINT, detail=say("{text}; the services' findings say what is wrong", text=text)
    )
