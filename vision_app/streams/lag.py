"""The lag of this worker: records of its partitions that are not yet acknowledged, per topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from aiokafka.errors import KafkaError

from vision_app import topics
from vision_app.telemetry import metrics
from vision_app.telemetry.reachability import Reachability
from vision_app.telemetry.throughput import Throughput
from vision_app.telemetry.watch import RecordPlace, waiting_for

from .faust_seams import Worker, committed_offset, watch_of
from .timers import every

MEASURE_SECONDS = 10.0
STAGES = {
    topics.UPLOADED.name: "policy",
    topics.POSTS.name: "posts",
    topics.MEDIA.name: "media",
    topics.BUDGET.name: "budget",
    topics.ANALYSIS.name: "analysis",
    topics.SINK_POSTGRES.name: "sink-postgres",
    topics.SINK_S3.name: "sink-s3",
    topics.SINK_NEO4J.name: "sink-neo4j",
    topics.ANALYZED.name: "redis_out",
    topics.SKIPPED.name: "redis_out",
}
"""The stage that handles each topic."""


def measure_lag(app: Worker, reachability: Reachability, throughput: Throughput) -> None:
    """Report the lag of every partition to the gauges and the watch, repeatedly. Asks the brokers.

    `throughput` is told how far each partition has come. `reachability` is told whether the brokers answer: a worker
    without work has no other way to notice that they do not.
    """
    watch = watch_of(app)

    async def lag() -> None:
        ours = [tp for tp in app.consumer.assignment() if tp.topic in metrics.WORK_TOPICS]
        committed = {tp: committed_offset(app, tp) for tp in ours}
        new = [tp for tp in ours if committed[tp] is None]
        try:
            with waiting_for("kafka"), reachability.call():
                ends = await app.consumer.highwaters(*ours) if ours else {}
                first = await app.consumer.earliest_offsets(*new) if new else {}  # deleted by retention: no lag
        except KafkaError as fault:
            reachability.failed(f"does not say where its partitions end: {fault!r}")
            raise
        reachability.worked()
        behind, left = Counter[str](), dict[RecordPlace, tuple[str, int]]()
        for tp in ours:
            start = first.get(tp) or 0 if (done := committed[tp]) is None else done
            if (records := (ends.get(tp) or 0) - start) > 0:
                behind[tp.topic] += records
                left[RecordPlace(tp.topic, tp.partition)] = STAGES[tp.topic], start
        positions: dict[Hashable, tuple[str, int]] = {
            tp: (STAGES[tp.topic], offset) for tp, offset in committed.items() if offset is not None
        }
        by_stage = Counter[str]()
        for topic, records in behind.items():
            by_stage[STAGES[topic]] += records
        positions |= {stream: ("redis_in", count) for stream, count in metrics.relayed_entries().items()}
        throughput.sample(positions, by_stage)
        for topic in metrics.WORK_TOPICS:
            metrics.CONSUMER_LAG.labels(topic=topic).set(behind[topic])
        watch.report_lag(left)

    every(app, MEASURE_SECONDS, lag)
