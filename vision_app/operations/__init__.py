"""What operators do with a running system beyond starting it: test it, look for a post, replay, clean up.

Each module implements one command of `vision` (the command line is in the module of the same name in `vision_app.cli`);
the worker uses nothing of it. All modules work from outside: they read Kafka, Redis, S3 and Postgres and send what any
producer could send. The others use `connections` and `kafka_log`.
"""
