"""The client for others: what it exports, that both forms are alike, and that importing it starts and loads little."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from vision_app import client
from vision_app.client import AsyncVision, Vision, VisionError
from vision_app.settings import Settings


def test_the_exported_names() -> None:
    assert sorted(client.__all__) == [
        "AnalyzedEvent",
        "ApiRefused",
        "AsyncVision",
        "Enrichment",
        "ListedPost",
        "LivePostAnswer",
        "Medium",
        "NotAnnounced",
        "PictureRefused",
        "PostAnswer",
        "Published",
        "ServiceAway",
        "SkippedEvent",
        "Vision",
        "VisionError",
    ]


def test_the_two_forms_have_the_same_methods_and_parameters() -> None:
    for name, method in inspect.getmembers(AsyncVision, inspect.isfunction):
        if not name.startswith("_") or name == "__init__":
            assert inspect.signature(method).parameters == inspect.signature(getattr(Vision, name)).parameters, name


def test_every_error_says_what_to_do() -> None:
    errors = [one for one in vars(client).values() if inspect.isclass(one) and issubclass(one, VisionError)]
    assert len(errors) == 5
    assert all(len(inspect.getdoc(error) or "") > 15 for error in errors)


def test_importing_it_loads_neither_faust_nor_the_worker_nor_its_other_clients() -> None:
    heavy = {
        "faust",
        "mode",
        "aiokafka",
        "asyncpg",
        "neo4j",
        "PIL",
        "jinja2",
        "agents",
        "bridges",
        "tables",
        "vision_app.app",
    }
    code = f"import sys, vision_app.client; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_client_that_is_not_open_says_so_instead_of_waiting_for_ever() -> None:
    with pytest.raises(RuntimeError, match="with Vision"):
        Vision("tenant", settings=Settings()).read("post")
