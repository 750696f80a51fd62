"""`make audit`: asks whether any version in the locks has a known vulnerability. Needs the network.

A package without an answer of the service counts as not audited, and that is a failure.
Exit code 0: all were audited, none is known to be vulnerable; 1: some are; 2: not all could be audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "deploy/requirements-build.lock")  # the first has all of requirements-run.lock
SECONDS = 600
VULNERABLE, NOT_AUDITED = 1, 2
HINT = "the vulnerability service did not answer for them: check the network and proxy (HTTPS_PROXY), then run it again"


def main() -> int:
    program = Path(sys.executable).with_name("pip-audit")
    worst = 0
    for lock in LOCKS:
        code, text = verdict(audit(program, ROOT / lock))
        print(f"{lock}: {text}")
        worst = worst if worst == VULNERABLE else code or worst
    return worst


def audit(program: Path, lock: Path) -> dict[str, Any] | None:
    """pip-audit's report on a lock; None if it made none."""
    command = [str(program), "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    try:
        done = subprocess.run([*command, "-r", lock], capture_output=True, timeout=SECONDS, check=False)
        report: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as fault:
        print(f"{lock.name}: pip-audit gave no report: {type(fault).__name__}", file=sys.stderr)
        return None
    return report


def verdict(report: dict[str, Any] | None) -> tuple[int, str]:
    """The exit code for a report, and the reason."""
    packages = (report or {}).get("dependencies", [])
    found = [
        f"{p['name']} {p['version']}: {', '.join(v['id'] for v in p['vulns'])}" for p in packages if p.get("vulns")
    ]
    if found:
        return VULNERABLE, "\n  ".join(["known vulnerabilities; raise the versions with `make lock`", *found])
    skipped = [package["name"] for package in packages if "vulns" not in package]
    if skipped or not packages:
        return NOT_AUDITED, f"{len(skipped) or 'all'} of {len(packages) or 'the'} packages were not audited: {HINT}"
    return 0, f"{len(packages)} packages, none with a known vulnerability"


if __name__ == "__main__":
    sys.exit(main())
