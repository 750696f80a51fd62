"""Waits until a store or the decoders are back. The message stays un-acknowledged and does not count as failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from vision_app.providers.decoders import DecodersUnavailable
from vision_app.stores.s3 import StoreUnavailable
from vision_app.streams.ownership import sleep_while_ours
from vision_app.telemetry import metrics
from vision_app.telemetry.watch import waiting_for

from .faust_seams import Event, Worker
from .times import nth_pause

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


async def through_outages(app: Worker, event: Event, attempt: Callable[[], Awaitable[Result]], stage: str) -> Result:
    """Repeat `attempt` until its services answer. Raises LeftUnacked when the worker stops or the partition moves."""
    tries, missing = 0, stage
    while True:
        try:
            return await attempt()
        except StoreUnavailable as fault:
            missing = stage
            metrics.RETRIES.labels(stage=stage).inc()
            log.warning("store_unavailable", stage=stage, error=str(fault), attempt=tries + 1)
        except DecodersUnavailable as fault:
            missing = "decoders"
            metrics.RETRIES.labels(stage="decoders").inc()
            log.error("decoders_unavailable", error=str(fault), attempt=tries + 1)
        with waiting_for(missing):
            await sleep_while_ours(app, event, nth_pause(app.times.outage_retry, tries))
        tries += 1
