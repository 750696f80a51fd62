"""Resolve the dependencies again, and prove that the result can be installed everywhere without resolving.

`make lock` runs this. Each lock pins one version of each package with its hashes. `requirements-wheels.json` beside the
locks holds, for each pinned package, what its metadata requires and the wheels that the supported Pythons and platforms
take, each with its SHA-256. `problems` compares the two; the tests run it without a network.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import platform_check
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[1]
WHEELS = ROOT / "requirements-wheels.json"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
GLIBC = (2, 28)  # Debian 10, RHEL 8, Ubuntu 20.04
MACOS = (14, 0)
PLATFORMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64"))

INPUTS = {
    "requirements.lock": [
        *("pyproject.toml", "--extra", "stack", "--extra", "editable", "--extra", "otel", "--extra", "test"),
    ],
    "requirements-demo.lock": ["pyproject.toml", "--extra", "stack", "--extra", "editable"],
    "requirements-run.lock": ["pyproject.toml"],
    "requirements-otel.lock": ["pyproject.toml", "--extra", "otel"],
    "deploy/requirements-build.lock": ["deploy/requirements-build.in"],
}
"""Every lock with its sources. The first holds all packages; the others use its versions."""


@dataclass(frozen=True)
class Target:
    """One Python on one platform."""

    python: str
    system: str
    machine: str

    def __str__(self) -> str:
        return f"Python {self.python} on {self.system} {self.machine}"

    def markers(self, extra: str = "") -> dict[str, str]:
        """The values that environment markers are compared with."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "platform_python_implementation": "CPython",
            "os_name": "posix",
            "sys_platform": self.system,
            "platform_system": "Darwin" if self.system == "darwin" else "Linux",
            "platform_machine": self.machine,
            "platform_release": "",
            "platform_version": "",
            "extra": extra,
        }

    def platforms(self) -> list[str]:
        """Platform tags that wheels for this place may carry."""
        if self.system == "darwin":
            return list(mac_platforms(MACOS, self.machine))
        older = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
        tags = []
        for minor in range(GLIBC[1], 4, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if (2, minor) in older:
                tags.append(f"{older[2, minor]}_{self.machine}")
        return [*tags, f"linux_{self.machine}"]

    def tags(self) -> frozenset[Tag]:
        """All tags of wheels that can be installed here."""
        return _tags(self)


TARGETS = [Target(python, *platform) for platform in PLATFORMS for python in PYTHONS]


@dataclass
class Pin:
    """One entry of a lock."""

    requirement: Requirement
    hashes: frozenset[str]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")

    @property
    def key(self) -> str:
        return f"{self.name}=={self.version}"

    def applies(self, target: Target) -> bool:
        return _applies(str(self.requirement), target, "")


@dataclass
class Package:
    """One version of a package: its requirements, and its wheels by name with their SHA-256."""

    requires: list[str] = field(default_factory=list)
    wheels: dict[str, str] = field(default_factory=dict)

    def has_wheel_for(self, target: Target, hashes: frozenset[str]) -> bool:
        tags = target.tags()
        return any(sha256 in hashes and not tags.isdisjoint(_wheel_tags(name)) for name, sha256 in self.wheels.items())


@cache
def _tags(target: Target) -> frozenset[Tag]:
    major, minor = map(int, target.python.split("."))
    platforms = target.platforms()
    own = cpython_tags((major, minor), platforms=platforms)
    return frozenset([*own, *compatible_tags((major, minor), f"cp{major}{minor}", platforms)])


@cache
def _wheel_tags(name: str) -> frozenset[Tag]:
    return parse_wheel_filename(name)[3]


@cache
def _parsed(requirement: str) -> Requirement:
    return Requirement(requirement)


@cache
def _applies(requirement: str, target: Target, extra: str) -> bool:
    marker = _parsed(requirement).marker
    return marker is None or marker.evaluate(target.markers(extra))


def read_lock(text: str) -> list[Pin]:
    """The entries of a lock. Raises ValueError for an entry that is not pinned to one version with hashes."""
    joined = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    pins = []
    for line in filter(str.strip, joined.splitlines()):
        requirement, *hashes = (part.strip() for part in line.split("--hash=sha256:"))
        pin = Pin(Requirement(requirement), frozenset(hashes))
        if not re.fullmatch(r"==[^,*]+", str(pin.requirement.specifier)) or not hashes:
            raise ValueError(f"{requirement} is not pinned to one version with hashes; run `make lock`")
        pins.append(pin)
    return pins


def read_wheels(text: str) -> dict[str, Package]:
    """The contents of requirements-wheels.json."""
    return {key: Package(**entry) for key, entry in json.loads(text).items()}


def wanted_by(lock: str) -> list[str]:
    """The project's own requirements that a lock has to meet."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    inputs, extras = INPUTS[lock], project["optional-dependencies"]
    wanted = list(project["dependencies"]) if "pyproject.toml" in inputs else []
    for extra in extras:
        wanted += extras[extra] if extra in inputs else []
    if "deploy/requirements-build.in" in inputs:
        lines = (ROOT / "deploy" / "requirements-build.in").read_text().splitlines()
        wanted += [line for line in lines if line and not line.startswith("#")]
    return wanted


def unsupported(lock: str) -> set[tuple[str, str]]:
    """The platforms for which `scripts/platform_check.py` says that a lock cannot be installed."""
    return {platform for platform, (_, locks) in platform_check.WITHOUT_WHEELS.items() if lock in locks}


def problems(lock: str, pins: list[Pin], known: Mapping[str, Package], wanted: list[str]) -> Iterator[str]:
    """What must be resolved, built or guessed to install `lock` in one of PLACES. Empty if the lock is closed."""
    for pin in pins:
        if pin.key not in known and any(map(pin.applies, TARGETS)):
            yield f"{pin.key} is in {lock} but not in {WHEELS.name}; run `make lock`"
    for target in TARGETS:
        if (target.system, target.machine) not in unsupported(lock):
            for problem in _problems_at(target, pins, known, wanted):
                yield f"{lock}, {target}: {problem}; run `make lock`"


def _problems_at(target: Target, pins: list[Pin], known: Mapping[str, Package], wanted: list[str]) -> Iterator[str]:
    here = {pin.name: pin for pin in pins if pin.key in known and pin.applies(target)}
    for pin in here.values():
        if not known[pin.key].has_wheel_for(target, pin.hashes):
            yield f"{pin.key} has no wheel"
    todo = [("the project", text, "") for text in wanted]
    seen: set[tuple[str, str]] = set()
    while todo:
        by, text, extra = todo.pop()
        if not _applies(text, target, extra):
            continue
        requirement = _parsed(text)
        found = here.get(canonicalize_name(requirement.name))
        if found is None or not requirement.specifier.contains(found.version, prereleases=True):
            yield f"{by} requires {requirement}, the lock has {found.key if found else 'nothing'}"
            continue
        for asked in ("", *sorted(requirement.extras)):
            if (found.key, asked) not in seen:
                seen.add((found.key, asked))
                todo += [(found.key, text, asked) for text in known[found.key].requires]


# --- for maintainers, with a network ----------------------------------------------------------------------------------


def resolve() -> None:
    """Write every lock again, all with the same versions."""
    everything, *parts = INPUTS
    for lock in (everything, *parts):
        command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", *INPUTS[lock], "--generate-hashes"]
        command += ["--no-emit-index-url", "--universal", "--python-version", PYTHONS[0], "--quiet"]
        command += ["--custom-compile-command", "make lock", "-o", lock]
        if lock != everything:
            command += ["--constraint", everything]
        subprocess.run(command, check=True, cwd=ROOT)


def describe() -> None:
    """Ask the index, for every place, which wheel it takes for each pin and what that wheel requires."""
    pins = {pin.key: pin for lock in INPUTS for pin in read_lock((ROOT / lock).read_text())}
    known: dict[str, Package] = {}
    for target in TARGETS:
        print(target, flush=True)
        for item in _report(target, [pin for pin in pins.values() if pin.applies(target)]):
            metadata, archive = item["metadata"], item["download_info"]
            key = f"{canonicalize_name(metadata['name'])}=={metadata['version']}"
            package = known.setdefault(key, Package())
            package.requires = sorted({*package.requires, *metadata.get("requires_dist", ())})
            name = archive["url"].rsplit("/", 1)[1]
            package.wheels[name] = archive["archive_info"]["hashes"]["sha256"]
    lines = (
        f"{json.dumps(key)}: {json.dumps({'requires': each.requires, 'wheels': dict(sorted(each.wheels.items()))})}"
        for key, each in sorted(known.items())
    )
    WHEELS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _report(target: Target, pins: list[Pin]) -> list[dict[str, Any]]:
    """What pip would install, from wheels only. A pin without a wheel for this place is left out and named."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
    command += ["--only-binary=:all:", f"--python-version={target.python}", "--implementation=cp", "--report=-"]
    abi = f"cp{target.python.replace('.', '')}"
    command += [f"--abi={each}" for each in (abi, "abi3", "none")]
    command += [f"--platform={each}" for each in target.platforms()]
    left = {pin.key for pin in pins}
    while True:
        with tempfile.TemporaryDirectory() as folder:
            arguments = [f"--target={folder}", *sorted(left)]
            outcome = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)
        if outcome.returncode == 0:
            report: list[dict[str, Any]] = json.loads(outcome.stdout)["install"]
            return report
        missing = set(re.findall(r"No matching distribution found for (\S+)", outcome.stderr)) & left
        if not missing:
            raise SystemExit(outcome.stderr)
        print(f"  no wheel: {', '.join(missing)}", flush=True)
        left -= missing


def main() -> int:
    resolve()
    describe()
    known = read_wheels(WHEELS.read_text())
    locks = {lock: read_lock((ROOT / lock).read_text()) for lock in INPUTS}
    found = [each for lock, pins in locks.items() for each in problems(lock, pins, known, wanted_by(lock))]
    print("\n".join(found) or "every lock is closed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
