"""What operators do with a running system beyond starting it: test it, look for a post, replay, clean up.

Each module answers one command of `vision` (its face is the module of the same name in `vision_app.cli`); nothing here
is used by the worker. All of it works from the outside: it reads Kafka, Redis, S3 and Postgres and sends what any
producer could send. `connections` and `kafka_log` are what the others stand on.
"""
