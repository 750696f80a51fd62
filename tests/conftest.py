"""Fixtures shared by all tests: the embedded services, started once for the run, with data in a folder of their own."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from tests.integration.pipeline import Pipeline, Worker, pipeline
from vision_app.settings import OBSOLETE, Settings, every_variable, load_settings
from vision_app.stack.client import running_stack

SETTINGS = every_variable() | set(OBSOLETE)


KEPT = {"VISION_CACHE", "VISION_MAVEN_URL"}  # where downloads are, and where they come from
PREFIXES = ("VISION_", "FEATURE_", "GIGACHAT_", "S3_", "COMPOSE_")
TOOLS = {"tesseract": "OCR", "promtool": "the alerts", "nginx": "TLS", "tinyproxy": "a proxy"}
TOOLS |= {"redis-server": "Redis with TLS", "pgbouncer": "a pooled Postgres", "chromium": "the page"}
TOOLS |= {"prometheus-alertmanager": "messages of alerts"}


def pytest_configure(config: pytest.Config) -> None:
    """Tests see nothing of the caller's settings.

    A run in the background (`make test &`) is started with SIGINT ignored, and would hand that on to what it starts.
    Tests in several processes (`-n`) start services at the same time: each process has ports of its own.
    Logged errors have plain tracebacks: structlog's own, with all local variables, took much of the unit tests' time.
    """
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    for name in list(os.environ):
        if name not in KEPT and (name.startswith(PREFIXES) or name in SETTINGS):
            del os.environ[name]
    os.environ["VISION_LANG"] = "en"  # tests compare what commands say, also on a machine with a Russian locale
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    count = 12_000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first = 20_000 + count * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.environ["VISION_PORTS"] = f"{first}-{first + count - 1}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name once what is not installed here and makes tests be skipped, with the command that gets it."""
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    missing = [f"{name} ({purpose})" for name, purpose in TOOLS.items() if shutil.which(name, path=places) is None]
    if missing:
        terminalreporter.write_line(
            f"Not here: {', '.join(missing)}; tests that need it were skipped. Get it: make tools"
        )


@pytest.fixture(scope="session", autouse=True)
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests run in an empty folder, so that they see nothing of this one's `.vision` and `.env`."""
    here = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("empty"))
    yield
    os.chdir(here)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """All infrastructure services and the GigaChat simulator, no worker: the variables that lead to them.

    Nothing is set in this process' environment. Tests share the services, so each takes names of its own
    (tenant, topic, stream, bucket prefix).
    """
    with running_stack(tmp_path_factory.mktemp("stack")) as variables:
        yield variables


@pytest.fixture
def stack_settings(stack: dict[str, str]) -> Settings:
    """Settings that lead to the services of `stack`."""
    return load_settings(**{name.lower(): value for name, value in stack.items()})


@pytest.fixture(scope="module")
def worker(
    request: pytest.FixtureRequest, stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    """One worker for all tests of a module, with the variables of the module's WORKER if it has any."""
    running = Worker(stack, tmp_path_factory.mktemp("logs"), 1, **getattr(request.module, "WORKER", {}))
    running.start()
    yield running
    running.end()


@pytest.fixture
async def pipe(stack_settings: Settings, worker: Worker) -> AsyncIterator[Pipeline]:
    """The neighbours of the module's worker, which is ready."""
    await worker.ready()
    async with pipeline(stack_settings) as opened:
        yield opened
