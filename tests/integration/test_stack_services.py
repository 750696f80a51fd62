"""The embedded services answer as the worker's own clients expect."""

from __future__ import annotations

import aioboto3
import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from neo4j import AsyncGraphDatabase
from redis.asyncio import Redis

from vision_app.settings import Settings


async def test_redis_never_evicts_and_keeps_an_append_only_file(stack_settings: Settings) -> None:
    redis = Redis.from_url(stack_settings.redis_url.get_secret_value(), decode_responses=True)
    async with redis:
        assert await redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert await redis.config_get("appendonly") == {"appendonly": "yes"}


async def test_postgres_answers(stack_settings: Settings) -> None:
    connection = await asyncpg.connect(stack_settings.database_url.get_secret_value())
    try:
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"
    finally:
        await connection.close()


async def test_kafka_takes_a_record_and_gives_it_back(stack_settings: Settings) -> None:
    servers, topic = stack_settings.kafka_bootstrap_servers, "test.stack.services"
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=servers, max_request_size=2_000_000) as producer:
        await producer.send_and_wait(topic, key=b"key", value=b"x" * 1_900_000)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest")
    async with consumer:
        record = await consumer.getone()
    assert (record.key, len(record.value)) == (b"key", 1_900_000)


async def test_neo4j_accepts_its_password(stack_settings: Settings) -> None:
    auth = (stack_settings.neo4j_user, stack_settings.neo4j_password.get_secret_value())
    async with AsyncGraphDatabase.driver(stack_settings.neo4j_uri, auth=auth) as driver:
        records, _, _ = await driver.execute_query("RETURN 1 AS one")
    assert records[0]["one"] == 1


async def test_s3_has_the_bucket_and_keeps_an_object(stack_settings: Settings) -> None:
    client = aioboto3.Session().client(
        "s3",
        endpoint_url=stack_settings.s3_endpoint_url,
        aws_access_key_id=stack_settings.s3_access_key_id.get_secret_value(),
        aws_secret_access_key=stack_settings.s3_secret_access_key.get_secret_value(),
        region_name=stack_settings.s3_region,
    )
    async with client as s3:
        await s3.put_object(Bucket=stack_settings.s3_bucket, Key="test/stack/object", Body=b"bytes")
        answer = await s3.get_object(Bucket=stack_settings.s3_bucket, Key="test/stack/object")
        assert await answer["Body"].read() == b"bytes"


def test_gigachat_is_marked_as_simulated(stack_settings: Settings) -> None:
    assert stack_settings.gigachat_simulated
    assert stack_settings.gigachat_base_url.startswith("http://127.0.0.1:")
    assert stack_settings.gigachat_authorization.get_secret_value()
