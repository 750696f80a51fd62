"""What the documentation names exists: metrics, settings, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.promql import faults
from vision_app import topics
from vision_app.cli import COMMANDS
from vision_app.settings import OBSOLETE, Settings, variables

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / ".env.example"])
NOT_SETTINGS = {
    "VISION_HOME": "the embedded stack's folder",
    "VISION_CACHE": "where jars are kept",
    "VISION_PORTS": "where embedded services may listen",
    "VISION_MAVEN_URL": "a mirror for the jars",
    "VISION_WORKER_ID": "given by whoever starts workers",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics(page: Path) -> None:
    """Also their labels. Dashboards and alerts: test_deploy_monitoring.py."""
    kinds = "total|seconds|gauge|gb|size|lag|ready|waiting|state|bucket"
    prefixes = "vision|storage|events|circuit|stream|s3|ocr|tenant_storage"
    for metric in re.findall(rf"\b((?:{prefixes})_[a-z_]*(?:{kinds})(?:{{[^}}]*}})?)(?![\w(])", page.read_text()):
        assert faults(metric) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings(page: Path) -> None:
    known = {name.upper() for field in Settings.model_fields for name in variables(field)}
    prefixes = "VISION|GIGACHAT|S3|NEO4J|REDIS|KAFKA|DATABASE|FEATURE|METRICS|LOG"
    named = set(re.findall(rf"\b((?:{prefixes})_[A-Z0-9_]*[A-Z0-9])\b", page.read_text()))
    scopes = {name for name in named if name.startswith("GIGACHAT_API_")}
    assert named - known - OBSOLETE.keys() - NOT_SETTINGS.keys() - scopes == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands(page: Path) -> None:
    named = set(re.findall(r"(?:^|[`$ ])vision ([a-z][a-z0-9]+)\b", page.read_text(), re.MULTILINE))
    assert {name for name in named if f"`vision {name}" in page.read_text()} - COMMANDS.keys() == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_topics(page: Path) -> None:
    known = {topic.name for topic in topics.ALL}
    named = set(re.findall(r"--topic (\S+?)[`\s]", page.read_text()))
    assert named - known == set()
