"""How long the worker pauses between two tries. The app has one set of these; a test gives its app a faster one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vision_app.telemetry.reachability import SILENT_SECONDS


@dataclass(frozen=True)
class WorkerTimes:
    """All in seconds. The n-th pause is the n-th number of its row, and the last number repeats.

    `poll`: between checks whether the worker stops or the partition moves. A wait delays both by at most this.
    `kafka_retry`: while Kafka does not take a record. `sink_retry`: while a sink's store is away. `outage_retry`: while
    S3 or the decoders are away. `ledger_retry`: while Postgres does not tell what a new ledger has to know.
    `silent`: a longer call of a sink or of Kafka's producer is reported as trouble.
    """

    poll: float = 0.25
    kafka_retry: Sequence[float] = (0.1, 0.5, 1.0, 2.0, 5.0)
    sink_retry: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0)
    outage_retry: Sequence[float] = (0.5, 1.0, 2.0, 5.0)
    ledger_retry: float = 2.0
    silent: float = SILENT_SECONDS


def nth_pause(pauses: Sequence[float], attempt: int) -> float:
    """The pause after the attempt of this number, counted from 0."""
    return pauses[min(attempt, len(pauses) - 1)]
