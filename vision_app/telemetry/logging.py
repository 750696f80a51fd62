"""The format of log lines: one JSON object per line, for our lines and all libraries', with secrets masked.

Every line has timestamp, level, logger, event, trace_id, post_id and tenant_id at top level (`-` where nothing is
bound), so that the lines of all modules and libraries can be found by trace. Repeated sentences are counted
(`repetition.py`). Not here: what is logged, and the metrics. Lines go to the real stderr, because Faust redirects
sys.stdout and sys.stderr into logging.
"""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_plus, urlsplit

import structlog
from pydantic import SecretStr
from structlog.typing import EventDict, Processor, WrappedLogger

from vision_app.printable import escaped, printable

from . import spans

if TYPE_CHECKING:
    from vision_app.settings import Settings

SERVICE = "vision"
PLACEHOLDER = "-"
MASK = "***"
IDENTITY = ("trace_id", "post_id", "tenant_id")

NOISY = (
    *("aiokafka", "faust", "mode", "kafka", "aiohttp.access", "asyncio", "botocore", "boto3", "aiobotocore"),
    *("aioboto3", "urllib3", "httpx", "httpcore", "neo4j", "PIL", "stamina"),
)
"""Libraries whose INFO lines are of no use to operators."""

_SHORTEST_SECRET = 4  # masking shorter ones would spoil every line and still reveal them


def bind(
    *, trace_id: str | None = None, post_id: str | None = None, tenant_id: str | None = None, **fields: Any
) -> AbstractContextManager[None]:
    """Within this `with`, every line of this task carries these fields; None leaves what an outer `bind` set.

    The current span gets the three ids, too.
    """
    spans.note(trace_id=trace_id, post_id=post_id, tenant_id=tenant_id)
    given = {"trace_id": trace_id, "post_id": post_id, "tenant_id": tenant_id, **fields}
    return structlog.contextvars.bound_contextvars(
        **{name: value for name, value in given.items() if value is not None}
    )


def configure_logging(settings: Settings) -> None:
    """Set up structlog and the standard library's logging for this process. May be called again."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_enrichment(),
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,  # safe: only the handler's formatter depends on settings
    )
    logging.config.dictConfig(logging_config(settings))
    logging.captureWarnings(True)
    # No line names its place in the code. To find it takes a third of a line's time.
    logging._srcfile = None  # noqa: SLF001 - the manual of logging names it under "Optimization"


def logging_config(settings: Settings) -> dict[str, Any]:
    """The dictConfig behind `configure_logging`, also for `faust.App(logging_config=…)`, which applies it again."""
    library_level = "INFO" if settings.log_level == "DEBUG" else "WARNING"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": _rendering(settings),
                "foreign_pre_chain": [*_enrichment(), structlog.stdlib.ExtraAdder()],
            }
        },
        "handlers": {
            "stderr": {
                "class": "vision_app.telemetry.repetition.Summarising",
                "stream": "ext://sys.__stderr__",
                "formatter": "line",
            }
        },
        "root": {"level": settings.log_level, "handlers": ["stderr"]},
        "loggers": {name: {"level": library_level} for name in NOISY},
    }


def _enrichment() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _rendering(settings: Settings) -> list[Processor]:
    common: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _ordered]
    mask = SecretMask(secret_values(settings))
    if settings.log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=bool(sys.__stderr__ and sys.__stderr__.isatty()),
            exception_formatter=structlog.dev.plain_traceback,
        )
        return [*common, structlog.processors.format_exc_info, mask, _harmless, renderer]
    # No local variables in tracebacks: they hold pictures, tokens and texts of tenants.
    tracebacks = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20, use_rich=False)
    )
    return [*common, tracebacks, mask, structlog.processors.JSONRenderer(serializer=_json)]


def _json(line: Any, **_: Any) -> str:
    return escaped(json.dumps(line, ensure_ascii=False, separators=(",", ":")))


_WORKER = os.environ.get("VISION_WORKER_ID") or socket.gethostname()


def _harmless(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Make texts safe for a terminal: foreign texts must not control it."""
    return {name: printable(value) if isinstance(value, str) else value for name, value in line.items()}


def _ordered(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """The common fields first, with placeholders where nothing is bound; then the others."""
    head = {name: line.pop(name, PLACEHOLDER) for name in ("timestamp", "level", "logger", "event", *IDENTITY)}
    worker = f"{_WORKER}-{os.getpid()}"
    return {**head, "service": SERVICE, "worker": worker, **line}


class SecretMask:
    """A processor that replaces every given secret, anywhere in a line, by `***`.

    It also turns values that JSON cannot represent into text, so that they are masked, too.
    """

    def __init__(self, secrets: set[str]) -> None:
        longest_first = sorted((s for s in secrets if len(s) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, _: WrappedLogger, __: str, line: EventDict) -> EventDict:
        # exc_info is not here any more: exceptions were rendered before.
        return {name: self._masked(value) for name, value in line.items()}

    def _masked(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {self._masked(str(name)): self._masked(item) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._masked(item) for item in value]
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        return self._pattern.sub(MASK, text) if self._pattern else text


def secret_values(settings: Settings) -> set[str]:
    """Every secret text of the settings: secrets, passwords inside URLs, single API tokens."""
    values = {part for name in type(settings).model_fields for part in _parts(name, getattr(settings, name))}
    values.add(settings.gigachat_authorization.get_secret_value())
    return {value for value in values if value}


def _parts(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, SecretStr):
        return
    secret = value.get_secret_value()
    if "://" in secret:  # the host may be shown, but not the password, in any spelling
        url = urlsplit(secret)
        yield from (url.password or "", unquote(url.password or ""))
        for name, given in (item.partition("=")[::2] for item in url.query.split("&")):
            if "password" in name.lower():  # Redis and Postgres accept a password there, too
                yield from (given, unquote_plus(given))
    elif name == "otel_exporter_otlp_headers":
        for given in (pair.partition("=")[2].strip() for pair in secret.split(",")):
            yield from (given, unquote(given), unquote(given).rpartition(" ")[2])  # "Bearer", then the token
    elif name == "vision_api_tokens":
        yield from (pair.rpartition("=")[0].strip() for pair in secret.split(","))
    else:
        yield secret
