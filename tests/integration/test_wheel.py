"""What the wheel ships, and that it works elsewhere: installed into an empty environment, run in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.pipeline import free_port

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]
PACKAGES = ("vision_app", "agents", "tables", "bridges")


def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """Run a command to its end, which must be a good one. Returns what it printed on stdout."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the backend that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, ROOT, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel. It takes the libraries from the environment of the tests, but not this project."""
    folder = tmp_path_factory.mktemp("elsewhere") / "venv"
    run(sys.executable, "-m", "venv", folder, folder=folder.parent)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel, folder=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{Path(httpx.__file__).parents[1]}\n")
    return folder


def shipped(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}


def test_the_wheel_ships_the_packages_the_policy_and_the_alerts_and_nothing_else(wheel: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("this is no git checkout, so nobody knows which files belong to the packages; clone the repository")
    added = {"vision_app/config/vision_policy.yml", "vision_app/deploy/alerts.yml"}
    assert shipped(wheel) == {*tracked.stdout.split(), *added}


def test_what_is_read_at_run_time_is_in_the_wheel(wheel: Path) -> None:
    names = shipped(wheel)
    assert {"vision_app/py.typed", "vision_app/stack/kafka.jars", "vision_app/stack/neo4j.jars"} <= names
    assert {
        "vision_app/prompts/default.txt",
        "vision_app/stores/schema.sql",
        "vision_app/demo_media/meme_cat.jpg",
    } <= names
    assert sum(name.startswith("vision_app/stores/migrations/") for name in names) >= 5


def test_the_installed_package_is_not_the_repository(environment: Path, tmp_path: Path) -> None:
    code = "import vision_app, agents; print(vision_app.__file__, agents.__file__, sep='\\n')"
    for place in run(environment / "bin" / "python", "-c", code, folder=tmp_path).split():
        assert Path(place).is_relative_to(environment)


def test_another_package_of_the_same_name_is_named_at_import(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text('"""Somebody else."""\n')
    code = (
        "import warnings\nwith warnings.catch_warnings(record=True) as seen:\n    import vision_app\n"
        "print(*(warning.message for warning in seen))"
    )
    alone = run(environment / "bin" / "python", "-c", code, folder=tmp_path.parent)
    assert alone.strip() == ""
    beside = run(environment / "bin" / "python", "-c", code, folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert f"agents ({tmp_path / 'agents' / '__init__.py'})" in beside
    assert "virtual environment of its own" in beside
    assert "tables (" not in beside


@pytest.fixture
def home(environment: Path, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "empty"
    folder.mkdir()
    yield folder
    run(environment / "bin" / "vision", "down", folder=folder)


def test_the_demo_in_an_empty_folder(environment: Path, home: Path) -> None:
    path = f"{environment / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"  # rclone is a program
    ports = {"VISION_API_PORT": str(free_port()), "METRICS_PORT": str(free_port())}
    told = run(environment / "bin" / "vision", "demo", "--json", folder=home, PATH=path, **ports)
    document = json.loads(told)
    assert document["ok"] is True
    assert len(document["posts"]) == 9
    assert [path.name for path in home.iterdir()] == [".vision"]
