"""The rights of the worker's role in Postgres: the least that it needs, what of them is missing, and their grants."""

from __future__ import annotations

from typing import Any

import asyncpg

TABLES = {
    "schema_migrations": "SELECT",
    "post_enrichment": "SELECT, INSERT, UPDATE",
    "media_objects": "SELECT, INSERT, UPDATE",
    "post_media_map": "SELECT, INSERT",
    "tenant_storage_usage": "SELECT, INSERT, UPDATE, DELETE",
    "storage_state": "SELECT, UPDATE",
    "expired_objects": "SELECT, INSERT, UPDATE, DELETE",
    "budget_actions": "SELECT, INSERT",
    "dead_letter_actions": "SELECT, INSERT",
    "post_actions": "SELECT, INSERT",
    "audits": "SELECT, INSERT, UPDATE, DELETE",
    "token_charges": "SELECT, INSERT, UPDATE",
}
"""What the worker and the operators' commands do with each table."""

_MISSING = """
SELECT a.tab, a.right FROM unnest($1::text[], $2::text[]) AS a(tab, "right")
WHERE CASE WHEN to_regclass(a.tab) IS NULL THEN false ELSE NOT has_table_privilege(a.tab, a.right) END"""
_PLACE = """
SELECT current_user AS role, current_schema() AS schema, current_database() AS database,
    has_database_privilege(current_database(), 'TEMPORARY') AS temporary"""


async def missing_grants(connection: Any) -> list[str]:
    """The GRANT statements whose rights this connection's role lacks, for the tables that are there."""
    asked = [(table, right) for table, rights in TABLES.items() for right in rights.split(", ")]
    rows = await connection.fetch(_MISSING, [table for table, _ in asked], [right for _, right in asked])
    place = await connection.fetchrow(_PLACE)
    role = quoted(place["role"])
    lacking: dict[str, list[str]] = {}
    for row in rows:
        lacking.setdefault(row["tab"], []).append(row["right"])
    grants = [f"GRANT {', '.join(rights)} ON {table} TO {role}" for table, rights in lacking.items()]
    if not place["temporary"]:
        grants.append(f"GRANT TEMPORARY ON DATABASE {quoted(place['database'])} TO {role}")
    return grants


def grants_for(role: str, schema: str, database: str) -> list[str]:
    """All statements that give a role the least rights."""
    to = f"TO {quoted(role)}"
    around = [
        f"GRANT CONNECT, TEMPORARY ON DATABASE {quoted(database)} {to}",
        f"GRANT USAGE ON SCHEMA {quoted(schema)} {to}",
    ]
    return around + [f"GRANT {rights} ON {table} {to}" for table, rights in TABLES.items()]


async def grant(connection: Any, role: str) -> list[str]:
    """Give a role the least rights. Returns the statements that this connection's role may not execute.

    Raises asyncpg's errors, UndefinedObjectError if there is no such role.
    """
    place = await connection.fetchrow(_PLACE)
    refused = []
    for statement in grants_for(role, place["schema"], place["database"]):
        try:
            async with connection.transaction():
                await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            refused.append(statement)
    return refused


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
