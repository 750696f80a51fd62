"""The metrics port: /metrics, /healthz and /readyz, served by separate threads with limits, also before Faust is up.

Not here: the metrics themselves (`metrics.py`). The page shows all tenants and asks for no token. It is only for the
operators' Prometheus, and listens on loopback unless METRICS_HOST is set.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import prometheus_client

from vision_app.hosts import allowed_names, host_allowed
from vision_app.settings import Settings

from .metrics import REGISTRY, WEB_REFUSED, tenant_label

MAX_CONNECTIONS = 16
"""Each connection has a thread. If there are more, the oldest is closed. It hangs: a scrape takes milliseconds."""
CONNECTION_SECONDS = 10.0
"""The total time of a connection, also if its bytes come slowly."""
HEADERS = [("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store")]

Health = Mapping[str, Callable[[], tuple[int, bytes]]]
"""Pages by path: status and JSON. Called in a thread of the server."""
Wsgi = Callable[..., Iterable[bytes]]


class MetricsServerError(Exception):
    """The metrics page cannot be served. Free the address named below or set METRICS_HOST and METRICS_PORT."""

    exit_code = 2


@dataclass(frozen=True)
class MetricsServer:
    """The running page. `port` is the port in use (METRICS_PORT=0 picks a free one)."""

    server: WSGIServer
    thread: threading.Thread

    @property
    def port(self) -> int:
        return int(self.server.server_port)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def start_metrics_server(
    settings: Settings,
    health: Health | None = None,
    connection_seconds: float = CONNECTION_SECONDS,
    metrics: Wsgi | None = None,
) -> MetricsServer:
    """Serve /metrics and the pages of `health` on METRICS_HOST:METRICS_PORT.

    `metrics`: what serves /metrics; by default this process' own.
    Raises MetricsServerError when the address cannot be taken.
    """
    tenant_label(settings.s3_default_tenant_id)
    kind = _Server6 if ":" in settings.metrics_host else _Server
    try:
        server = kind((settings.metrics_host, settings.metrics_port), _Handler, connection_seconds=connection_seconds)
        own = prometheus_client.make_wsgi_app(REGISTRY)
        server.set_app(_page(settings, health or {}, metrics or own))
    except OSError as fault:
        where = f"{settings.metrics_host}:{settings.metrics_port}"
        raise MetricsServerError(
            f"cannot serve metrics on {where}: {fault.strerror or fault}; another worker may hold it: "
            "stop it, or set METRICS_PORT to a free port (0 picks one)"
        ) from fault
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    return MetricsServer(server, thread)


def _page(settings: Settings, health: Health, metrics: Wsgi) -> Wsgi:
    allowed = allowed_names(settings.vision_allowed_hosts)

    def page(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not host_allowed(environ.get("HTTP_HOST"), allowed):
            WEB_REFUSED.labels(reason="foreign_host").inc()
            start_response("421 Misdirected Request", [("Content-Type", "text/plain"), *HEADERS])
            return [b"this is not a name of this server; add it to VISION_ALLOWED_HOSTS\n"]
        if (say := health.get(environ["PATH_INFO"])) is not None and environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            status, body = say()
            start_response(f"{status} {HTTPStatus(status).phrase}", [("Content-Type", "application/json"), *HEADERS])
            return [body if environ["REQUEST_METHOD"] == "GET" else b""]
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [("Content-Type", "text/plain"), *HEADERS])
            return [b"there are only /metrics, /healthz and /readyz here\n"]

        def with_headers(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, *HEADERS], *more)

        answer: Iterable[bytes] = metrics(environ, with_headers)
        return answer

    return page


class _Server(ThreadingMixIn, WSGIServer):
    """A thread per connection, at most `MAX_CONNECTIONS` of them, none for longer than `connection_seconds`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *given: Any, connection_seconds: float) -> None:
        self.connection_seconds = connection_seconds
        self._lock = threading.Lock()
        self._until: dict[Any, float] = {}  # by connection, in order of arrival
        super().__init__(*given)

    def server_bind(self) -> None:
        """Bind without a DNS lookup, which the standard library does for a host name that is not needed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "metrics", self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            surplus = list(self._until)[: len(self._until) - MAX_CONNECTIONS + 1]
            for oldest in surplus:
                self._hang_up(oldest)
            self._until[request] = time.monotonic() + self.connection_seconds
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._until.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called twice a second by `serve_forever`, and after each new connection."""
        now = time.monotonic()
        with self._lock:
            for overdue in [held for held, until in self._until.items() if until < now]:
                self._hang_up(overdue)

    def _hang_up(self, connection: Any) -> None:
        """Wake the connection's thread, which then closes it."""
        del self._until[connection]
        WEB_REFUSED.labels(reason="metrics_connection").inc()
        with contextlib.suppress(OSError):  # the caller has closed it already
            connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore callers that close the connection; the standard library would print a traceback for each."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    """Logs nothing: otherwise any caller could fill the disk with lines."""

    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.connection_seconds)

    def log_message(self, format: str, *args: Any) -> None: ...
