"""The installed packages are the locked ones, and nothing is installed unchecked.

Not here: the jars (test_stack_jars.py), the images (test_deploy_compose.py, test_deploy_image.py), and vulnerable
versions, which `make audit` finds.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = (
    *("requirements.lock", "requirements-demo.lock", "requirements-run.lock", "requirements-otel.lock"),
    "deploy/requirements-build.lock",
)
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
WANTED = {
    "requirements.lock": [*PROJECT["project"]["dependencies"], *(each for extra in EXTRAS.values() for each in extra)],
    "requirements-demo.lock": [*PROJECT["project"]["dependencies"], *EXTRAS["stack"], *EXTRAS["editable"]],
    "requirements-run.lock": PROJECT["project"]["dependencies"],
    "requirements-otel.lock": [*PROJECT["project"]["dependencies"], *EXTRAS["otel"]],
    "deploy/requirements-build.lock": PROJECT["build-system"]["requires"],
}

_spec = importlib.util.spec_from_file_location("audit", ROOT / "scripts" / "audit.py")
assert _spec
assert _spec.loader
audit = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(audit)


def entries(lock: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Each pinned requirement that applies to this Python and platform or another, with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(), flags=re.M).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        requirement, *hashes = line.split(" --hash=")
        yield Requirement(requirement.strip()), [one.strip() for one in hashes]


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_is_pinned_to_one_version_with_hashes(lock: str) -> None:
    found = list(entries(lock))
    assert found
    for requirement, hashes in found:
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_to_download_from(lock: str) -> None:
    code = [line for line in (ROOT / lock).read_text().splitlines() if not line.lstrip().startswith("#")]
    assert not [line for line in code if "://" in line or re.match(r"\s*--(?!hash)|\s*-[a-z]\b", line)]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_in_step_with_what_the_project_asks_for(lock: str) -> None:
    pinned: dict[str, list[str]] = {}
    for requirement, _ in entries(lock):
        pinned.setdefault(canonicalize_name(requirement.name), []).append(str(requirement.specifier).removeprefix("=="))
    for wanted in map(Requirement, WANTED[lock]):
        versions = pinned.get(canonicalize_name(wanted.name))
        assert versions, f"{wanted} is not in {lock}: run `make lock`"
        assert all(wanted.specifier.contains(one) for one in versions), f"{wanted} but {versions}: run `make lock`"


def test_what_is_installed_here_is_what_is_locked() -> None:
    compared = 0
    for requirement, _ in entries("requirements.lock"):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            pytest.fail(f"{requirement.name} is locked but not installed: run `make`")
        assert requirement.specifier.contains(installed, prereleases=True), (
            f"{requirement} but {installed} is installed"
        )
        compared += 1
    assert compared > 80


@pytest.mark.parametrize("file", ["deploy/Dockerfile", "deploy/image_check.sh"])
def test_nothing_is_installed_without_its_hash(file: str) -> None:
    text = (ROOT / file).read_text().replace("\\\n", " ")
    commands = re.findall(r"pip install [^&|;\n]+", text)
    for command in commands:
        assert "--require-hashes" in command or "--no-index" in command or "--no-deps" in command, command
        if "--no-deps" in command and "--no-index" not in command:
            assert re.search(r"(-e )?\.\s*$", command), f"only this project itself: {command}"
    assert commands or file.endswith(".sh")


REPORTS: list[tuple[dict[str, Any] | None, int]] = [
    (None, 2),
    ({"dependencies": []}, 2),
    ({"dependencies": [{"name": "a", "version": "1", "vulns": []}]}, 0),
    ({"dependencies": [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}]}, 2),
    (
        {
            "dependencies": [
                {"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]},
                {"name": "b", "skip_reason": "?"},
            ]
        },
        1,
    ),
]


@pytest.mark.parametrize(("report", "code"), REPORTS)
def test_an_audit_without_an_answer_is_a_failure(report: dict[str, Any] | None, code: int) -> None:
    found, text = audit.verdict(report)
    assert found == code
    assert ("HTTPS_PROXY" in text) == (code == 2)
    assert ("CVE-1" in text) == (code == 1)


def test_an_audit_without_the_program_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.audit(tmp_path / "none", ROOT / "requirements.lock") is None
    assert "gave no report" in capsys.readouterr().err
