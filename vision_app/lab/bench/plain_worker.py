"""A plain worker: the same job with the usual libraries and without our guarantees.

It reads the input stream, gets each picture from S3, asks GigaChat with the official SDK, writes the answer to S3,
Postgres and Neo4j, and announces the post. There is no policy, budget, ledger, deduplication, retry or dead letter, and
a crash loses or repeats work. The benchmark runs it on the same services with the same load, for comparison.

`python -m vision_app.lab.bench.plain_worker CONCURRENCY`; the settings come from the environment.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

import aioboto3
import asyncpg
import orjson
from gigachat import GigaChat
from neo4j import AsyncGraphDatabase
from redis.asyncio import Redis

from vision_app.prompts import prompt
from vision_app.settings import Settings, load_settings

GROUP, CONSUMER = "plain_workers", "plain-1"
TABLE = """CREATE TABLE IF NOT EXISTS plain_results
(tenant_id text, post_id text, sha256 text, answer jsonb, PRIMARY KEY (tenant_id, post_id, sha256))"""
INSERT = "INSERT INTO plain_results VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
GRAPH = """MERGE (p:PlainPost {tenant_id: $tenant, post_id: $post}) MERGE (i:PlainImage {sha256: $sha256})
MERGE (p)-[:HAS_IMAGE]->(i)"""


@dataclass
class PlainWorker:
    settings: Settings
    redis: Redis
    s3: Any
    postgres: Any
    neo4j: Any
    gigachat: GigaChat

    async def run(self, concurrency: int) -> None:
        """Read for ever, `concurrency` entries at once."""
        stream = self.settings.input_streams[0]
        if not any(group["name"] == GROUP.encode() for group in await self._groups(stream)):
            await self.redis.xgroup_create(stream, GROUP, id="$", mkstream=True)
        print("ready", flush=True)
        while True:
            found = await self.redis.xreadgroup(GROUP, CONSUMER, {stream: ">"}, count=concurrency, block=1000)
            for _, entries in found or []:
                await asyncio.gather(*(self._post(stream, entry_id, fields) for entry_id, fields in entries))

    async def _groups(self, stream: str) -> list[Any]:
        return list(await self.redis.xinfo_groups(stream)) if await self.redis.exists(stream) else []

    async def _post(self, stream: str, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        event = orjson.loads(fields[b"data"])
        answers = [await self._medium(event, medium) for medium in event["media_files"]]
        body = {"post_id": event["post_id"], "tenant_id": event["tenant_id"], "answers": answers}
        await self.redis.xadd(
            self.settings.vision_output_stream, {"event": "posts.vision.analyzed", "data": orjson.dumps(body)}
        )
        await self.redis.xack(stream, GROUP, entry_id)

    async def _medium(self, event: dict[str, Any], medium: dict[str, Any]) -> str:
        tenant, post, sha256 = event["tenant_id"], event["post_id"], medium["sha256"]
        got = await self.s3.get_object(Bucket=self.settings.s3_bucket, Key=medium["s3_key"])
        content = await got["Body"].read()
        file = await self.gigachat.aupload_file((f"{sha256}.png", content, medium["mime_type"]))
        message = {"role": "user", "content": prompt("default"), "attachments": [file.id_]}
        completion = await self.gigachat.achat({"messages": [message]})
        await self.gigachat.adelete_file(file.id_)
        answer = str(completion.choices[0].message.content)
        key = f"plain/{tenant}/{sha256}.json"
        await self.s3.put_object(Bucket=self.settings.s3_bucket, Key=key, Body=answer.encode())
        await self.postgres.execute(INSERT, tenant, post, sha256, orjson.dumps({"text": answer}).decode())
        await self.neo4j.execute_query(GRAPH, tenant=tenant, post=post, sha256=sha256)
        return answer


async def main(concurrency: int) -> None:
    settings = load_settings()
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    async with (
        Redis.from_url(settings.redis_url.get_secret_value()) as redis,
        aioboto3.Session().client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            aws_access_key_id=settings.s3_access_key_id.get_secret_value(),
            aws_secret_access_key=settings.s3_secret_access_key.get_secret_value(),
            region_name=settings.s3_region,
        ) as s3,
        asyncpg.create_pool(settings.database_url.get_secret_value(), min_size=1, max_size=concurrency) as postgres,
        AsyncGraphDatabase.driver(settings.neo4j_uri, auth=auth) as neo4j,
        GigaChat(
            base_url=settings.gigachat_base_url,
            auth_url=settings.gigachat_auth_url,
            credentials=settings.gigachat_authorization.get_secret_value(),
            model=settings.gigachat_vision_model,
        ) as gigachat,
    ):
        await postgres.execute(TABLE)
        await PlainWorker(settings, redis, s3, postgres, neo4j, gigachat).run(concurrency)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
