"""The embedded services (Redis, Kafka, Postgres, Neo4j, S3, the GigaChat simulator) and the workers, supervised.

For a machine without Docker: real servers from package registries, their data under `.vision/`. Not used by the worker
itself, which only sees URLs: with the URL variables set, the same commands work against services run elsewhere.
"""
