"""The catalogue of log events: every text that our own log calls put into the field `event`.

Pure data. `make reference` writes it to docs/reference/log-events.md. tests/unit/test_log_events.py compares it with
every log call of the program. Not here: the format of the lines (`logging.py`), and the lines of libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["debug", "info", "warning", "error", "critical"]
"""The field `level` of a line. `log.exception` writes `error`, with a traceback."""

NO_REMEDY: Final = "none"

GUIDE_SENTENCES: Final = frozenset(
    {
        "Vision Analysis task registered with supervisor",
        "Vision Analysis task started",
        "Budget exhausted",
        "Quota exceeded",
    }
)
"""Names that the acceptance guide quotes. All others are in snake case."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event: its name and its levels, what it means in one sentence, and what the operator does about it.

    `remedy` is NO_REMEDY for information that needs no action.
    """

    name: str
    levels: tuple[Level, ...]
    meaning: str
    remedy: str = NO_REMEDY


_DEBUG: Final[tuple[Level, ...]] = ("debug",)
_INFO: Final[tuple[Level, ...]] = ("info",)
_WARNING: Final[tuple[Level, ...]] = ("warning",)
_ERROR: Final[tuple[Level, ...]] = ("error",)
_CRITICAL: Final[tuple[Level, ...]] = ("critical",)

_REPORT = "Report the traceback."
_KAFKA = "If it repeats, run `vision doctor` and look at the Kafka brokers."
_REDIS = "If it repeats, run `vision doctor` and check REDIS_URL and Redis."
_POSTGRES = "If it repeats, run `vision doctor` and check DATABASE_URL and Postgres."
_S3 = "If it repeats, run `vision doctor` and check S3."
_LETTER = "Report the traceback, then look at the letter with `vision dlq ls`; after a fix use `vision dlq replay`."

CATALOGUE: Final[dict[str, tuple[LogEvent, ...]]] = {
    "Worker": (
        LogEvent(
            "Vision Analysis task registered with supervisor",
            _INFO,
            "The worker has started and is about to take work.",
        ),
        LogEvent("Vision Analysis task started", _INFO, "The agent that calls the provider reads its topic."),
        LogEvent(
            "worker_start_failed",
            _ERROR,
            "The worker could not start; the field `error` says why.",
            "Run `vision doctor`, and correct what it reports.",
        ),
        LogEvent(
            "worker_aborted",
            _CRITICAL,
            "The worker ended itself with exit code 72, because it could neither finish an event nor write its "
            "dead letter; the event is delivered again after the restart.",
            "If it repeats, report the traceback, and set the record aside with `vision dlq take`.",
        ),
        LogEvent(
            "stop_timeout",
            _CRITICAL,
            "The worker did not stop in time and exited with code 71; unfinished events are delivered again.",
            "Restart the worker; if it repeats, look at the lines before this one for a service that does not answer.",
        ),
        LogEvent(
            "recovery_stalled",
            _CRITICAL,
            "The tables got no record of their changelogs for VISION_STALL_SECONDS although some were left and Kafka "
            "was not known to be away; the worker exited with code 73, since a restart begins the recovery anew.",
            "Restart the worker; if it repeats, look at the Kafka brokers, and report the lines before this one.",
        ),
        LogEvent(
            "changelog_record_not_confirmed",
            _CRITICAL,
            "Kafka did not confirm a table's changelog record, so the worker ended with exit code 70; it recovers from "
            "the changelog.",
            "Restart the worker; if it repeats, run `vision doctor` and look at the Kafka brokers.",
        ),
        LogEvent(
            "resource_close_failed",
            _ERROR,
            "A resource raised an error while the worker closed it; the other resources were closed.",
            _REPORT,
        ),
        LogEvent(
            "kafka_fetches_not_quickened",
            _WARNING,
            "The installed aiokafka has not been tested with the faster fetches, so its own are used: the worker does "
            "the same work and takes more processor time.",
            "Install the version of aiokafka in requirements.lock; `tested` names those that will do.",
        ),
        LogEvent("kafka_topics_created", _INFO, "Topics that did not exist were created."),
        LogEvent(
            "kafka_topics_with_fewer_copies",
            _WARNING,
            "Topics are stored fewer times than KAFKA_TOPIC_REPLICATION_FACTOR and KAFKA_MIN_INSYNC_REPLICAS ask for, "
            "or not all copies are in sync; the worker starts.",
            "Do what the line says; `vision doctor` repeats it until it is done.",
        ),
        LogEvent(
            "alert_rules_not_read",
            _ERROR,
            "The shipped file of alert rules cannot be used; the page of health shows no alerts. Prometheus is not "
            "affected.",
            "Install the program again; compare deploy/prometheus/alerts.yml with the shipped one.",
        ),
        LogEvent(
            "alerts_not_decided",
            _ERROR,
            "Deciding the alert rules raised an unexpected error; it is tried again after half a minute.",
            _REPORT,
        ),
        LogEvent(
            "timer_failed",
            _ERROR,
            "A periodic task raised an unexpected error; it runs again at its next turn.",
            _REPORT,
        ),
        LogEvent(
            "work_stalled",
            _ERROR,
            "Work has waited longer than VISION_STALL_SECONDS without a known cause; `place` and `reason` name it.",
            "Do what the field `remedy` says; see docs/operating.md.",
        ),
        LogEvent("work_resumed", _INFO, "A stall that was reported has ended."),
        LogEvent(
            "watch_failed",
            _ERROR,
            "The watch for stalled work raised an unexpected error; it looks again.",
            _REPORT,
        ),
        LogEvent(
            "spans_not_exported",
            _WARNING,
            "The collector of traces does not take spans; they are dropped and counted, and posts go on.",
            "Run `vision doctor` and check OTEL_EXPORTER_OTLP_ENDPOINT and the collector.",
        ),
        LogEvent("spans_exported_again", _INFO, "The collector of traces takes spans again."),
        LogEvent("traces_on", _INFO, "Spans are sent to the collector that `endpoint` names."),
        LogEvent("policy_file_loaded", _INFO, "A changed policy file was read and is in force."),
        LogEvent(
            "policy_file_refused",
            _ERROR,
            "A changed policy file has faults; the previous policy stays in force.",
            "Correct the lines named in `faults`, then run `vision policy check`.",
        ),
        LogEvent(
            "policy_key_without_effect",
            _WARNING,
            "The policy file has a key that is read for compatibility only.",
            "Remove the key that `note` names.",
        ),
    ),
    "Input": (
        LogEvent("consumer_group_created", _INFO, "The consumer group of an input stream was created."),
        LogEvent("entry_relayed", _INFO, "An entry of an input stream is in Kafka."),
        LogEvent(
            "entry_relay_failed",
            _ERROR,
            "An entry could not be relayed because of an unexpected error; it became a dead letter.",
            _LETTER,
        ),
        LogEvent(
            "entry_read_failed",
            _ERROR,
            "An entry could not be decoded because of an unexpected error; it became a dead letter.",
            _LETTER,
        ),
        LogEvent(
            "max_deliveries_exceeded",
            _ERROR,
            "An entry was delivered too often without an acknowledgement; it became a dead letter.",
            "Look at the letter with `vision dlq ls`; workers that end while they relay an entry are the usual cause.",
        ),
        LogEvent(
            "pending_entries_trimmed",
            _ERROR,
            "Entries were trimmed from an input stream before a worker could read them; their posts are lost here.",
            "Publish the posts again, and let the publisher keep longer streams.",
        ),
        LogEvent(
            "redis_reconnecting",
            _WARNING,
            "Redis does not answer the reader of the input streams; it connects again.",
            _REDIS,
        ),
        LogEvent(
            "redis_in_failed",
            _ERROR,
            "The reader of the input streams met an unexpected error; it goes on, and ends the worker if this repeats.",
            _REPORT,
        ),
        LogEvent(
            "held_entries_not_renewed",
            _WARNING,
            "Entries in work could not be renewed in Redis; another worker may claim them and do the work twice.",
            _REDIS,
        ),
        LogEvent(
            "input_streams_not_measured", _DEBUG, "The lengths of the input streams could not be read from Redis."
        ),
    ),
    "Posts and media": (
        LogEvent("media_skipped", _INFO, "A medium is not analyzed; `reason` says why."),
        LogEvent(
            "media_already_processed", _INFO, "A post was published again with media that are processed or in work."
        ),
        LogEvent("post_completed", _INFO, "Every medium of a post has an outcome."),
        LogEvent("results_saved", _INFO, "A post's results are stored and announced."),
        LogEvent("outcome_without_effect", _INFO, "A command about a post changed nothing; `what` says why."),
        LogEvent(
            "media_requested_again",
            _WARNING,
            "Media of a post were sent out again, because the ledger in which they waited was lost.",
            "Find out who deleted topics of Kafka; see docs/budget.md.",
        ),
        LogEvent("picture_unusable", _INFO, "A picture could not be decoded; `reason` says why."),
        LogEvent(
            "decoder_died",
            _WARNING,
            "A decoder process ended while it decoded a picture; the picture is tried again with another process.",
            "If it repeats, look at the memory of the machine and at the picture.",
        ),
        LogEvent(
            "decoder_protocol_error",
            _ERROR,
            "A decoder process sent a reply that cannot be read; the process was ended.",
            "Report the line; the picture is tried again.",
        ),
        LogEvent(
            "decoder_limits_missing",
            _WARNING,
            "This system does not support a limit of the decoder processes, for instance of memory.",
            "Run the worker on a system with these limits, or limit its container.",
        ),
        LogEvent(
            "decoders_unavailable",
            _ERROR,
            "No decoder process can be started, so tasks wait.",
            "Do what the field `error` says.",
        ),
        LogEvent(
            "store_unavailable",
            _WARNING,
            "A store that a task needs does not answer; the task waits. The field `stage` names the store.",
            "If it repeats, run `vision doctor`.",
        ),
        LogEvent(
            "stored_object_unreadable",
            _WARNING,
            "A stored answer or call record cannot be read; it counts as missing.",
            "If it repeats, find out who writes into the bucket.",
        ),
    ),
    "Calls of the provider": (
        LogEvent("analysis_completed", _INFO, "A picture has an answer of the model, new or stored."),
        LogEvent("answer_repair_requested", _INFO, "The answer could not be used; the model is asked to repair it."),
        LogEvent(
            "answer_not_stored",
            _ERROR,
            "A paid answer could not be stored in S3; it is tried again until S3 takes it.",
            "Run `vision doctor` and check S3; do not end the worker, it holds the answer in memory.",
        ),
        LogEvent(
            "call_lost",
            _WARNING,
            "It is unknown whether a call was billed; it is charged at its estimate, and asked again.",
            "If it repeats, look for workers that are killed and for networks that drop connections.",
        ),
        LogEvent(
            "call_failed",
            _ERROR,
            "A call raised an unexpected error after its request; it is handled as a lost call.",
            _REPORT,
        ),
        LogEvent(
            "call_record_not_deleted",
            _WARNING,
            "The start record of a call that cost nothing could not be deleted in S3; the call may be charged as lost.",
            _S3,
        ),
        LogEvent(
            "grant_unusable",
            _WARNING,
            "A grant is too small, too old, or not signed correctly; its task asks for a new one instead of calling.",
            "If `flaw` is often not `too_small`, run the same version with the same VISION_GRANT_KEY on all workers.",
        ),
        LogEvent(
            "picture_handled_by_other_worker",
            _INFO,
            "Another worker handled the same picture during the upload; its result is read.",
        ),
        LogEvent(
            "provider_unavailable",
            _WARNING,
            "The provider did not answer, or blocks the account; the task waits for the gate.",
            "If it repeats, run `vision doctor`; it tries the provider.",
        ),
        LogEvent(
            "gate_paused",
            _WARNING,
            "The provider asked for fewer calls; no new call starts for `seconds`.",
            "If it repeats, lower VISION_PROVIDER_STREAMS to what the provider allows.",
        ),
        LogEvent(
            "gate_opened",
            _WARNING,
            "The provider failed repeatedly; no call is made for `seconds`, then one task is sent as a probe.",
            "Check the provider and the network with `vision doctor`.",
        ),
        LogEvent(
            "gate_blocked",
            _WARNING,
            "The provider refuses this account; no call is made for `seconds`, then one task is sent as a probe.",
            "Check the credentials and the account at the provider.",
        ),
        LogEvent("gate_closed", _INFO, "The provider answers again, and calls go on."),
        LogEvent("gigachat_retry", _INFO, "A request to GigaChat failed and is repeated after a pause."),
        LogEvent(
            "gigachat_upload_unknown", _INFO, "The reply to an upload was lost; the file is looked for by its name."
        ),
        LogEvent(
            "gigachat_usage_missing",
            _WARNING,
            "GigaChat's answer has no plausible number of tokens; `assumed_tokens` are charged.",
            "Compare `vision budget show` with the provider's bill.",
        ),
        LogEvent(
            "gigachat_file_left",
            _WARNING,
            "An uploaded file could not be deleted at GigaChat.",
            "Delete it at the provider by its file name.",
        ),
        LogEvent(
            "gigachat_token_failed",
            _WARNING,
            "No access token could be got; calls wait and try again.",
            "Do what the field `error` says; check GIGACHAT_AUTH_URL and the credentials.",
        ),
        LogEvent(
            "gigachat_token_expiry_implausible",
            _WARNING,
            "The expiry of an access token makes no sense; `assumed` seconds are used.",
            "If it repeats, report it to the provider.",
        ),
        LogEvent(
            "slots_redis_unavailable",
            _WARNING,
            "Redis does not answer, so the workers cannot share the call slots; this worker uses its own share.",
            "Check REDIS_URL and Redis.",
        ),
        LogEvent(
            "slots_release_failed",
            _INFO,
            "This worker's call slots could not be released at its end; they expire after `expire_after_seconds`.",
        ),
        LogEvent("ocr_available", _INFO, "Tesseract can be run; `version` and `languages` are its own."),
        LogEvent(
            "ocr_not_available",
            _WARNING,
            "Tesseract cannot be run, so there is no OCR.",
            "Do what the field `reason` says.",
        ),
        LogEvent(
            "ocr_check_failed",
            _ERROR,
            "The search for Tesseract raised an unexpected error; it is repeated in a minute.",
            _REPORT,
        ),
        LogEvent(
            "ocr_failed",
            _WARNING,
            "OCR of a picture failed; its task ends or waits as without OCR.",
            "If it repeats, run `vision doctor`, which checks Tesseract.",
        ),
        LogEvent(
            "ocr_answer_not_stored",
            _WARNING,
            "A result of OCR could not be stored in S3; the post has it, another post repeats the OCR.",
            _S3,
        ),
        LogEvent(
            "ocr_fallback_empty", _INFO, "OCR found nothing for a task without budget; the task waits for budget."
        ),
    ),
    "Budget": (
        LogEvent(
            "Budget exhausted",
            _WARNING,
            "A tenant has spent its daily limit; its tasks wait until `reset_at`.",
            "Wait, or use `vision budget set` or `vision budget reset`; see docs/budget.md.",
        ),
        LogEvent(
            "grant_charged_at_estimate",
            _INFO,
            "A grant was charged at its estimate: its call was lost or it was open too long; `what` says which.",
        ),
        LogEvent(
            "grant_unknown",
            _WARNING,
            "A settlement names a grant that the ledger no longer knows; it is ignored.",
            "Compare `vision budget show` with the provider's bill.",
        ),
        LogEvent(
            "parked_task_missing",
            _ERROR,
            "A waiting task was missing when its turn came.",
            "Find its post with `vision posts --stuck`, then send it again with `vision replay --post`.",
        ),
        LogEvent(
            "ledger_lost",
            _WARNING,
            "A tenant's ledger was lost; the posts that waited in it are sent out again.",
            "Find out who deleted topics of Kafka; see docs/budget.md.",
        ),
        LogEvent(
            "ledger_not_read",
            _WARNING,
            "What a tenant spent today could not be read from Postgres; its tasks wait, and it is tried again.",
            _POSTGRES,
        ),
        LogEvent(
            "waiting_posts_not_read",
            _WARNING,
            "A tenant's unfinished posts could not be read from Postgres; it is tried again.",
            _POSTGRES,
        ),
        LogEvent(
            "lost_ledger_check_failed",
            _WARNING,
            "Postgres could not be asked which tenants have unfinished posts; it is tried again.",
            _POSTGRES,
        ),
        LogEvent(
            "spent_tokens_unreadable",
            _WARNING,
            "The policy could not read from Redis what a tenant spent; a sampling rule then applies to its posts.",
            _REDIS,
        ),
        LogEvent(
            "ledger_opened_without_redis",
            _WARNING,
            "A ledger began without the number of spent tokens that Redis may hold.",
            "Compare `vision budget show` with the provider's bill; correct it with `vision budget set`.",
        ),
        LogEvent(
            "budget_reset_by_redis_del",
            _INFO,
            "A tenant's spending was set to zero, since its key in Redis was deleted.",
        ),
        LogEvent(
            "budget_reset_delayed",
            _WARNING,
            "A reset that was requested in Redis could not be recorded in Postgres; it is tried again.",
            _POSTGRES,
        ),
        LogEvent(
            "budget_mirror_unavailable",
            _WARNING,
            "Budgets could not be written to Redis, where operators see them; it is tried again.",
            _REDIS,
        ),
        LogEvent(
            "budget_mirror_failed",
            _ERROR,
            "Writing budgets to Redis raised an unexpected error; it is tried again.",
            _REPORT,
        ),
    ),
    "Kafka, dead letters and records set aside": (
        LogEvent("kafka_send_failed", _WARNING, "Kafka did not take a record; it is sent again.", _KAFKA),
        LogEvent(
            "group_rights_unknown",
            _WARNING,
            "At the start no coordinator told which rights the worker has on its consumer group; the start went on.",
            _KAFKA,
        ),
        LogEvent(
            "kafka_send_cancelled",
            _WARNING,
            "The producer gave a record up, for instance because it was restarted; the record is sent again.",
            _KAFKA,
        ),
        LogEvent(
            "dead_lettered",
            _ERROR,
            "A message could not be handled and was kept as a dead letter.",
            "Look at it with `vision dlq show`, named in the field `remedy`; after a fix use `vision dlq replay`.",
        ),
        LogEvent("message_failed", _ERROR, "A message raised an unexpected error; it becomes a dead letter.", _LETTER),
        LogEvent(
            "command_failed",
            _ERROR,
            "A command to an actor raised an unexpected error; it becomes a dead letter.",
            _LETTER,
        ),
        LogEvent(
            "event_handling_incomplete",
            _WARNING,
            "A message was not finished, since its partition moved or the worker stops; it is delivered again.",
            "If it repeats without a rebalance or a stop, report the traceback.",
        ),
        LogEvent(
            "dead_letter_reduced",
            _ERROR,
            "A dead letter could not be built from its message; a letter with the place only was kept.",
            "Report the traceback; read the message with `vision kafka consume`.",
        ),
        LogEvent(
            "dead_letter_not_stored_in_s3",
            _WARNING,
            "A large dead letter could not be stored in S3; the letter in Kafka is shortened and names its origin.",
            _S3,
        ),
        LogEvent(
            "dead_letter_companion_not_sent",
            _ERROR,
            "A message that belongs to a dead letter, for instance to its post, could not be sent in any form.",
            "Look at the letter with `vision dlq show`; a post that still waits: `vision replay --post`.",
        ),
        LogEvent(
            "dead_letter_companions_not_built",
            _ERROR,
            "Messages that belong to a dead letter could not be built because of an unexpected error.",
            "Report the traceback; a post that still waits: `vision replay --post`.",
        ),
        LogEvent(
            "dead_letter_unreadable",
            _ERROR,
            "A record of the topic vision.dlq is not a dead letter; commands leave it out.",
            "Read the record with `vision kafka consume`, and find out who wrote it.",
        ),
        LogEvent(
            "record_set_aside",
            _WARNING,
            "An operator set a record aside while a worker worked on it; the work was cancelled.",
            "The record becomes a dead letter: `vision dlq ls`.",
        ),
        LogEvent(
            "set_aside_mark_unreadable",
            _WARNING,
            "A mark of a set-aside record cannot be read; it is ignored.",
            "Remove the field `place` of the hash `key` with HDEL.",
        ),
        LogEvent("set_aside_marks_unavailable", _DEBUG, "The marks of set-aside records could not be read from Redis."),
        LogEvent("redis_cluster_unknown", _DEBUG, "Redis did not say at the start whether it is a cluster."),
    ),
    "Results": (
        LogEvent(
            "sink_unavailable",
            _WARNING,
            "A store of results does not answer; its batch waits and is tried again.",
            "If it repeats, run `vision doctor` and check the service that `sink` names.",
        ),
        LogEvent(
            "sink_unavailable_at_start",
            _WARNING,
            "A store of results did not answer when the worker started; its first batch will wait for it.",
            "Run `vision doctor` and check the service that `sink` names.",
        ),
        LogEvent(
            "sink_open_failed",
            _ERROR,
            "A store of results could not be opened because of an unexpected error; it is tried again.",
            _REPORT,
        ),
        LogEvent(
            "sink_close_failed",
            _WARNING,
            "A store of results raised an error while the worker stopped.",
            "If it repeats, report the line.",
        ),
        LogEvent(
            "sink_failed",
            _ERROR,
            "A store raised an unexpected error for a batch; its records are written one by one.",
            _REPORT,
        ),
        LogEvent(
            "sink_batch_failed",
            _ERROR,
            "A batch raised an unexpected error outside of the store; the batch is tried again.",
            _REPORT,
        ),
        LogEvent(
            "sink_record_failed",
            _ERROR,
            "A record of results raised an unexpected error; it becomes a dead letter.",
            _LETTER,
        ),
        LogEvent(
            "row_reduced",
            _ERROR,
            "Postgres refused parts of a post's row; the row was written without them, and the post is announced.",
            "See docs/operating.md for the rows; if it repeats, the publisher sends what no store accepts.",
        ),
        LogEvent(
            "announcement_reduced",
            _WARNING,
            "An announcement was too large for Kafka; one with less text was sent.",
            "If it repeats, the publisher sends posts that are too large.",
        ),
        LogEvent(
            "postgres_close_timeout",
            _WARNING,
            "Postgres did not answer while connections to it were closed; they were cut.",
            _POSTGRES,
        ),
        LogEvent(
            "postgres_not_verified",
            _WARNING,
            "The connection to Postgres is encrypted, but certificate or host name are not verified.",
            "Do what `reason` says; see docs/connecting.md.",
        ),
        LogEvent("schema_migrated", _INFO, "A migration was applied to Postgres."),
        LogEvent(
            "schema_repaired", _INFO, "A part of the schema of Postgres was created or corrected; `what` names it."
        ),
    ),
    "Storage": (
        LogEvent(
            "Quota exceeded",
            _WARNING,
            "An upload was refused, because it does not fit into the tenant's or the bucket's limit.",
            "Raise the limit or run `vision storage cleanup`; see docs/storage.md.",
        ),
        LogEvent("cleanup_requested", _INFO, "An operator asked for a clean-up over the API."),
        LogEvent("storage_cleanup_done", _INFO, "A clean-up of the bucket ended; the fields have its figures."),
        LogEvent("storage_cleanup_dry_run_done", _INFO, "A trial of a clean-up ended; nothing was deleted."),
        LogEvent(
            "bucket_above_target",
            _WARNING,
            "After a clean-up the bucket is above its target, because the rest is protected.",
            "Raise S3_TOTAL_LIMIT_GB; see docs/storage.md.",
        ),
        LogEvent(
            "objects_not_deleted",
            _ERROR,
            "S3 refused to delete objects; `refused` has the first five.",
            "Check the bucket's locks and permissions.",
        ),
        LogEvent(
            "requested_cleanup_failed",
            _WARNING,
            "A requested clean-up ended with an error; the scheduled clean-up continues the work.",
            "Correct what `error` names.",
        ),
        LogEvent(
            "storage_check_failed",
            ("warning", "error"),
            "The bucket could not be counted or cleaned up; it is tried again in a minute. Level `error` is an "
            "unexpected error.",
            "Run `vision doctor`, which tries Postgres and the bucket; report the traceback if there is one.",
        ),
        LogEvent(
            "storage_accounts_not_saved",
            ("warning", "error"),
            "The accounts of storage could not be written to Postgres; it is tried again. Level `error` is an "
            "unexpected error.",
            "Run `vision doctor` and check Postgres; report the traceback if there is one.",
        ),
        LogEvent(
            "storage_accounts_not_flushed",
            _WARNING,
            "The last changes of the accounts of storage were not written at the stop; the next listing corrects them.",
            _POSTGRES,
        ),
        LogEvent("storage_busy", _DEBUG, "Another worker counts or cleans up the bucket."),
        LogEvent("bucket_created", _INFO, "The bucket did not exist and was created."),
    ),
    "HTTP API": (
        LogEvent("dead_letters_discarded", _INFO, "An operator marked dead letters as done over the API or the page."),
        LogEvent(
            "dead_letters_not_read",
            _WARNING,
            "Kafka did not answer while dead letters were asked for; the caller got 503.",
            _KAFKA,
        ),
        LogEvent(
            "dead_letters_not_replayed",
            _WARNING,
            "A service did not answer during a replay of dead letters; those sent before it are recorded.",
            "Run `vision doctor`, then repeat the replay.",
        ),
        LogEvent("dead_letters_replayed", _INFO, "An operator sent dead letters again over the API or the page."),
        LogEvent(
            "health_check_failed",
            _ERROR,
            "A check of the page of health raised an unexpected error; it is shown as failed.",
            _REPORT,
        ),
        LogEvent(
            "ledgers_not_read",
            _WARNING,
            "Another worker did not answer for the ledgers of its tenants; the page lists them as unknown.",
            "If it repeats, run `vision doctor` and look at the other workers.",
        ),
        LogEvent("operator_command_accepted", _INFO, "An operator's command about a tenant's budget was sent."),
        LogEvent("audit_started", _INFO, "An operator asked for an account; the process `pid` takes it."),
        LogEvent("audit_taken", _INFO, "An account that was asked for is done; nothing is wrong."),
        LogEvent(
            "audit_found_discrepancies",
            _WARNING,
            "An account that was asked for is done; it found `discrepancies`, of which `first` is one.",
            "Read all of them: `GET /api/v1/audit`, the page's *Health*, or `vision audit`.",
        ),
        LogEvent(
            "audit_failed",
            _ERROR,
            "An account that was asked for has no result.",
            "Do what `reason` says.",
        ),
        LogEvent(
            "audit_cut_off",
            _WARNING,
            "The worker stopped, or did not reach Postgres, while it had an account taken; its process was ended.",
            "Start the account again.",
        ),
        LogEvent(
            "audit_broke_off",
            _ERROR,
            "An account that was asked for ended with an unexpected error.",
            _REPORT,
        ),
        LogEvent(
            "audit_not_renewed",
            _WARNING,
            "Postgres did not answer while an account is taken; after half a minute it may be shown as cut off.",
            _POSTGRES,
        ),
        LogEvent(
            "audit_not_recorded",
            _ERROR,
            "The end of an account could not be written to Postgres; if all tries fail, it is shown as cut off.",
            _POSTGRES,
        ),
        LogEvent(
            "audit_result_late",
            _WARNING,
            "An account was done after it had been recorded as cut off; its result is dropped.",
            "Start the account again.",
        ),
        LogEvent(
            "audit_summary_unreadable",
            _WARNING,
            "The stored summary of an account has another form, as another version wrote it; it is not shown.",
            "Start an account again.",
        ),
        LogEvent("post_replayed", _INFO, "An operator sent a post again over the API or the page."),
        LogEvent(
            "post_not_replayed",
            _WARNING,
            "A post was not sent again over the API or the page, since a service did not answer; the caller got 503.",
            "Run `vision doctor`, then repeat the request.",
        ),
        LogEvent(
            "operator_command_not_sent",
            _ERROR,
            "Kafka did not take an operator's command; the caller got 503.",
            "Run `vision doctor`, then repeat the command.",
        ),
        LogEvent("page_failed", _ERROR, "A page raised an unexpected error; the caller got 500.", _REPORT),
        LogEvent(
            "postgres_read_failed",
            _ERROR,
            "A page could not read Postgres; the caller got 503.",
            "Run `vision doctor` and check DATABASE_URL and Postgres.",
        ),
        LogEvent(
            "postgres_silent",
            _WARNING,
            "A page waited for Postgres, which did not answer; the page's connections were cut, the caller got 503.",
            "Run `vision doctor` and check DATABASE_URL and Postgres.",
        ),
        LogEvent(
            "postgres_value_refused",
            _WARNING,
            "Postgres cannot store a value that a caller sent; the caller got 422.",
            "The caller corrects the request.",
        ),
        LogEvent(
            "storage_unavailable",
            _ERROR,
            "A page about storage could not reach Postgres or S3; the caller got 503.",
            "Run `vision doctor`.",
        ),
        LogEvent(
            "key_owner_unknown",
            _WARNING,
            "It is not known yet which worker owns a tenant or post; the caller got 503.",
            "The caller repeats the request; if it repeats, look at the workers with `vision status`.",
        ),
        LogEvent(
            "key_owner_unreachable",
            _WARNING,
            "The worker that owns a tenant or post did not answer this worker; the caller got 503.",
            "Check that workers reach each other's API, and look at them with `vision status`.",
        ),
        LogEvent(
            "changes_not_read",
            _WARNING,
            "The output stream cannot be read in Redis; `/api/v1/changes` tells of no changes meanwhile.",
            _REDIS,
        ),
        LogEvent(
            "thumbnail_not_made",
            _WARNING,
            "S3 did not answer, or no decoder could be started for a thumbnail; the caller got 503.",
            "Run `vision doctor`; free memory or processes if decoders do not start.",
        ),
        LogEvent(
            "budget_not_asked",
            _INFO,
            "A timeline was shown without the state of its tenant's budget, whose owner could not be asked.",
        ),
        LogEvent(
            "key_owner_unreadable",
            _WARNING,
            "The worker that owns a tenant or post answered in a form unknown here; the caller got 503.",
            "Run the same version on all workers; what stands at another worker's address may be no worker.",
        ),
    ),
    "Several processes (VISION_WORKERS)": (
        LogEvent("processes_starting", _INFO, "A supervisor starts so many worker processes; `why` says what set it."),
        LogEvent(
            "processes_crowded",
            _WARNING,
            "There may be too little memory for so many processes, if each decodes a picture of the largest size.",
            "Lower VISION_WORKERS or VISION_DECODING_MEMORY_MB, or give the worker more memory.",
        ),
        LogEvent("processes_stopping", _INFO, "The supervisor ends its processes; calls in flight end first."),
        LogEvent(
            "processes_given_up",
            _CRITICAL,
            "A process cannot be started, so the supervisor has ended with its exit code; `why` says more.",
            "Correct what the last lines of that process say; `vision doctor` helps. Then start the worker again.",
        ),
        LogEvent(
            "process_gave_no_answer",
            _WARNING,
            "A process did not answer a request of the API; another one was asked, or the caller got 503.",
            "If it repeats, GET /readyz says what is wrong with that process.",
        ),
        LogEvent("answer_cut_off", _INFO, "A caller, or the process, broke off while an answer was passed on."),
    ),
    "Embedded stack, simulator and laboratory": (
        LogEvent("service_ready", _INFO, "An embedded service accepts connections."),
        LogEvent("service_condition_changed", _INFO, "An embedded service or a worker is in another condition."),
        LogEvent(
            "service_not_answering",
            _WARNING,
            "An embedded service or a worker runs and does not answer.",
            "See its log with `vision logs NAME`; if it stays so, end it: the supervisor starts it again.",
        ),
        LogEvent(
            "announcement_unreadable",
            _WARNING,
            "The client for others skipped an entry of the output stream that is no announcement; it goes on.",
            "Find out who writes to the stream that `stream` names; `redis-cli XRANGE` shows the entry.",
        ),
        LogEvent(
            "service_look_failed",
            _ERROR,
            "The supervisor could not look whether a service answers. It looks again; twice in a row are no answer.",
            "Do what the exception says (missing files, too many open files); `vision status` shows the condition.",
        ),
        LogEvent("worker_stopped_by_order", _INFO, "A worker was stopped with `vision worker stop`."),
        LogEvent(
            "worker_started_by_order", _INFO, "A worker was started with `vision worker start` or `up --workers`."
        ),
        LogEvent(
            "service_failed",
            _ERROR,
            "An embedded service, or a process of a worker, could not be started, or ended by itself.",
            "Look at its log, named in the field `log` (none: the same log); `vision status` shows the last error.",
        ),
        LogEvent(
            "service_killed",
            _WARNING,
            "An embedded service did not stop in time and was killed.",
            "If it repeats, look at its log with `vision logs`.",
        ),
        LogEvent(
            "supervisor_state_not_written",
            _ERROR,
            "The supervisor could not write its state file; `vision status` shows old values.",
            "Check the free space and the rights of the folder in `path`.",
        ),
        LogEvent("simulator_listening", _INFO, "The GigaChat simulator accepts requests."),
        LogEvent("simulator_stopped", _INFO, "The GigaChat simulator has stopped."),
        LogEvent("simulator_failed", _ERROR, "The simulator met an unexpected error; the caller got 500.", _REPORT),
        LogEvent(
            "simulator_ocr_failed",
            _WARNING,
            "Tesseract failed; the simulator answers without text.",
            "Do what the field `error` says.",
        ),
        LogEvent(
            "simulator_ocr_timeout",
            _WARNING,
            "Tesseract took too long; the simulator answers without text.",
            "If it repeats, run fewer simulators on this machine.",
        ),
        LogEvent("fault_injected", _INFO, "The laboratory's proxy began to disturb a service."),
        LogEvent("fault_healed", _INFO, "The laboratory's proxy ended a disturbance."),
        LogEvent(
            "fault_proxy_connection_failed",
            _WARNING,
            "The laboratory's proxy could not accept a connection; the client tries again.",
            "If it repeats, look at the machine's limit of open files.",
        ),
        LogEvent("fault_proxy_connection_ended", _DEBUG, "A connection of the laboratory's proxy ended with an error."),
    ),
}
"""Area → its events."""
