"""Conditions of statements that several readers of Postgres share."""

IS_DEFERRED = """kind = 'vision' AND data @> '{"media": [{"details": {"deferred": true}}]}'"""
"""Whether a medium of a row of post_enrichment waits for its budget. An index has the same condition."""

NOT_WHOLE = "status <> 'ok'"
"""Whether a medium of a row has no usable analysis. An index has the same condition."""
