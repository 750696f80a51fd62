"""How far this worker is behind: records of its partitions that are in Kafka and not yet acknowledged, per topic."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vision_app.telemetry import metrics

from .timers import every

MEASURE_SECONDS = 10.0


def measure_lag(app: Any) -> None:
    """Set the gauge of every topic the workers read, again and again. The brokers are asked for the ends."""

    async def lag() -> None:
        committed = app.consumer._committed_offset  # as Faust keeps it; None: nothing was ever committed
        ours = [tp for tp in app.consumer.assignment() if tp.topic in metrics.WORK_TOPICS]
        ends = await app.consumer.highwaters(*ours) if ours else {}
        behind: Counter[str] = Counter()
        for tp in ours:
            behind[tp.topic] += max(0, (ends.get(tp) or 0) - (committed[tp] or 0))
        for topic in metrics.WORK_TOPICS:
            metrics.CONSUMER_LAG.labels(topic=topic).set(behind[topic])

    every(app, MEASURE_SECONDS, lag)
