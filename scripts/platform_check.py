"""Says in one sentence why vision_app cannot be installed here. This file must also run on an old Python."""

import os
import platform
import struct
import sys

OLDEST, NEWEST = (3, 11), (3, 14)
GLIBC = (2, 28)
WITHOUT_WHEELS = {
    ("linux", "aarch64"): (
        "faust-streaming",
        ("requirements.lock", "requirements-demo.lock", "requirements-run.lock", "requirements-otel.lock"),
    ),
    ("darwin", "x86_64"): ("cryptography", ("requirements.lock",)),
}
"""Platform -> a package that would have to be compiled there, and the locks it is in. Checked by
tests/unit/test_locks.py.
"""

WHERE = "It runs on Linux x86-64 with glibc 2.28 or newer (Debian 10, Ubuntu 20.04, RHEL 8, WSL) and on macOS."


def problem(lock):
    # type: (str) -> str | None
    """Why a lock cannot be installed here, and what to do; None when it can."""
    system = sys.platform
    if system.startswith(("win32", "cygwin", "msys")):
        return "Windows itself is not supported. Run it in WSL: wsl --install, then the same commands there."
    if not system.startswith(("linux", "darwin")):
        return "The system %s is not supported. %s" % (system, WHERE)
    version = "%d.%d" % sys.version_info[:2]
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return "Python %s is not supported, 3.11 to 3.14 are: %s" % (version, other_python())
    if sys.implementation.name != "cpython":
        return "%s is not supported, CPython is: %s" % (sys.implementation.name, other_python())
    if hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled():
        return "Python %s without a GIL is not supported: %s" % (version, other_python())
    if struct.calcsize("P") != 8:
        return "This Python is a 32-bit program, for which there are no packages. Install a 64-bit Python and system."
    machine = platform.machine()
    package, locks = WITHOUT_WHEELS.get((system, machine), ("", ()))
    if lock in locks:
        what = "The test command" if lock == "requirements.lock" else "It"
        return "%s is not supported on %s %s: %s has no wheel for it. %s" % (what, system, machine, package, WHERE)
    if machine not in ("x86_64", "arm64"):
        return "The processor type %s is not supported. %s" % (machine, WHERE)
    return libc_problem() if system == "linux" else None


def libc_problem():
    # type: () -> str | None
    try:
        name, _, version = os.confstr("CS_GNU_LIBC_VERSION").partition(" ")  # type: ignore[union-attr]  # None is caught below
        found = tuple(int(part) for part in version.split(".")[:2])
    except (ValueError, OSError, AttributeError):
        return "This system has no glibc (Alpine and others with musl have none). " + WHERE
    if found < GLIBC:
        return "%s %s is too old. %s" % (name, version, WHERE)
    return None


def other_python():
    # type: () -> str
    """What to type, if another Python is on the PATH."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        name = "python3.%d" % minor
        for folder in os.environ.get("PATH", "").split(os.pathsep):
            if os.access(os.path.join(folder, name), os.X_OK):
                return "run make PYTHON=%s" % name
    return "install one and name it, such as make PYTHON=python3.13"


if __name__ == "__main__":
    found = problem(sys.argv[1])
    if found:
        sys.stderr.write("vision_app cannot be installed here. %s\n" % found)
        sys.exit(1)
