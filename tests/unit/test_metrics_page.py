"""The metrics port with callers that hold connections, send bytes slowly or use foreign host names."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from vision_app.settings import load_settings
from vision_app.telemetry.metrics_page import MetricsServer, start_metrics_server


@pytest.fixture
def page() -> Iterator[MetricsServer]:
    server = start_metrics_server(load_settings(metrics_port=0, vision_allowed_hosts="metrics.example"))
    yield server
    server.close()


def connect(page: MetricsServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", page.port), timeout=10)


def ask(page: MetricsServer, path: str = "/metrics", host: str = "localhost", method: str = "GET") -> str:
    with connect(page) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            return answer.read().decode()


def test_only_one_page_only_under_our_names(page: MetricsServer) -> None:
    assert "200 OK" in ask(page)
    assert "X-Content-Type-Options: nosniff" in ask(page)
    assert "200 OK" in ask(page, host="metrics.example:8001")
    assert "404 Not Found" in ask(page, "/")
    assert "404 Not Found" in ask(page, "/metrics/../x")
    assert "405" in ask(page, method="POST")
    foreign = ask(page, host="evil.example")
    assert "421" in foreign
    assert "vision_" not in foreign


def test_the_oldest_connections_make_room_for_a_scrape(page: MetricsServer) -> None:
    silent = [connect(page) for _ in range(100)]
    silent[1].sendall(b"GET /metrics HTTP/1.1\r\nX-Drip: ")
    assert 'vision_web_refused_total{reason="metrics_connection"}' in ask(page)
    assert silent[0].recv(10) == b"", "the first that came was closed"
    for connection in silent:
        connection.close()


def test_a_dripping_connection_ends_in_time() -> None:
    page = start_metrics_server(load_settings(metrics_port=0), connection_seconds=0.3)
    with contextlib.closing(page), connect(page) as dripping:
        dripping.settimeout(0.05)
        deadline = time.monotonic() + 10
        dripping.sendall(b"GET /metrics HTTP/1.1\r\nX-Drip: ")
        while time.monotonic() < deadline:
            try:
                dripping.sendall(b"x")
                if dripping.recv(100) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    raise AssertionError("it was never closed")


def test_a_caller_that_hangs_up_prints_nothing(page: MetricsServer, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(20):
        with connect(page) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert "200 OK" in ask(page)
    assert capfd.readouterr() == ("", "")


def test_health_answers_here_too(page: MetricsServer) -> None:
    assert "404" in ask(page, "/readyz"), "without a worker there is none"
    health = {"/healthz": lambda: (200, b'{"status":"alive"}'), "/readyz": lambda: (503, b'{"status":"not_ready"}')}
    server = start_metrics_server(load_settings(metrics_port=0), health)
    try:
        assert "200 OK" in ask(server, "/healthz")
        answer = ask(server, "/readyz")
        assert answer.startswith("HTTP/1.0 503 Service Unavailable")
        assert answer.endswith('{"status":"not_ready"}')
        assert "application/json" in answer
        assert "not_ready" not in ask(server, "/readyz", method="HEAD")
        assert "421" in ask(server, "/readyz", host="evil.example")
        assert "200 OK" in ask(server)
    finally:
        server.close()
