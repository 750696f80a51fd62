"""`make pythons`: the unit tests on every supported Python that this machine has, on the PATH or under pyenv.

Each gets its own environment in the cache, with the same lock; missing Pythons are named.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from vision_app.stack.home import cache_folder

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = cache_folder() / "pythons"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def main() -> int:
    """Arguments are passed to pytest. Exit code 0 if the tests passed on all Pythons found."""
    found, results = dict(pythons()), []
    for version in VERSIONS:
        if version not in found:
            results.append(f"Python {version}: not on this machine")
            continue
        outcome = test(version, found[version], sys.argv[1:])
        results.append(f"Python {version} ({found[version]}): {outcome}")
    print("\n".join(["", *results]))
    return 1 if any("FAILED" in line for line in results) else 0


def pythons() -> Iterator[tuple[str, Path]]:
    """Version and program of each supported Python. A pyenv shim without a Python behind it does not count."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in VERSIONS:
        candidates = sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True)
        if on_path := shutil.which(f"python{version}"):
            candidates.append(Path(on_path))
        for program in candidates:
            code = "import sys; print('%d.%d' % sys.version_info[:2])"
            told = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
            if told.stdout.strip() == version:
                yield version, program
                break


def test(version: str, program: Path, arguments: list[str]) -> str:
    """Install the lock and run the unit tests. Returns pytest's last line, or why there is none."""
    folder = ENVIRONMENTS / version
    print(f"--- Python {version}: {program}", flush=True)
    installer = [str(program), "scripts/install.py", "requirements.lock"]
    if subprocess.run(installer, cwd=ROOT, env={**os.environ, "VENV": str(folder)}, check=False).returncode:
        return "FAILED: the lock cannot be installed, see above"
    command = [str(folder / "bin" / "python"), "-m", "pytest", "-q", "--numprocesses=2", "tests/unit", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    last = next((line for line in reversed(done.stdout.splitlines()) if re.search(r"\d+ (passed|failed)", line)), "")
    return last if done.returncode == 0 else f"FAILED: {last or 'no test ran, see above'}"


if __name__ == "__main__":
    sys.exit(main())
