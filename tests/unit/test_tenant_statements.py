"""Every SQL and Cypher text of the package selects and writes by the tenant.

The exceptions are listed here, with the reason. On the real worker,
tests/integration/test_tenant_isolation.py tests that the pages use the caller's tenant.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import agents
import bridges
import tables
import vision_app

MIGRATIONS = Path(vision_app.__file__).parent / "stores" / "migrations"
TABLES: dict[str, str] = {
    name: body
    for file in sorted(MIGRATIONS.glob("*.sql"))
    for name, body in re.findall(r"CREATE TABLE (\w+) \((.*?)^\);", file.read_text(), re.S | re.M)
}
OF_A_TENANT = {name for name, body in TABLES.items() if re.search(r"^\s*tenant_id\b", body, re.M)}
NODES_OF_A_TENANT = ("Post", "ImageContent", "Image")

WITHOUT_TENANT = {
    "dead_letter_actions": "operators' log of letters, by the letter's id; no page shows it to tenants",
    "storage_state": "one row about the bucket as a whole",
}
"""Tables that have no tenant. `schema_migrations` is not made by a migration."""

KEYED_OTHERWISE = {
    "budget_actions": "an append-only log, read by tenant",
    "post_actions": "an append-only log, read by tenant and post",
    "expired_objects": "by the object's key, which the tenant is part of",
}
"""Tables of tenants whose primary key does not begin with the tenant."""

ACROSS_TENANTS = {
    "vision_app.operations.rows._OF_TRACE": "`vision trace` finds a post by a trace id; a command of operators",
    "vision_app.operations.rows._OF_ENTRY": "the same by the id of an input entry",
    "vision_app.stores.posts.tenants": "`vision pause --all` has to know everybody; a command of operators",
    "vision_app.stores.posts._TENANTS_AFTER": "names of tenants for the page of budgets, for callers who see all",
    "vision_app.stores.posts._UNFINISHED_TENANTS": "the budget's worker looks for tenants whose ledger was lost",
    "vision_app.audit.stores_reader._COLUMNS": "the head of two statements which both select by tenant",
    "vision_app.audit.stores_reader._CHARGES": "the same; `vision audit` without --tenant reads all, for operators",
    "vision_app.stores.audits._COLUMNS": "the head of statements that select by tenant, and of `_RUNNING`",
    "vision_app.stores.audits._RUNNING": "one account at a time, of whichever tenant; only operators are told of it",
    "vision_app.stores.audits._GIVE_UP": "the same: whichever account a dead worker has left",
    "vision_app.stores.post_search._SHOWN": "the head of a statement; `_conditions` adds the tenant of a caller",
    "vision_app.stores.posts._EXPIRED": "part of statements that select by tenant: the keys that their rows name",
    "vision_app.lab.bench.run._times": "the benchmark's own posts, in a database of its own",
    "vision_app.lab.bench.scenarios.growth._posts": "the same",
    "vision_app.lab.demo.report.next_steps": "shown to be typed, never run",
}
"""Statements that select tenants' data by something else, each with the reason why that is allowed."""

WHOLE_BUCKET = ("vision_app.retention.", "vision_app.operations.storage.")
"""Quotas and clean-up work on the whole bucket, by object keys, which contain the tenant. What tenants may see is
decided in `vision_app.web.storage`; its operations are tested with another tenant's token."""

BY_TENANT = re.compile(
    r"tenant_id\s*(=|<>|IN\b)"  # a condition
    r"|\(\s*(\w+\.)?tenant_id\b[^()]*\)\s*=\s*[\s(]"  # a condition on several columns
    r"|ON CONFLICT \(tenant_id\b|INSERT INTO \w+( AS \w+)?\s*\(\s*tenant_id\b"
    r"|\{tenant_id:|REQUIRE \(\w+\.tenant_id\b",  # a node by its key
    re.I,
)
_TABLES = "|".join(OF_A_TENANT)
TOUCHES = re.compile(
    rf"\b(FROM|JOIN|INTO|UPDATE)\s+({_TABLES})\b"
    rf"|\b(MATCH|MERGE|CREATE|FOR)\b[^\n]*\(\w*:({'|'.join(NODES_OF_A_TENANT)})\b"
)


def modules() -> Iterator[str]:
    for package in (vision_app, agents, bridges, tables):
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith("__main__"):
                yield found.name


def statements() -> Iterator[tuple[str, str]]:
    """Every text that uses a tenant's table or node: where it is, and the text."""
    for name in modules():
        module = importlib.import_module(name)
        for constant, value in vars(module).items():
            texts = value if isinstance(value, tuple) else (value,)
            for text in texts:
                if isinstance(text, str) and constant != "__doc__" and TOUCHES.search(text):
                    yield f"{name}.{constant}", text
        for function, text in _inside_functions(Path(str(module.__file__))):
            if TOUCHES.search(text):
                yield f"{name}.{function}", text


def _inside_functions(file: Path) -> Iterator[tuple[str, str]]:
    """Texts in functions, with the function's name; of an f-string its fixed parts."""
    for function in ast.walk(ast.parse(file.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        told = ast.get_docstring(function, clean=False)
        for node in ast.walk(function):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != told:
                yield function.name, node.value
            elif isinstance(node, ast.JoinedStr):
                fixed = [str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values]
                yield function.name, "".join(fixed)


STATEMENTS = sorted(set(statements()))


def test_the_search_finds_the_statements_that_we_know() -> None:
    found = {place for place, _ in STATEMENTS}
    assert len(STATEMENTS) >= 15
    assert {"vision_app.stores.posts._GET", "vision_app.stores.postgres.WRITE_FINISHED"} <= found
    assert {"vision_app.stores.neo4j.WRITE_LINKS", "vision_app.stores.posts._last"} <= found


@pytest.mark.parametrize(("place", "text"), STATEMENTS, ids=[place for place, _ in STATEMENTS])
def test_a_statement_selects_by_tenant(place: str, text: str) -> None:
    if place in ACROSS_TENANTS:
        assert not BY_TENANT.search(text), f"{place} does select by tenant now: take it off the list"
        return
    assert BY_TENANT.search(text) or place.startswith(WHOLE_BUCKET), (
        f"{place} touches tenants' data without selecting by tenant_id: add the condition, "
        f"or list it in ACROSS_TENANTS with the reason\n{text}"
    )


def test_the_list_of_exceptions_has_no_leftovers() -> None:
    assert set(ACROSS_TENANTS) <= {place for place, _ in STATEMENTS}


def test_a_statement_without_the_tenant_would_be_noticed() -> None:
    for text in (
        "SELECT * FROM post_enrichment WHERE post_id = $1",
        "SELECT tenant_id, post_id FROM post_enrichment",
        "DELETE FROM media_objects WHERE file_sha256 = ANY($1)",
        "UPDATE media_objects SET refs_count = 0",
        "MATCH (i:ImageContent {sha256: $sha256}) RETURN i",
    ):
        assert TOUCHES.search(text), text
        assert not BY_TENANT.search(text), text


def test_every_table_belongs_to_tenants_and_is_keyed_by_them() -> None:
    assert set(TABLES) - OF_A_TENANT == set(WITHOUT_TENANT)
    keyed = {name for name in OF_A_TENANT if re.search(r"PRIMARY KEY \(tenant_id\b", TABLES[name])}
    assert OF_A_TENANT - keyed == set(KEYED_OTHERWISE)
