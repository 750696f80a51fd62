"""The whole catalogue of metrics: every name that the service exports, once, with one line on what it counts.

Not here: where a metric is changed (the agents, bridges, stores), and the page they are served on (`metrics_page.py`).
Label sets that are known in advance exist at zero from import on; those of a tenant from its first event on. The names
come from the acceptance guide and the surrounding assistant. Durations are seconds, sizes bytes or GiB.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vision_app import topics

REGISTRY = CollectorRegistry()
"""Our own registry instead of the library's default, so that only this catalogue (and what app.py adds) is exported."""

# `*_created` series double the page and no query of ours reads them.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types here
prometheus_client.ProcessCollector(registry=REGISTRY)

MAX_TENANT_LABELS = 200
"""Tenants with a label of their own; the rest share `other`, so that the page stays small with many tenants."""
OTHER_TENANT = "other"

EVENT_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60)
MEDIUM_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30)
CALL_SECONDS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 30, 60)
WRITE_SECONDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)

M = TypeVar("M", Counter, Gauge, Histogram)


def _known(metric: M, *labelsets: Sequence[str] | str) -> M:
    """Create the children for `labelsets` at zero. A text means a set of one label."""
    for values in labelsets:
        metric.labels(*([values] if isinstance(values, str) else values))
    return metric


def _counter(name: str, doc: str, *labels: str) -> Counter:
    return Counter(name, doc, labels, registry=REGISTRY)


def _gauge(name: str, doc: str, *labels: str) -> Gauge:
    return Gauge(name, doc, labels, registry=REGISTRY)


def _histogram(name: str, doc: str, *labels: str, buckets: Sequence[float]) -> Histogram:
    return Histogram(name, doc, labels, buckets=buckets, registry=REGISTRY)


# --- posts and media --------------------------------------------------------------------------------------------------

EVENTS = _known(
    _counter("vision_events_total", "Posts that came to an end, by how and why.", "status", "reason"),
    *[("ok", "none"), ("partial", "none"), ("skipped", "all_media_skipped"), ("error", "analysis_failed")],
    *[("failed", "max_deliveries_exceeded"), ("failed", "parse_error")],
)
MEDIA = _known(
    _counter(
        "vision_media_total", "Media that came to an end, by how and why (the policy: its rule).", "result", "reason"
    ),
    *[("ok", "success"), ("deferred", "budget")],
    *[("skipped", reason) for reason in ("unsupported_mime", "budget", "s3_missing", "s3_forbidden")],
    *[("failed", reason) for reason in ("analysis_failed", "refused", "unusable", "hash_mismatch", "too_large")],
)
RETRIES = _known(
    _counter("vision_retries_total", "Attempts made again, by what was being tried.", "stage"),
    *("s3", "vision_api", "db", "neo4j", "redis", "kafka", "storage", "decoders", "dlq", "process"),
)
EVENT_DURATION = _histogram(
    "vision_event_duration_seconds", "From a post's opening to its completion.", buckets=EVENT_SECONDS
)
MEDIA_DURATION = _histogram(
    "vision_media_duration_seconds", "From a medium's dispatch to its outcome.", buckets=MEDIUM_SECONDS
)
IDEMPOTENCY_HITS = _counter("vision_worker_idempotency_hits_total", "Repeated posts that needed no work and no event.")
UNEXPECTED_ERRORS = _known(
    _counter("vision_unexpected_errors_total", "Errors nobody planned for: faults of this program.", "where"),
    *("policy", "posts", "media", "budget", "analysis", "sinks", "redis_in", "redis_out", "timers", "web", "storage"),
    "dead_letters",
    "close",
    "watch",
)
SPANS = _known(
    _counter(
        "vision_spans_total",
        "Spans of traces: exported; failed: the collector did not take them; dropped: they did not fit into the queue.",
        "result",
    ),
    *("exported", "failed", "dropped"),
)
LOG_LINES_COUNTED = _known(
    _counter("vision_log_lines_counted_total", "Log lines that said the same again and were only counted.", "level"),
    *("debug", "info", "warning", "error", "critical"),
)
POLICY_DECISIONS = _known(
    _counter("vision_policy_decisions_total", "The policy's verdict per medium.", "decision", "reason"),
    *[("allow", "policy_passed"), ("deny", "unsupported_mime"), ("deny", "file_too_large"), ("skip", "channel")],
    *[("skip", "language"), ("skip", "not_required"), ("fallback", "quota_exhausted")],
    *[("skip", "small_images_filtered"), ("skip", "sampling_applied")],
)
POLICY_RELOADS = _known(
    _counter("vision_policy_reloads_total", "Changes of the policy file: taken over, or refused as faulty.", "result"),
    *("loaded", "refused"),
)

# --- the provider -----------------------------------------------------------------------------------------------------

ANALYSIS_REQUESTS = _counter(
    "vision_analysis_requests_total", "Analyses asked of a provider.", "status", "provider", "tenant_id", "reason"
)
ANALYSIS_DURATION = _histogram(
    *("vision_analysis_duration_seconds", "One analysis by a provider, upload and deletion included."),
    *("provider", "tenant_id", "status"),
    buckets=CALL_SECONDS,
)
TOKENS_USED = _counter("vision_tokens_used_total", "Tokens billed.", "provider", "tenant_id", "model")
TOKENS_ESTIMATED = _counter("vision_tokens_estimated_total", "Tokens reserved beforehand.", "provider", "tenant_id")
FILE_UPLOADS = _known(
    _counter("vision_file_uploads_total", "Pictures uploaded to the provider.", "status"), "success", "error"
)
PROVIDER_FILES_LEFT = _counter(
    "vision_provider_files_left_total", "Uploaded pictures that could not be deleted at the provider."
)
PROVIDER_WAITING = _gauge("vision_provider_waiting", "Tasks of this worker held at the provider's gate.")
CALLS_LOST = _counter("vision_calls_lost_total", "Calls cut off that may have been billed; charged at their estimate.")
USAGE_UNKNOWN = _known(
    _counter(
        "vision_usage_unknown_total", "Answers that did not say what they cost; charged at the estimate.", "reason"
    ),
    *("missing", "zero"),
)
CACHE_HITS = _known(
    _counter("vision_cache_hits_total", "Analyses answered without a call, by where from.", "cache_type"),
    "s3",
)
PARSED = _known(
    _counter(
        "vision_parsed_total", "Answers read, by verdict and by whether they had to be mended.", "status", "method"
    ),
    *[(status, method) for status in ("ok", "partial") for method in ("direct", "mended")],
    *[("refused", "mended"), ("unusable", "mended")],
)
OCR_REQUESTS = _known(
    _counter("ocr_requests_total", "Runs of the OCR engine.", "engine", "status"),
    *[("tesseract", "success"), ("tesseract", "error"), ("tesseract", "timeout")],
)
OCR_AVAILABLE = _gauge("vision_ocr_available", "1 while Tesseract can be run in this worker, else 0.")
OCR_DURATION = _known(
    _histogram("ocr_duration_seconds", "One run of the OCR engine.", "engine", buckets=CALL_SECONDS), "tesseract"
)
PICTURES_DECODED = _known(
    _counter("vision_pictures_decoded_total", "Pictures and documents checked before they are sent.", "result"),
    *("ok", "empty", "unsupported_type", "too_large", "too_many_pixels", "undecodable"),
    *("decoding_memory", "decoding_timeout", "decoding_crashed", "interrupted"),
)
DECODING_DURATION = _histogram(
    "vision_decoding_duration_seconds", "Checking one picture, waiting for a decoder included.", buckets=WRITE_SECONDS
)
DECODERS_REPLACED = _known(
    _counter("vision_decoders_replaced_total", "Decoder processes ended and replaced, by why.", "cause"),
    *("used_up", "memory", "timeout", "died", "interrupted"),
)
BREAKER_STATE = _known(
    _gauge("circuit_breaker_state", "1 for the state the breaker is in, 0 for the others.", "name", "state"),
    *[("gigachat", state) for state in ("closed", "half_open", "open")],
)
BREAKER_TRANSITIONS = _known(
    _counter("circuit_breaker_transitions_total", "Changes of a breaker's state.", "name", "state"),
    *[("gigachat", state) for state in ("closed", "half_open", "open")],
)

# --- the budget -------------------------------------------------------------------------------------------------------

BUDGET_USAGE = _gauge("vision_budget_usage_gauge", "Tokens the tenant spent today (UTC).", "tenant_id")
BUDGET_LIMIT = _gauge("vision_budget_limit_gauge", "Tokens the tenant may spend per day.", "tenant_id")
BUDGET_RESERVED = _gauge("vision_budget_reserved_gauge", "Tokens held by calls in flight.", "tenant_id")
BUDGET_PARKED = _gauge("vision_budget_parked_gauge", "Tasks of the tenant that wait for budget or a slot.", "tenant_id")
BUDGET_STALE_GRANTS = _gauge("vision_budget_stale_grants_gauge", "Grants open for more than an hour.", "tenant_id")
BUDGET_BLOCKS = _counter(
    "vision_budget_gate_blocks_total", "Tasks that could not start at once.", "tenant_id", "reason"
)
BUDGET_QUEUE_GAPS = _counter(
    "vision_budget_queue_gaps_total", "Parked entries missing when their turn came: look for lost changelog records."
)
GRANTS_RETURNED = _known(
    _counter("vision_grants_returned_total", "Grants on which nothing was called; their tasks asked anew.", "reason"),
    *("unsigned", "foreign", "expired", "too_small"),
)
BUDGET_ASKED_AGAIN = _counter(
    "vision_budget_asked_again_total", "Media asked about again, since the ledger in which they waited was lost."
)
BUDGET_UNKNOWN_GRANTS = _counter(
    "vision_budget_unknown_grants_total", "Settlements of grants the ledger no longer knows; ignored."
)

# --- actors, agents, bridges ------------------------------------------------------------------------------------------

ACTOR_COMMANDS = _known(
    _counter("vision_actor_commands_total", "Commands applied.", "actor", "command"),
    *[("posts", command) for command in ("opened", "media_outcome", "forget", "ask_again")],
    *[("budget", command) for command in ("reserve", "settle", "lost", "release", "reset", "set_limit")],
    *[("budget", command) for command in ("pause", "resume", "drop", "load", "wake")],
)
ACTOR_DUPLICATES = _known(
    _counter("vision_actor_duplicates_total", "Commands delivered again and recognised.", "actor"), "posts", "budget"
)
CHANGELOG_STALE = _counter("vision_changelog_stale_total", "Changelog records older than the row held; ignored.")
STALLED = _known(
    _gauge("vision_stalled_seconds", "How long work of a stage has stood still, waiting for nothing known.", "stage"),
    *("redis_in", "policy", "posts", "media", "budget", "analysis", "sink-postgres", "sink-s3", "sink-neo4j"),
    *("redis_out", "timers", "event_loop"),
)
PROCESS_UP = _gauge(
    "vision_process_up", "1 while this process of a worker with several (VISION_WORKERS) runs and answers.", "process"
)
PROCESS_RESTARTS = _counter(
    "vision_process_restarts_total", "Ends of this process that nobody asked for; it is started again.", "process"
)
READY = _gauge("vision_ready", "1 while this worker works on messages, as /readyz says.")
WORK_TOPICS = tuple(topic.name for topic in topics.ALL if topic is not topics.DLQ)  # people handle that one
CONSUMER_LAG = _known(
    _gauge("vision_consumer_lag", "Records of this worker's partitions not yet acknowledged.", "topic"), *WORK_TOPICS
)
INFLIGHT = _known(
    _gauge("vision_inflight", "Messages being worked on in this worker.", "agent"),
    "policy",
    "posts",
    "media",
    "budget",
    "analysis",
)
RELAYED = _known(
    _counter("vision_relayed_total", "Entries relayed from a Redis stream into Kafka.", "stream"),
    *("stream:posts:vision:uploaded", "stream:posts:vision"),
)
ANNOUNCED = _known(
    _counter("vision_announced_total", "Events put on the Redis output stream.", "event"),
    *("posts.vision.analyzed", "posts.vision.skipped"),
)
STREAM_LAG = _known(
    _gauge("stream_consumer_lag", "Entries of an input stream not yet read, 1000 at most.", "stream", "group"),
    *[(stream, "vision_workers") for stream in ("stream:posts:vision:uploaded", "stream:posts:vision")],
)
PEL_SIZE = _known(
    _gauge("vision_pel_size", "Entries delivered to the group and not yet acknowledged.", "consumer_group"),
    "vision_workers",
)
PENDING_AGE = _known(
    _gauge("vision_pending_older_than_seconds", "Age of pending entries.", "percentile", "consumer_group"),
    *[(percentile, "vision_workers") for percentile in ("p50", "p95", "max")],
)
REDIS_TRIMMED = _counter(
    "vision_redis_trimmed_entries_total", "Pending entries that Redis had trimmed before they were read: lost input."
)
DEAD_LETTERS = _known(
    _counter("events_dlq_total", "Messages put among the dead letters, by where from.", "base_event", "error_code"),
    *[("stream:posts:vision:uploaded", code) for code in ("unreadable", "max_deliveries_exceeded")],
)

ENDINGS_REDUCED = _known(
    _counter("vision_endings_reduced_total", "Endings written in a smaller form since the whole was refused.", "what"),
    *("letter", "companion", "row", "announcement"),
)
WHOLE_LETTERS = _known(
    _counter("vision_whole_letters_total", "Letters too large for Kafka that were put whole into S3.", "result"),
    *("kept", "failed"),
)
READ_AHEAD_BYTES = _gauge("vision_read_ahead_bytes", "Bytes of entries that the way in holds in memory.")

# --- sinks ------------------------------------------------------------------------------------------------------------

SINK_WRITTEN = _known(
    _counter("vision_sink_written_total", "Records a sink has taken.", "sink"), "postgres", "s3", "neo4j"
)
SINK_REJECTED = _known(
    _counter("vision_sink_rejected_total", "Records a sink will never take.", "sink"), "postgres", "s3", "neo4j"
)
SINK_UNAVAILABLE = _known(
    _counter("vision_sink_unavailable_total", "Writes put off since the store was away.", "sink"),
    *("postgres", "s3", "neo4j"),
)
SINK_WAITING = _known(
    _gauge("vision_sink_waiting", "1 while a sink waits for its store.", "sink"), "postgres", "s3", "neo4j"
)
SINK_DURATION = _known(
    _histogram("vision_sink_write_duration_seconds", "One batch written.", "sink", buckets=WRITE_SECONDS),
    *("postgres", "s3", "neo4j"),
)

# --- the API ----------------------------------------------------------------------------------------------------------

WEB_REFUSED = _known(
    _counter("vision_web_refused_total", "Requests and connections turned away by the API or metrics port.", "reason"),
    *(
        "unauthorized",
        "rate_limited",
        "caller_share",
        "foreign_host",
        "foreign_origin",
        "timeout",
        "not_http",
        "hung_up",
        "too_many_streams",
    ),
    *("connection_replaced", "too_many_connections", "metrics_connection"),
)

OF_A_SUPERVISOR = (PROCESS_UP, PROCESS_RESTARTS, WEB_REFUSED, RETRIES, UNEXPECTED_ERRORS, LOG_LINES_COUNTED)
"""What the supervisor of several processes counts itself; the rest of the catalogue is its processes'."""

# --- storage ----------------------------------------------------------------------------------------------------------

CONTENT_TYPES = ("media", "vision", "crawl", "album", "other")
LIMITED_TYPES = ("media", "vision", "crawl")

S3_OPERATIONS = _known(
    _counter("s3_operations_total", "Requests to S3. A missing object is no error.", "operation", "result"),
    *[(operation, result) for operation in ("get", "head", "put", "delete", "list") for result in ("success", "error")],
)
S3_UPLOAD_DURATION = _histogram(
    "s3_upload_duration_seconds", "One upload to S3, retries included.", buckets=WRITE_SECONDS
)
BUCKET_USAGE = _known(
    _gauge("storage_bucket_usage_gb", "What the bucket holds, GiB; all types together are its size.", "content_type"),
    *CONTENT_TYPES,
)
BUCKET_LIMIT = _known(
    _gauge("storage_bucket_limit_gb", "What each part may hold, GiB.", "content_type"), "total", *LIMITED_TYPES
)
TENANT_USAGE = _gauge("tenant_storage_usage_gb", "What a tenant holds, GiB.", "tenant_id", "content_type")
STORAGE_COUNTED_AT = _gauge("storage_counted_timestamp_seconds", "When the bucket was last listed and counted.")
STORAGE_DRIFT = _gauge("storage_drift_gb", "By how much the last count corrected the accounts, GiB.")
QUOTA_VIOLATIONS = _counter(
    "storage_quota_violations_total",
    "Writes refused by a quota, and our own made although there was no room.",
    *("tenant_id", "reason"),
)
QUOTA_CHECK_DURATION = _histogram(
    "storage_quota_check_duration_seconds", "One quota check.", buckets=(0.001, 0.01, 0.1, 1, 10)
)
EMERGENCY_CLEANUPS = _known(
    _counter("storage_emergency_cleanups_total", "Clean-ups since the bucket was nearly full.", "trigger_reason"),
    *("threshold", "manual"),
)
LRU_EVICTIONS = _counter(
    "storage_lru_evictions_total", "Objects deleted as least recently used.", "content_type", "tenant_id"
)
CLEANUP_DELETED = _known(
    _counter("storage_cleanup_deleted_total", "Objects deleted by clean-ups, by why.", "content_type", "reason"),
    *[(kind, reason) for kind in LIMITED_TYPES for reason in ("ttl", "type_limit", "tenant_limit", "emergency")],
)
CLEANUP_SHORTFALL = _gauge(
    "storage_cleanup_shortfall_gb", "By how much the last clean-up missed its target: the rest is protected, GiB."
)
CLEANUP_FAILURES = _counter("storage_cleanup_failures_total", "Counts and clean-ups that broke off; tried again.")
CLEANUP_FREED = _known(
    _histogram(
        *("storage_cleanup_freed_gb", "Freed by one clean-up, GiB.", "cleanup_type"),
        buckets=(0.01, 0.1, 0.5, 1, 2, 5),
    ),
    *("emergency", "ttl", "lru"),
)

# --- accounts by the API and the page ---------------------------------------------------------------------------------

AUDITS = _known(
    _counter("vision_audits_total", "Accounts asked for over the API or the page that ended, by how.", "result"),
    *("clean", "discrepancies", "failed", "timeout", "cut_off"),
)
AUDIT_DURATION = _histogram(
    "vision_audit_duration_seconds",
    "Taking one account, the start of its process included.",
    buckets=(2, 5, 15, 60, 300, 900, 1800),
)

# --- tenants ----------------------------------------------------------------------------------------------------------

_tenants: set[str] = set()
_tenants_lock = threading.Lock()


def tenant_label(tenant: str) -> str:
    """The value of `tenant_id` for this tenant: its own name, or `other` once MAX_TENANT_LABELS have been seen.

    A tenant's first event creates its counters at zero. A gauge of `other` shows the tenant that set it last.
    """
    with _tenants_lock:
        if tenant in _tenants:
            return tenant
        label = tenant if len(_tenants) < MAX_TENANT_LABELS else OTHER_TENANT
        if label not in _tenants:
            _tenants.add(label)
            _create_tenant_children(label)
    return label


_BUDGET_GAUGES = {
    "spent": BUDGET_USAGE,
    "limit": BUDGET_LIMIT,
    "reserved": BUDGET_RESERVED,
    "waiting": BUDGET_PARKED,
}


def show_budget(tenant: str, view: Mapping[str, Any]) -> None:
    """Set the tenant's budget gauges from what an operator sees (`domain.budget.view`)."""
    label = tenant_label(tenant)
    for name, gauge in _BUDGET_GAUGES.items():
        gauge.labels(tenant_id=label).set(view[name])


def hide_budget(tenant: str) -> None:
    """Remove the gauges of a tenant that another worker shows now."""
    if tenant_label(tenant) == tenant:
        for gauge in (*_BUDGET_GAUGES.values(), BUDGET_STALE_GRANTS):
            with contextlib.suppress(KeyError):  # never shown here
                gauge.remove(tenant)


def show_storage(sizes_gb: Mapping[tuple[str, str], float], shown: Collection[tuple[str, str]]) -> None:
    """Set what tenants (their labels) hold by content type. Remove those of `shown` that hold nothing any more."""
    for (label, content_type), size in sizes_gb.items():
        TENANT_USAGE.labels(tenant_id=label, content_type=content_type).set(size)
    for label, content_type in set(shown) - sizes_gb.keys():
        TENANT_USAGE.remove(label, content_type)


def _create_tenant_children(label: str) -> None:
    _known(
        ANALYSIS_REQUESTS,
        *[("success", provider, label, "none") for provider in ("gigachat", "ocr_fallback")],
        *[("error", "gigachat", label, reason) for reason in ("outage", "input_fault", "unusable", "call_lost")],
    )
    _known(ANALYSIS_DURATION, ("gigachat", label, "success"))
    _known(TOKENS_ESTIMATED, ("gigachat", label))
    _known(BUDGET_BLOCKS, (label, "daily_limit"), (label, "queue_full"))
    for gauge in (BUDGET_USAGE, BUDGET_RESERVED, BUDGET_PARKED):
        _known(gauge, label)
    _known(QUOTA_VIOLATIONS, *[(label, reason) for reason in ("bucket_full", "tenant_limit", "type_limit")])


def relayed_entries() -> dict[str, int]:
    """Entries relayed so far, by Redis stream."""
    return {sample.labels["stream"]: int(sample.value) for family in RELAYED.collect() for sample in family.samples}


def unread_entries() -> int:
    """Entries of the input streams that no worker has read, as measured last; 1000 a stream at most."""
    return round(sum(sample.value for family in STREAM_LAG.collect() for sample in family.samples))
