"""The composition root: it builds all parts and connects them. It decides nothing.

`faust -A vision_app.app worker` and `python -m vision_app worker` run `app`; tests build their own with `create_app`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import faust
import structlog
from aiokafka.errors import KafkaError

from agents.analysis import analysis_agent
from agents.budget import LookUp, budget_agent
from agents.media import media_agent
from agents.policy import policy_agent
from agents.posts import answered_posts, posts_agent
from agents.sinks import sink_agents
from bridges.budget_mirror import BudgetMirrorService
from bridges.redis_in import RedisIn
from bridges.redis_out import redis_out_agents
from tables.budget import budget_table, parked_table
from tables.posts import posts_table
from vision_app.analysis.analyst import Analyst, call_times
from vision_app.analysis.caller import CallTimes
from vision_app.analysis.pictures import Pictures
from vision_app.analysis.preflights import Preflights
from vision_app.streams.lag import measure_lag
from vision_app.streams.recovery_watch import RecoveryWatch
from vision_app.streams.timers import every

from .clients.kafka import broker_credentials, client_arguments, servers
from .clients.kafka_faults import Explainer, KafkaUnusable
from .clients.redis import ClusterRefused
from .domain import budget as budget_core
from .domain.policy import Policy, PolicyError
from .domain.signatures import key_from
from .kafka_topics import create_topics
from .messages import Charged, PostResult
from .operations.kafka_log import kafka_log, kafka_sender
from .operations.letter_index import LetterIndex
from .prompts import PROMPT_VERSION, VISION_VERSION
from .providers.base import VisionProvider
from .providers.decoders import Decoders
from .providers.gate import Gate
from .providers.gigachat import GigaChat
from .providers.ocr import Tesseract
from .providers.slots import Slots
from .retention.keeper import StorageKeeper
from .settings import Settings, SettingsError, load_settings, vision_home
from .stores.answers import AnswerStore
from .stores.base import Sink
from .stores.budget_mirror import BudgetMirror
from .stores.neo4j import GraphSink
from .stores.policy_file import POLICY_SECONDS, PolicyFile
from .stores.post_documents import PostDocumentSink
from .stores.postgres import PostgresSink
from .stores.redis_announcer import Announcement, RedisAnnouncer
from .stores.s3 import S3Store
from .stores.whole_letters import WholeLetters
from .streams.actor import MAX_ROW_BYTES
from .streams.batches import Batches
from .streams.confirmed_table import ConfirmedTable
from .streams.dead_letters import DeadLetters
from .streams.event_loop import use_event_loop
from .streams.faust_seams import ImpatientProducer, use_producer
from .streams.in_flight import InFlight
from .streams.last_resort import GOODBYE_SECONDS, LastResort
from .streams.outbox import Outbox
from .streams.set_aside import REFRESH_SECONDS, Marks
from .streams.steady_start import hold_until_positioned
from .streams.times import WorkerTimes
from .telemetry import metrics, traces
from .telemetry.alert_rules import AlertWatch
from .telemetry.logging import configure_logging, logging_config
from .telemetry.metrics_page import MetricsServer, start_metrics_server
from .telemetry.reachability import Reachability
from .telemetry.throughput import Throughput
from .telemetry.watch import Watch, remedy
from .texts import say
from .topics import MAX_MESSAGE_BYTES
from .web.audit_runs import AuditRuns
from .web.changes import ChangeTail
from .web.dead_letters import count_waiting_letters
from .web.faust_server import BoundedWeb
from .web.health import health_pages
from .web.health_checks import HealthChecks, checks_of
from .web.readers import Readers
from .web.routes import add_routes, web_options
from .web.thumbnails import Thumbnails
from .web.worker import SenderOf
from .workers.command import become_supervisor
from .workers.identity import worker_id

log = structlog.get_logger(__name__)

NEW_OBJECTS = 10_000
"""The garbage collector runs after this many new objects. Python's default of 700 suits small programs."""


KAFKA_AWAY_SECONDS = 30.0
"""A worker is not ready when Kafka has not worked for longer. When one of three brokers fails, the others take over its
partitions sooner.
"""

EXPLAINED = (KafkaUnusable, ClusterRefused, traces.TracesUnusable)
"""Errors whose text is one sentence with a remedy."""


class VisionApp(faust.App):
    """Faust's app. Its resources open before the first message; calls in flight end before it stops."""

    settings: Settings
    resources: list[Any]
    flow: InFlight
    sinks: list[Batches]
    bridge: RedisIn
    gate: Gate
    keeper: StorageKeeper
    readers: Readers
    thumbnails: Thumbnails
    changes: ChangeTail
    posts: ConfirmedTable
    budgets: ConfirmedTable
    parked: ConfirmedTable
    outbox: Outbox
    kafka_reads: Reachability
    throughput: Throughput
    letter_index: LetterIndex
    health_checks: HealthChecks
    alerts: AlertWatch
    audits: AuditRuns
    s3: S3Store
    watch: Watch
    recovery_watch: RecoveryWatch
    times: WorkerTimes
    max_row_bytes: int
    marks: Marks
    budget_rules: Callable[[], budget_core.BudgetRules]
    kafka_sender: SenderOf
    started = False
    _metrics: MetricsServer | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last_resort = LastResort()

    async def on_first_start(self) -> None:
        self.conf.datadir.mkdir(parents=True, exist_ok=True)
        await super().on_first_start()

    async def on_start(self) -> None:
        """Connect and open everything. If that fails, the reason is logged before the worker ends."""
        try:
            await self._open()
        except Exception as fault:
            log.error("worker_start_failed", error=_reason(fault), next_step="run `vision doctor`")
            if isinstance(fault, EXPLAINED):
                raise SystemExit(1) from None  # the sentence says it all: no traceback
            raise

    async def _open(self) -> None:
        await super().on_start()
        configure_logging(self.settings)  # Faust's command line has set its own level
        if self._metrics is None:
            self._metrics = start_metrics_server(self.settings, health_pages(self))
            metrics.READY.set_function(lambda: self.not_ready() is None)
        traces.start(self.settings, worker_id(self.settings))
        self.watch.start()
        self.add_future(self.recovery_watch.run())
        await create_topics(self.settings)
        for resource in self.resources:
            await resource.open()
        await asyncio.gather(*(flow.try_open() for flow in self.sinks))
        log.info("Vision Analysis task registered with supervisor")

    async def on_started(self) -> None:
        """Called when the tables are recovered."""
        await super().on_started()
        _tune_garbage_collector()
        self.started = not self.should_stop

    async def on_stop(self) -> None:
        """First let calls in flight end and store their answers: a call that is cut off is paid for nothing."""
        self._last_resort.arm(self.settings.vision_handler_deadline_seconds + GOODBYE_SECONDS)
        await self.flow.drain(self.settings.vision_handler_deadline_seconds)
        await super().on_stop()

    async def on_shutdown(self) -> None:
        await super().on_shutdown()
        for resource in reversed(self.resources):
            await _close(resource)
        self.watch.stop()
        await traces.stop()
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        self._last_resort.disarm()

    def _new_web(self) -> BoundedWeb:
        return BoundedWeb(self, self.settings)

    def at_rest(self) -> bool:
        """Whether the worker starts, stops or rebalances: then work that stands still has a reason."""
        return not self.serving()

    def serving(self) -> bool:
        """Whether the tables here are this generation's and complete."""
        return self.started and not self.rebalancing and not self.in_recovery and not self.should_stop

    def not_ready(self) -> str | None:
        """Why messages are not being handled; None if they are."""
        if self.should_stop:
            return say("draining: the worker stops")
        if trouble := self._kafka_away():
            return trouble
        if self.rebalancing:
            return say("rebalancing: partitions are being shared out")
        if not self.started:
            return say("starting: connecting and recovering the tables")
        if self.in_recovery:
            return say("recovering the tables")
        if stalls := self.watch.stalls:
            first = stalls[0]
            return say(
                "stalled: {stage} at {place} for {seconds:.0f} s; {why}. {remedy}",
                stage=first.stage,
                place=first.place,
                seconds=first.seconds,
                why=first.why,
                remedy=remedy(first),
            )
        if self.settings.feature_vision_enabled and not self.bridge.connected:
            return self.bridge.trouble or say("Redis is not connected yet")
        return None

    def _kafka_away(self) -> str | None:
        for service in (self.outbox.reachability, self.kafka_reads):
            if (seconds := service.trouble_seconds) > KAFKA_AWAY_SECONDS:
                return say(
                    "Kafka is away for {seconds:.0f} s: {trouble}; start its brokers, or see their logs",
                    seconds=seconds,
                    trouble=service.trouble,
                )
        return None

    def waiting_for(self) -> dict[str, str]:
        """The services, by name, for which some work waits; other work goes on."""
        waiting = {flow.sink.name: trouble for flow in self.sinks if (trouble := flow.trouble)}
        for name, service in (
            ("kafka", self.outbox.reachability),
            ("kafka", self.kafka_reads),
            ("s3", self.s3.reachability),
        ):
            if trouble := service.trouble:
                waiting.setdefault(name, trouble)
        gate = self.gate.state
        if gate.state != "closed":
            waiting["gigachat"] = f"{gate.state}: {gate.reason}"
        return waiting

    def service_is_away(self) -> bool:
        """Whether a service is away that posts need to be announced. No post waits for the graph."""
        return bool(self.waiting_for().keys() - {"neo4j"})


@dataclass(frozen=True)
class Services:
    """Makes the client of each service; also pauses and limits of the whole worker. Tests pass substitutes."""

    s3: Callable[[Settings], S3Store] = S3Store
    provider: Callable[[Settings], VisionProvider] = GigaChat
    slots: Callable[[Settings], Slots] = Slots
    gate: Callable[[Settings, Slots], Gate] = Gate
    decoders: Callable[[Settings], Decoders] = Decoders
    ocr: Callable[[Settings], Tesseract] = Tesseract
    postgres: Callable[[Settings], Sink[PostResult | Charged]] = PostgresSink
    documents: Callable[[Settings, S3Store], Sink[PostResult]] = PostDocumentSink
    graph: Callable[[Settings], Sink[PostResult]] = GraphSink
    announcer: Callable[[Settings], Sink[Announcement]] = RedisAnnouncer
    call_times: Callable[[Settings], CallTimes] = call_times
    readers: Callable[[Settings], Readers] = Readers
    mirror: Callable[[Settings], BudgetMirror] = BudgetMirror
    times: WorkerTimes = field(default_factory=WorkerTimes)
    max_row_bytes: int = MAX_ROW_BYTES


def create_app(settings: Settings, services: Services | None = None) -> VisionApp:
    """Build the worker: every table, agent, bridge and page, connected to the services that the settings name."""
    services = services or Services()
    app = _faust(settings)
    app.times, app.max_row_bytes = services.times, services.max_row_bytes
    partitions = settings.kafka_topic_partitions
    app.posts = posts_table(app, partitions)
    app.budgets, app.parked = budget_table(app, partitions), parked_table(app, partitions)
    policy = PolicyFile(settings.vision_policy_config_path)
    ocr = services.ocr(settings) if settings.vision_ocr_fallback_enabled else None
    app.budget_rules = _budget_rules(settings, policy, ocr)
    app.readers, mirror = services.readers(settings), services.mirror(settings)
    app.outbox = outbox = Outbox(app, Explainer(client_arguments(settings)).reason)
    app.s3 = s3 = services.s3(settings)
    dead_letters = DeadLetters(outbox, WholeLetters(s3).keep)
    answers = AnswerStore(s3, settings.gigachat_vision_model, PROMPT_VERSION)
    provider, slots = services.provider(settings), services.slots(settings)
    app.gate = services.gate(settings, slots)
    decoders = services.decoders(settings)
    analyst = Analyst(
        app,
        settings,
        answers,
        Pictures(s3, decoders),
        provider,
        app.gate,
        ocr,
        worker_id=worker_id(settings),
        times=services.call_times(settings),
    )

    def current_policy() -> Policy:
        policy.refresh()
        return policy.policy

    async def look_at_policy() -> None:
        policy.refresh()

    default_tenant, spent_today = settings.s3_default_tenant_id, mirror.spent_today
    policy_agent(
        app,
        outbox,
        dead_letters,
        policy=current_policy,
        default_tenant=default_tenant,
        spent_today=spent_today,
        is_answered=answered_posts(app, app.posts, vision_version=VISION_VERSION),
    )
    posts_agent(app, outbox, dead_letters, app.posts, vision_version=VISION_VERSION)
    preflights = Preflights()
    media_agent(app, outbox, dead_letters, s3, answers, preflights, settings)
    budget_agent(
        app,
        outbox,
        dead_letters,
        app.budgets,
        app.parked,
        rules=app.budget_rules,
        look_up=_look_up(app.readers, mirror),
        unfinished_posts=app.readers,
        grant_key=key_from(settings.grant_secret),
    )
    app.flow = analysis_agent(app, outbox, dead_letters, analyst, preflights)
    app.sinks = sink_agents(
        app,
        outbox,
        dead_letters,
        postgres=services.postgres(settings),
        documents=services.documents(settings, s3),
        graph=services.graph(settings) if settings.feature_neo4j_enabled else None,
        emit_skipped=settings.feature_vision_emit_skipped_events,
    )
    redis_out_agents(app, outbox, dead_letters, lambda: services.announcer(settings))
    app.kafka_reads, app.throughput = Reachability(), Throughput()
    measure_lag(app, app.kafka_reads, app.throughput)
    app.recovery_watch = RecoveryWatch(app, settings.vision_stall_seconds, lambda: bool(app.kafka_reads.trouble))
    app.kafka_sender = kafka_sender
    app.letter_index = LetterIndex(lambda: kafka_log(settings))
    app.health_checks = checks_of(settings, lambda: count_waiting_letters(app))
    app.alerts = AlertWatch(worker_id(settings))
    every(app, REFRESH_SECONDS, app.marks.refresh)
    every(app, POLICY_SECONDS, look_at_policy)
    app.bridge = RedisIn(app, outbox, dead_letters, settings, worker_id(settings), app.service_is_away)
    app.keeper = StorageKeeper(settings, s3)
    app.service(cast(Any, app.keeper))
    app.service(cast(Any, BudgetMirrorService(app, outbox, mirror, app.readers.record_reset)))
    if settings.feature_vision_enabled:
        app.service(cast(Any, app.bridge))
    app.thumbnails, app.changes = Thumbnails(settings, s3), ChangeTail(settings)
    app.audits = AuditRuns(settings, lambda: app.readers.audits(), worker_id(settings))
    add_routes(app)
    app.resources = [
        app.alerts,
        app.marks,
        s3,
        provider,
        slots,
        decoders,
        app.readers,
        app.audits,
        app.thumbnails,
        mirror,
        *([ocr] if ocr else []),
    ]
    return app


async def _close(resource: Any) -> None:
    """Close a resource, opened or not. Errors are only logged, so that the others are closed and no cause is hidden."""
    try:
        await resource.close()
    except Exception:
        metrics.UNEXPECTED_ERRORS.labels(where="close").inc()
        log.exception("resource_close_failed", resource=type(resource).__name__)


def _reason(fault: Exception) -> str:
    text = str(fault) or type(fault).__name__
    if isinstance(fault, EXPLAINED):
        return text
    return f"{text}; check KAFKA_BOOTSTRAP_SERVERS and that the broker runs" if isinstance(fault, KafkaError) else text


def _tune_garbage_collector() -> None:
    """Exclude permanent objects from garbage collection: modules, the clients' models, recovered rows.

    Scanning them again and again took an eighth of the worker's processor time (`gc.callbacks`, nine pictures a
    second), in pauses of the whole worker.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)


def _faust(settings: Settings) -> VisionApp:
    app = VisionApp(
        settings.kafka_app_id,
        broker=[f"kafka://{server}" for server in servers(settings)],
        broker_credentials=broker_credentials(settings),
        origin="vision_app",
        Table=ConfirmedTable,
        key_serializer="raw",
        value_serializer="raw",
        store=settings.kafka_store,
        datadir=str(vision_home() / "worker" / worker_id(settings)),
        topic_partitions=settings.kafka_topic_partitions,
        topic_replication_factor=settings.kafka_topic_replication_factor,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,  # we acknowledge by hand: waiting for un-acknowledged events would hang for ever
        stream_buffer_maxsize=64,
        broker_max_poll_interval=86400.0,  # a client-side timer: if shorter, back-pressure looks like a dead worker
        broker_session_timeout=float(settings.kafka_session_timeout_seconds),
        broker_heartbeat_interval=min(3.0, settings.kafka_session_timeout_seconds / 3),
        broker_rebalance_timeout=150.0,
        broker_request_timeout=160.0,
        broker_commit_interval=1.0,
        producer_acks=-1,  # all copies that are in sync
        producer_linger=0.0,
        producer_request_timeout=max(1.0, settings.kafka_session_timeout_seconds - 2.0),
        producer_max_request_size=MAX_MESSAGE_BYTES,
        web_enabled=True,
        web_host=settings.vision_advertised_host or settings.vision_api_host,
        web_bind=settings.vision_api_host,
        web_port=settings.vision_api_port,
        web_tables_enabled=False,
        web_router_enabled=False,
        web_stats_enabled=False,
        web_graph_enabled=False,
        web_application_options=web_options(settings),
        logging_config=logging_config(settings),
        worker_redirect_stdouts=True,
    )
    app.settings = settings
    app.watch = Watch(settings.vision_stall_seconds, app.at_rest)
    app.marks = Marks.of(settings, app.watch)
    hold_until_positioned(app)
    use_producer(app, ImpatientProducer)
    return app


def _look_up(readers: Readers, mirror: BudgetMirror) -> LookUp:
    """The data of a new ledger. Postgres has only the cost of announced posts, Redis the last ledger's spending."""

    async def look_up(tenant_id: str, day: str) -> tuple[int, int | None, bool]:
        spent, limit, paused = await readers.budget_of(tenant_id, day)
        return max(spent, await mirror.last_shown(tenant_id, day)), limit, paused

    return look_up


def _budget_rules(
    settings: Settings, policy: PolicyFile, ocr: Tesseract | None
) -> Callable[[], budget_core.BudgetRules]:
    def rules() -> budget_core.BudgetRules:
        return budget_core.BudgetRules(
            limit=settings.vision_max_daily_tokens,
            max_concurrent=settings.vision_max_concurrent_requests,
            max_queue=settings.vision_max_queue_depth,
            ocr_fallback=policy.policy.ocr_at_exhaustion and ocr is not None and ocr.available,
        )

    return rules


def _app_or_exit() -> VisionApp:
    try:
        become_supervisor()
        settings = load_settings()
        if not settings.vision_api_port:
            raise SettingsError("VISION_API_PORT: 0 lets `vision up` choose; a worker started by itself needs a port")
        configure_logging(settings)
        use_event_loop(settings)
        return create_app(settings)
    except (SettingsError, PolicyError) as fault:
        print(fault, file=sys.stderr)
        raise SystemExit(2) from None


def __getattr__(name: str) -> VisionApp:
    """Build `vision_app.app.app` at its first use: Faust's command line uses it, tests do not."""
    if name != "app":
        raise AttributeError(name)
    built = globals()["app"] = _app_or_exit()
    return built
