"""One tenant's token against another tenant's data, and a fuzzer against every operation, on the real worker.

Operations are taken from the worker's own OpenAPI document, so a new one is tested as soon as it is served.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from tests.api_document import resolve
from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.messages import Medium
from vision_app.operations.neighbours import publish, uploaded_event
from vision_app.settings import Settings
from vision_app.web.ui.routes import UI_ROUTES

MINE, THEIRS, TWIN = unique("mine"), unique("theirs"), unique("twin")
WORKER = {
    "VISION_API_TOKENS": f"operator-token=*,mine-token={MINE},theirs-token={THEIRS}",
    "VISION_API_RATE_PER_SECOND": "100000",
}
READING = {"get"}
LONGEST_SECONDS = 1200
ENDLESS = "/api/v1/changes"
"""Schemathesis waits for the end of an answer, and this one has none: see tests/unit/test_changes.py."""
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,negative_data_rejection,unsupported_method,allow_header_conformance"
)


@dataclass
class Theirs:
    """A post of the other tenant, and texts that no answer to somebody else may hold."""

    post_id: str
    medium: Medium
    channel: str = field(default_factory=lambda: unique("canary-channel"))
    trace: str = field(default_factory=lambda: unique("canary-trace"))

    @property
    def canaries(self) -> set[str]:
        return {self.channel, self.trace, self.medium.s3_key, self.post_id, THEIRS}


_theirs: list[Theirs] = []


@pytest.fixture
async def theirs(pipe: Pipeline) -> Theirs:
    """Published once for all tests here, beside two posts of the same id with the same picture, one of each tenant."""
    if not _theirs:
        content, since = picture(), await pipe.newest()
        own = Theirs(unique("canary-post"), await pipe.upload(THEIRS, content))
        event = uploaded_event(THEIRS, own.post_id, [own.medium], own.trace, channel_id=own.channel)
        await publish(pipe.redis, pipe.settings, event)
        await pipe.announced([own.post_id], since)
        for tenant in (MINE, THEIRS):
            since = await pipe.newest()
            await pipe.publish(tenant, TWIN, [await pipe.upload(tenant, content)], f"t-{tenant}")
            await pipe.announced([TWIN], since)
        _theirs.append(own)
    return _theirs[0]


@dataclass
class Call:
    """A request to an operation. `named` says whether it names the other tenant."""

    method: str
    url: str
    query: dict[str, str]
    body: Any
    named: bool

    async def ask(self, client: httpx.AsyncClient, token: str) -> httpx.Response:
        more = {"json": self.body} if self.body is not None else {}
        headers = {"Authorization": f"Bearer {token}"}
        return await client.request(self.method, self.url, params=self.query, headers=headers, **more)

    @property
    def asked(self) -> str:
        return f"{self.url} {self.query} {self.body}"


def calls(document: Mapping[str, Any], theirs: Theirs) -> Iterator[Call]:
    """Every operation, pointed at the other tenant's things; where a query may name a tenant, with and without."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            url, named = path, False
            endless = "text/event-stream" in operation["responses"].get("200", {}).get("content", {})
            queries: list[dict[str, str]] = [{"seconds": "1"} if endless else {}]
            for parameter in operation["parameters"]:
                of_tenant = "tenant" in parameter["name"]
                if parameter["in"] == "path":
                    named |= of_tenant
                    value = {"post_id": theirs.post_id, "sha256": theirs.medium.sha256, "number": "0"}
                    url = url.replace(f"{{{parameter['name']}}}", value.get(parameter["name"], THEIRS))
                elif parameter["in"] == "query" and of_tenant:
                    several = parameter["name"] == "tenants"
                    queries.append({**queries[0], parameter["name"]: f'["{THEIRS}"]' if several else THEIRS})
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            filled = None if body is None else example(document, body)
            in_body = THEIRS in orjson.dumps(filled).decode()
            for query in queries:
                yield Call(method, url, query, filled, named or THEIRS in str(query) or in_body)


def example(document: Mapping[str, Any], schema: Mapping[str, Any], name: str = "") -> Any:
    """A value that fits; whatever is called a tenant is the other one."""
    if "$ref" in schema:
        return example(document, resolve(document, schema["$ref"]), name)
    if variants := schema.get("anyOf"):
        return example(document, variants[0], name)
    if schema.get("type") == "object":
        wanted = {
            n: s for n, s in schema.get("properties", {}).items() if n in schema.get("required", ()) or "tenant" in n
        }
        return {n: example(document, s, n) for n, s in wanted.items()}
    if "tenant" in name:
        return THEIRS
    given = schema.get("enum") or [schema.get("const")]
    return given[0] or {"integer": 1, "number": 1, "boolean": True, "array": []}.get(schema.get("type", ""), "x")


@pytest.fixture
async def document(worker: Worker) -> Mapping[str, Any]:
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        found: Mapping[str, Any] = (await client.get("/openapi.json")).json()
    return found


async def test_no_operation_shows_or_changes_anything_of_another_tenant(
    worker: Worker, theirs: Theirs, document: Mapping[str, Any], stack_settings: Settings
) -> None:
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False, timeout=30) as client:
        before = await ledger(client)
        tried = list(calls(document, theirs))
        assert len(tried) >= sum(len(methods) for methods in document["paths"].values())
        for call in tried:
            answer = await call.ask(client, "mine-token")
            told = f"{call.method} {call.asked} → {answer.status_code} {answer.text[:300]}"
            shown = {canary for canary in theirs.canaries if canary in answer.text and canary not in call.asked}
            assert not shown, told
            if call.named:
                assert answer.status_code == 404 or (answer.status_code == 422 and call.body is not None), told
            elif call.method not in READING:
                assert answer.status_code in (403, 404), told
        assert await ledger(client) == before
    connection = await asyncpg.connect(stack_settings.database_url.get_secret_value())
    assert await connection.fetchval("SELECT count(*) FROM budget_actions WHERE tenant_id = $1", THEIRS) == 0
    await connection.close()


def pages(theirs: Theirs) -> Iterator[tuple[str, dict[str, str]]]:
    """Every document of the page, pointed at the other tenant's things; each with and without naming the tenant."""
    known = {"tenant_id": THEIRS, "post_id": theirs.post_id, "id": theirs.post_id, "action": "reset", "q": "photo"}
    known |= {"sha256": theirs.medium.sha256}
    for path, view in UI_ROUTES.items():
        declared = getattr(view.get, "operation", None)
        if declared is None or path.startswith("/ui/static/"):
            continue
        fields = declared.takes["query"].model_fields if "query" in declared.takes else {}
        query = {name: known[name] for name in fields if name in known}
        yield path, {name: value for name, value in query.items() if name != "tenant_id" or fields[name].is_required()}
        if "tenant_id" in query:
            yield path, query


async def test_no_document_of_the_page_shows_anything_of_another_tenant(worker: Worker, theirs: Theirs) -> None:
    tried = list(pages(theirs))
    assert len({path for path, _ in tried}) > 15
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False, timeout=30) as client:
        for path, query in tried:
            headers = {"Authorization": "Bearer mine-token"}
            answer = await client.get(path, params=query, headers=headers)
            told = f"{path} {query} → {answer.status_code}"
            shown = {canary for canary in theirs.canaries if canary in answer.text and canary not in str(query)}
            assert not shown, told
            assert answer.status_code < 500, told
            if "tenant_id" in query:
                assert answer.status_code == 404, told


async def test_without_a_token_nothing_but_health_answers(
    worker: Worker, theirs: Theirs, document: Mapping[str, Any]
) -> None:
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False, timeout=30) as client:
        for call in calls(document, theirs):
            answer = await client.request(call.method, call.url, params=call.query, json=call.body)
            health = call.url in ("/healthz", "/readyz")
            assert answer.status_code == (200 if health else 401 if answer.status_code != 429 else 429), call.asked
            assert not {canary for canary in theirs.canaries if canary in answer.text and canary not in call.asked}


async def ledger(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/budget/{THEIRS}", headers={"Authorization": "Bearer operator-token"})
    return {name: value for name, value in answer.json().items() if name != "trace_id"}


async def test_the_owner_and_the_operator_see_what_the_other_does_not(worker: Worker, theirs: Theirs) -> None:
    """Without this the test above could pass because there is nothing to be seen."""
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:

        async def get(url: str, token: str) -> httpx.Response:
            return await client.get(url, headers={"Authorization": f"Bearer {token}"})

        for token in ("theirs-token", "operator-token"):
            answer = await get(f"/api/v1/vision/posts/{theirs.post_id}", token)
            assert answer.status_code == 200
            assert {theirs.channel, theirs.trace, theirs.medium.s3_key} <= {
                c for c in theirs.canaries if c in answer.text
            }
        for token, tenant in (("mine-token", MINE), ("theirs-token", THEIRS)):
            for url in (f"/api/v1/vision/posts/{TWIN}", f"/api/v1/vision/media/{theirs.medium.sha256}"):
                assert (await get(url, token)).json()["tenant_id"] == tenant, "the same id, each its own"
        assert (await get(f"/api/v1/vision/posts/{TWIN}", "operator-token")).status_code == 409


async def test_logs_and_metrics_keep_tenants_apart(worker: Worker, theirs: Theirs) -> None:
    lines = [orjson.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    about_them = [line for line in lines if theirs.post_id in str(line) or theirs.trace in str(line)]
    assert about_them
    assert {line["tenant_id"] for line in about_them} <= {THEIRS, "-"}
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{worker.metrics_url}/metrics")).text
    assert f'tenant_id="{THEIRS}"' in page, "the operators' page names tenants"
    assert not {canary for canary in theirs.canaries - {THEIRS} if canary in page}


def fuzz(worker: Worker, folder: Path, examples: int, *more: str) -> str:
    """Run schemathesis against the worker; returns what it prints. Seeded, so that a run can be repeated."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{worker.url}/openapi.json"]
    command += ["--header", "Authorization: Bearer operator-token", "--checks", CHECKS, "--max-examples", str(examples)]
    command += [
        "--exclude-path",
        ENDLESS,
        "--seed",
        "1",
        "--generation-database",
        "none",
        "--no-color",
        "--request-timeout",
        "30",
        *more,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


async def test_a_fuzzer_finds_no_5xx_and_no_undocumented_answer(
    worker: Worker, pipe: Pipeline, tmp_path: Path, document: Mapping[str, Any]
) -> None:
    told = await asyncio.to_thread(fuzz, worker, tmp_path, 3, "--phases", "coverage,fuzzing")
    operations = sum(len(methods) for methods in document["paths"].values())
    assert f"Selected: {operations - 1}/{operations}" in told, told[-3000:]
    assert worker.alive
    assert '"page_failed"' not in worker.log()


@pytest.mark.load
@pytest.mark.timeout(LONGEST_SECONDS + 60)
async def test_a_long_fuzz(worker: Worker, pipe: Pipeline, tmp_path: Path) -> None:
    await asyncio.to_thread(fuzz, worker, tmp_path, 50, "--phases", "coverage,fuzzing,stateful")
    assert '"page_failed"' not in worker.log()
