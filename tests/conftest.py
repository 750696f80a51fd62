"""Fixtures shared by all tests: the embedded services, started once for the run, with data in a folder of their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.integration.pipeline import Pipeline, Worker, pipeline
from vision_app.settings import Settings, load_settings
from vision_app.stack.client import running_stack


def pytest_configure(config: pytest.Config) -> None:
    """Tests in several processes (`-n`) start services at the same time: each process has ports of its own."""
    count = 12_000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    first = 20_000 + count * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.environ["VISION_PORTS"] = f"{first}-{first + count - 1}"


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
