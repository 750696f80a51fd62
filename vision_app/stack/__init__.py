"""The embedded services (Redis, Kafka, Postgres, Neo4j, S3, the GigaChat simulator) and the workers, supervised.

For a machine without Docker: real servers from package registries, their data under `.vision/`. The worker itself does
not use this package; it only knows URLs. With the URL variables set, the same commands work with services elsewhere.
"""
