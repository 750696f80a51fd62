"""Checks that each service, embedded or external, is usable with our settings. Used by `vision doctor`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
from botocore.exceptions import BotoCoreError, ClientError
from neo4j.exceptions import AuthError, DriverError, Neo4jError
from redis.exceptions import RedisError

from vision_app.clients.faults import cause_of, explain
from vision_app.clients.gigachat import gigachat_context, gigachat_fault, proxy_for
from vision_app.clients.neo4j import neo4j_driver, neo4j_fault, neo4j_patience, neo4j_session
from vision_app.clients.postgres import Way, postgres_connection, postgres_fault, unverified
from vision_app.clients.redis import check_server, eviction_policy, redis_client, redis_fault
from vision_app.clients.s3 import S3, s3_arguments
from vision_app.providers.base import ProviderError
from vision_app.providers.gigachat import GigaChat
from vision_app.settings import Settings
from vision_app.texts import say

SECONDS = 5.0
NO_BUCKET = frozenset({"404", "NoSuchBucket"})


class Unreachable(Exception):
    """The service is not usable. The message says what to do next."""


class Unfit(Unreachable):
    """The service answers, and is not set up as it must be. The message says what to do next."""


class Incomplete(Exception):
    """The service is usable, but something is still to be done. The message says what."""


class NotMadeYet(Incomplete):
    """It lacks what the worker makes at its first start."""


class Weaker(Incomplete):
    """It stores fewer copies than the settings ask for."""


class Unchecked(Incomplete):
    """The service is usable, but one of its settings cannot be read by us. The message says which to look at."""


async def redis(settings: Settings) -> str:
    try:
        async with redis_client(settings, timeout=SECONDS, decode_responses=True) as client:
            await check_server(client, settings)
            policy = await eviction_policy(client)
    except (RedisError, OSError) as error:
        raise Unreachable(redis_fault(error, settings)) from error
    if policy is None:
        raise Unchecked(
            say(
                "answers; it does not tell its maxmemory-policy: see that it is noeviction, or Redis may throw "
                "entries away"
            )
        )
    if policy != "noeviction":
        raise Unreachable(
            say(
                "maxmemory-policy is {policy}, so Redis may throw stream entries away; run redis-cli CONFIG "
                "SET maxmemory-policy noeviction and put it into its configuration",
                policy=policy,
            )
        )
    return say("answers, never evicts")


async def kafka(settings: Settings) -> str:
    from aiokafka.errors import KafkaError

    from vision_app.clients.kafka_faults import KafkaUnusable
    from vision_app.kafka_topics import look_at_topics, unfit

    try:
        found = await look_at_topics(settings, SECONDS)
    except KafkaUnusable as error:
        raise Unreachable(str(error)) from error
    except (KafkaError, OSError) as error:
        raise Unreachable(
            say("{cause}; check KAFKA_BOOTSTRAP_SERVERS and that the broker runs", cause=cause_of(error))
        ) from error
    if found.is_new:
        raise NotMadeYet(say("answers; the worker makes its topics when it starts, or `vision migrate repair` does"))
    if found.missing:
        raise Unfit(
            say(
                "topics are missing: {missing}; `vision migrate repair` makes them anew, without what was in "
                "them; then restart the workers (`vision down`, `vision up`)",
                missing=", ".join(found.missing),
            )
        )
    if found.other_count:
        raise Unfit("; ".join(unfit(name, count, settings) for name, count in found.other_count.items()))
    if found.weaker:
        raise Weaker(say("answers; {weaker}", weaker="; ".join(found.weaker)))
    copies = settings.kafka_topic_replication_factor
    stored = say(", each stored {copies} times", copies=copies) if copies > 1 else ""
    return say("answers, {topics} topics, all of ours among them{stored}", topics=found.topics, stored=stored)


async def postgres(settings: Settings) -> str:
    from vision_app.stores.migrate import MAY_CREATE, lacks_rights, may_not_create, not_applied
    from vision_app.stores.repair import inspect
    from vision_app.stores.rights import missing_grants

    async with _connected(settings, Way.WORKER) as connection:
        version = await connection.fetchval("SHOW server_version")
        user = await connection.fetchval("SELECT current_user")
        pending, may_create = await not_applied(connection), await connection.fetchval(MAY_CREATE)
        grants = [] if pending else await missing_grants(connection)
        schema = await inspect(connection) if may_create or not (pending or grants) else None
    if settings.database_pgbouncer:
        async with _connected(settings, Way.SESSION):
            pass
    if schema is None:
        raise Unreachable(may_not_create(user, pending) if pending else lacks_rights(grants))
    if schema.is_new:
        return say("answers, version {version}, tables can be made", version=version)
    if wrong := [*schema.faults, *map(str, schema.other)]:
        raise Unreachable(say("{wrong}; `vision migrate status` shows everything", wrong="; ".join(wrong)))
    if schema.missing or schema.ledger_lost:
        what = "; ".join(map(str, schema.missing)) or say("the table schema_migrations is missing")
        raise Unreachable(
            say("{what}; `vision migrate repair` puts it back, without the rows that were in it", what=what)
        )
    if schema.pending:
        raise NotMadeYet(
            say(
                "answers, version {version}; to be applied: {pending}; the worker does it when it starts, or "
                "`vision migrate apply` does",
                version=version,
                pending=", ".join(schema.pending),
            )
        )
    if grants:
        raise Unreachable(lacks_rights(grants))
    if doubt := unverified(settings):
        raise Unchecked(say("answers, version {version}, all tables are there; {doubt}", version=version, doubt=doubt))
    return say("answers, version {version}, all tables are there", version=version)


@asynccontextmanager
async def _connected(settings: Settings, way: Way) -> AsyncIterator[Any]:
    try:
        connection = await postgres_connection(settings, application="vision-doctor", way=way, timeout=SECONDS)
        try:
            yield connection
        finally:
            await connection.close(timeout=SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unreachable(postgres_fault(error, way)) from error


async def s3(settings: Settings) -> str:
    import aioboto3

    try:
        arguments = s3_arguments(
            settings, connect_timeout=SECONDS, read_timeout=SECONDS, retries={"total_max_attempts": 1}
        )
        client = aioboto3.Session().client("s3", **arguments)
        async with client as bucket_client:
            await bucket_client.head_bucket(Bucket=settings.s3_bucket)
    except (BotoCoreError, ClientError) as error:
        if isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in NO_BUCKET:
            text = say(
                "there is no bucket {s3_bucket}; `vision migrate repair` makes it, or correct S3_BUCKET",
                s3_bucket=settings.s3_bucket,
            )
            raise Unreachable(text) from error
        remedy = say("check S3_ENDPOINT_URL, the keys and that the bucket S3_BUCKET exists")
        text = explain(error, S3) or f"{cause_of(error)}; {remedy}"
        raise Unreachable(say("bucket {s3_bucket}: {text}", s3_bucket=settings.s3_bucket, text=text)) from error
    return say("answers, bucket {s3_bucket} is there", s3_bucket=settings.s3_bucket)


async def neo4j(settings: Settings) -> str:
    try:
        async with (
            neo4j_driver(settings, **neo4j_patience(SECONDS), max_transaction_retry_time=0) as driver,
            neo4j_session(driver, settings) as session,
        ):
            await (await session.run("RETURN 1")).consume()
    except AuthError as error:
        raise Unreachable(
            say(
                "{neo4j_user} is refused; NEO4J_PASSWORD must be the one that its data was made with (the "
                "embedded one: `changeme`, or what was set at the first `vision up`)",
                neo4j_user=settings.neo4j_user,
            )
        ) from error
    except (DriverError, Neo4jError, OSError) as error:
        raise Unreachable(neo4j_fault(error)) from error
    return say("answers, the password is right")


async def gigachat(settings: Settings) -> str:
    url = settings.gigachat_base_url
    try:
        async with httpx.AsyncClient(
            timeout=SECONDS, verify=gigachat_context(settings), proxy=proxy_for(settings, url), trust_env=False
        ) as client:
            answer = await client.get(f"{url}/models")
    except httpx.HTTPError as error:
        raise Unreachable(gigachat_fault(error)) from error
    await _sign_in(settings)
    kind = say("simulated") if settings.gigachat_simulated else say("real")
    return say(
        "{kind}, reachable at {url} (status {status}); the credentials are accepted",
        kind=kind,
        url=url,
        status=answer.status_code,
    )


async def _sign_in(settings: Settings) -> None:
    provider = GigaChat(settings)
    await provider.open()
    try:
        await asyncio.wait_for(provider.sign_in(), SECONDS)
    except (ProviderError, TimeoutError) as error:
        raise Unreachable(say("no access token: {cause}", cause=cause_of(error))) from error
    finally:
        await provider.close()


PROBES: dict[str, Callable[[Settings], Awaitable[str]]] = {
    "redis": redis,
    "kafka": kafka,
    "postgres": postgres,
    "s3": s3,
    "neo4j": neo4j,
    "simulator": gigachat,
    "gigachat": gigachat,
}
