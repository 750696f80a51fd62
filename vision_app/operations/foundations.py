"""Checks what a worker makes at start (tables, topics, the bucket), and makes again what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from vision_app.clients.postgres import Way, postgres_connection, worker_role
from vision_app.kafka_topics import Found, create_topics, look_at_topics
from vision_app.messages import Charged, ForPostgres, PostResult, decode
from vision_app.settings import Settings
from vision_app.stores import migrate, repair, rights
from vision_app.stores.base import Rejected
from vision_app.stores.postgres import CONNECT_TIMEOUT_SECONDS, STORE_FAULTS, PostgresSink, unavailable
from vision_app.texts import say
from vision_app.topics import SINK_POSTGRES

from .connections import s3_of
from .kafka_log import CONNECT_SECONDS, kafka_log

AT_ONCE = 100  # results in one transaction


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Any]:
    """A connection of the owner, without a statement timeout: an index of a large table takes minutes."""
    way = Way.OWNER if settings.database_owner_url.get_secret_value() else Way.WORKER
    try:
        connection = await postgres_connection(settings, application="vision-migrate", way=way)
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)
    except STORE_FAULTS as fault:
        raise unavailable(fault, way) from fault


async def schema(settings: Settings) -> repair.Schema:
    """How the database differs from our migrations. Raises SinkUnavailable."""
    async with _connected(settings) as connection:
        return await repair.inspect(connection)


async def apply(settings: Settings) -> list[str]:
    """Apply the migrations that are not applied yet, and return their names. Raises SinkUnavailable, MigrationError."""
    async with _connected(settings) as connection:
        return await migrate.apply(connection)


async def grant(settings: Settings) -> tuple[str, list[str]]:
    """Give the user of DATABASE_URL the rights that the worker needs, if another user owns the tables.

    Returns that user, and the statements that the owner may not execute; "" if there is nothing to grant. Raises
    SinkUnavailable.
    """
    role = worker_role(settings)
    if not settings.database_owner_url.get_secret_value() or role is None:
        return "", []
    async with _connected(settings) as connection:
        if await connection.fetchval("SELECT current_user") == role:
            return "", []
        return role, await rights.grant(connection, role)


async def repair_schema(settings: Settings) -> repair.Repair:
    """Put back what is missing in the database. Raises SinkUnavailable, MigrationError."""
    async with _connected(settings) as connection:
        return await repair.repair(connection)


@dataclass
class Refilled:
    """Counts of results written again, refused by Postgres, and unreadable, with the first reason."""

    written: int = 0
    refused: int = 0
    reason: str = ""

    def refuse(self, reason: str) -> None:
        self.refused += 1
        self.reason = self.reason or reason


async def refill(settings: Settings) -> Refilled:
    """Write the results that Kafka still has once more. This asks no provider, costs nothing and announces nothing.

    An older result never replaces a newer one (`PostgresSink`), so this may run while workers run. Raises
    SinkUnavailable, KafkaError.
    """
    told, batch = Refilled(), list[PostResult | Charged]()
    sink = PostgresSink(settings)
    await sink.open()
    try:
        async with kafka_log(settings) as kafka:
            stretches = await kafka.between(kafka.partitions([SINK_POSTGRES.name]), None, None)
            async for record in kafka.read(stretches):
                try:
                    batch.append(decode(ForPostgres, record.value))
                except ValueError as fault:
                    told.refuse(f"{record.id}: {fault}")
                if len(batch) >= AT_ONCE:
                    await _write(sink, batch, told)
                    batch = []
        await _write(sink, batch, told)
    finally:
        await sink.close()
    return told


async def _write(sink: PostgresSink, batch: list[PostResult | Charged], told: Refilled) -> None:
    while batch:
        try:
            await sink.write(batch)
        except Rejected as fault:
            refused = batch.pop(fault.index)
            told.refuse(f"{_name(refused)}: {fault}")
        else:
            told.written += len(batch)
            return


def _name(record: PostResult | Charged) -> str:
    if isinstance(record, Charged):
        return say("the charge of {tenant_id}'s grant {grant_id}", tenant_id=record.tenant_id, grant_id=record.grant_id)
    return f"{record.event.tenant_id} {record.event.post_id}"


async def topics(settings: Settings) -> Found:
    """Which of our topics exist. Raises KafkaError, after CONNECT_SECONDS if the broker does not answer."""
    return await look_at_topics(settings, CONNECT_SECONDS)


async def make_topics(settings: Settings) -> list[str]:
    """Make the topics that are missing, and return their names. Raises KafkaError, TopicsUnfit."""
    return await create_topics(settings)


async def make_bucket(settings: Settings) -> bool:
    """Make the bucket if there is none. Returns whether it was made. Raises S3Error."""
    async with s3_of(settings) as s3:
        return await s3.ensure_bucket()


async def has_bucket(settings: Settings) -> bool:
    """Whether the bucket exists. Raises S3Error."""
    async with s3_of(settings) as s3:
        return await s3.has_bucket()
