"""What this machine, or the container, gives to our processes: cores and memory. It reads; `sizing.py` decides."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
UNLIMITED_BYTES = 1 << 60
"""cgroup v1 says a number near 2^63 where there is no limit."""


@dataclass(frozen=True)
class Machine:
    """`cores`: those we may run on, or the part of them that the CPU quota allows, whichever is less."""

    cores: float
    memory_bytes: int


def this_machine(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Machine:
    """Reads the cores of this process, the limits of its control group and those above it, and the memory."""
    folders = _folders(cgroups, membership)
    cores = [float(_usable_cores()), *(quota for folder in folders if (quota := _quota(folder)))]
    memory = [psutil.virtual_memory().total, *(limit for folder in folders if (limit := _memory_limit(folder)))]
    return Machine(min(cores), min(memory))


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def _folders(cgroups: Path, membership: Path) -> list[Path]:
    """The control groups of this process, of both versions, with all that are above them.

    In a container the own group is usually mounted as the root, and its path is not there: then the root counts.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return []
    found: dict[Path, None] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        roots = [cgroups / name for name in (controllers, *controllers.split(",")) if name] or [cgroups]
        for root in roots:
            own = root / path.lstrip("/")
            found |= dict.fromkeys(folder for folder in (own, *own.parents) if folder.is_relative_to(root))
    return list(found)


def _quota(folder: Path) -> float | None:
    """The cores of `cpu.max` (v2) or of the two files of v1; None without a limit."""
    if (both := _read(folder / "cpu.max").split()) and both[0] != "max":
        return int(both[0]) / int(both[1])
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if period and int(quota or -1) > 0 else None


def _memory_limit(folder: Path) -> int | None:
    limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
    return int(limit) if limit and limit != "max" and int(limit) < UNLIMITED_BYTES else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # another version, or not ours to read
        return ""
