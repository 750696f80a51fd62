"""The worker as the pages see it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from vision_app.domain.budget import BudgetRules
from vision_app.operations.kafka_log import KafkaSender
from vision_app.operations.letter_index import LetterIndex
from vision_app.retention.keeper import StorageKeeper
from vision_app.settings import Settings
from vision_app.stores.s3 import S3Store
from vision_app.streams.faust_seams import Worker
from vision_app.streams.outbox import Outbox
from vision_app.telemetry.alert_rules import AlertWatch
from vision_app.telemetry.throughput import Throughput

from .health_checks import HealthChecks
from .readers import Readers

if TYPE_CHECKING:  # they use this module
    from .audit_runs import AuditRuns
    from .changes import ChangeTail
    from .thumbnails import Thumbnails


SenderOf = Callable[[Settings], AbstractAsyncContextManager[KafkaSender]]
"""Opens a producer of its own, for replays by operators."""


class ServedWorker(Worker, Protocol):
    """What the pages ask of `vision_app.app.VisionApp`. `router`, `http_client` and `web` are Faust's."""

    settings: Settings
    outbox: Outbox
    readers: Readers
    keeper: StorageKeeper
    thumbnails: Thumbnails
    changes: ChangeTail
    budget_rules: Callable[[], BudgetRules]
    started: bool
    throughput: Throughput
    letter_index: LetterIndex
    health_checks: HealthChecks
    alerts: AlertWatch
    s3: S3Store
    kafka_sender: SenderOf
    audits: AuditRuns

    @property
    def router(self) -> Any: ...
    @property
    def http_client(self) -> Any: ...
    @property
    def page(self) -> Callable[..., Any]: ...
    def not_ready(self) -> str | None: ...
    def waiting_for(self) -> dict[str, str]: ...
