"""Postgres, S3, Redis and Neo4j, each behind its own class."""
