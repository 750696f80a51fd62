"""Make `.venv` (or VENV) hold exactly what a lock names: `python scripts/install.py requirements-demo.lock`.

Standard library only. Nothing is resolved (`--no-deps`) and nothing is compiled (`--only-binary`): the lock is closed,
which tests/unit/test_locks.py proves. An interrupted run leaves no stamp, and the next one begins with an empty
environment; pip's downloads come from its cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
import tomllib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
VENV = ROOT / os.environ.get("VENV", ".venv")  # as the Makefile names it
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".installed"
AUTHORITIES = VENV / "authorities.pem"
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
IN_THE_WAY = ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIREMENT", "PIP_CONSTRAINT", "PYTHONPATH", "PYTHONHOME")
"""Variables that would make pip install something else, or to another place."""
INCLUDES = {"requirements.lock": ("requirements.lock", "requirements-demo.lock")}
"""Lock → the locks whose packages it holds, with the same versions."""
LINE_SECONDS = 5.0  # how often a progress line is printed without a terminal

SIZE = re.compile(r"(?:Downloading|Using cached) (\S+\.whl) \(([\d.]+) ?(bytes|kB|MB|GB)\)")
UNITS = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


class InstallError(Exception):
    """The environment could not be made. The text says what to do next."""


class Progress:
    """Shows packages, megabytes and seconds: in place on a terminal, otherwise in lines."""

    def __init__(self) -> None:
        self._names, self._megabytes, self._what = set[str](), 0.0, "downloading"
        self._started = self._told = time.monotonic()

    def hear(self, line: str) -> None:
        """A line that pip printed."""
        if (match := SIZE.search(line)) and match[1] not in self._names:
            self._names.add(match[1])
            self._megabytes += float(match[2]) * UNITS[match[3]]
        elif line.startswith("Installing collected packages"):
            self._what = "unpacking"
        if sys.stdout.isatty():
            print(f"\r{self}\033[K", end="", flush=True)
        elif time.monotonic() - self._told > LINE_SECONDS:
            self._told = time.monotonic()
            print(self, flush=True)

    def __str__(self) -> str:
        seconds = time.monotonic() - self._started
        if not self._names:  # uv does not print this into a pipe
            return f"packages: {self._what}, {seconds:.0f} s"
        return f"packages: {self._what} {len(self._names)}, {self._megabytes:.0f} MB, {seconds:.0f} s"

    def end(self) -> None:
        self._what = "installed"
        print(f"\r{self}\033[K" if sys.stdout.isatty() else self, flush=True)


def install(lock: str) -> None:
    """Install a lock. Raises InstallError. Of two at once the second waits, and finds the work done."""
    VENV.parent.mkdir(parents=True, exist_ok=True)
    with VENV.with_name(f"{VENV.name}.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        state = _state(lock)
        if _is_done(state, lock):
            return
        extends = _is_done(_state("requirements-demo.lock"), "requirements-demo.lock")
        STAMP.unlink(missing_ok=True)
        uv = _uv()
        if not extends:
            _make_environment(uv)
        environment = _environment()
        progress = Progress()
        options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "-r", lock]
        _run(uv, options, environment, progress)
        _run(uv, ["--no-deps", "--no-build-isolation", "-e", "."], environment, progress)
        progress.end()
        STAMP.write_text(state)


def _state(lock: str) -> str:
    """The inputs of an environment: with another lock, project, Python or folder it is made again.

    Of pyproject.toml only the parts about installation count, not those about the tools.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = [project["project"], project["build-system"], project.get("tool", {}).get("hatch")]
    digest = hashlib.sha256((ROOT / lock).read_bytes() + json.dumps(installed).encode()).hexdigest()
    return f"{lock} {digest} {sys.version_info[0]}.{sys.version_info[1]} {ROOT}"


def _is_done(state: str, lock: str) -> bool:
    if not STAMP.exists() or not PYTHON.exists():
        return False
    found = STAMP.read_text()
    larger = [each for each, held in INCLUDES.items() if lock in held]
    return found == state or any(found == _state(each) for each in larger)


def _uv() -> str | None:
    """The program uv, if it is requested (INSTALLER=uv) or this Python cannot make an environment with pip."""
    has_pip = importlib.util.find_spec("ensurepip") is not None and importlib.util.find_spec("venv") is not None
    if has_pip and os.environ.get("INSTALLER") != "uv":
        return None
    if uv := shutil.which("uv"):
        return uv
    if has_pip:
        raise InstallError("INSTALLER=uv is set, but uv is not on the PATH; install it, or leave INSTALLER out")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    raise InstallError(
        f"this Python has no venv with pip. On Debian: apt-get install python3-venv or python{version}-venv; "
        "or install uv. Then run the same command again"
    )


def _make_environment(uv: str | None) -> None:
    print(f"making {VENV.name} with Python {sys.version_info[0]}.{sys.version_info[1]}", flush=True)
    if uv:
        command = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)]
    else:
        command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise InstallError(f"cannot make {VENV}: {outcome.stdout}{outcome.stderr}".strip())


def _environment() -> dict[str, str]:
    """This process' variables, without those that would mislead pip, with all known certificate authorities."""
    environment = {name: value for name, value in os.environ.items() if name not in IN_THE_WAY}
    named = [os.environ[name] for name in CA_VARIABLES if os.environ.get(name)]
    if missing := [path for path in named if not Path(path).is_file()]:
        raise InstallError(f"{' and '.join(CA_VARIABLES)} name a file of certificates, but {missing[0]} is no file")
    if (named or sys.platform == "linux") and "PIP_CERT" not in os.environ:
        _write_authorities(named)
        environment |= {"PIP_CERT": str(AUTHORITIES), "SSL_CERT_FILE": str(AUTHORITIES)}
    return environment


def _write_authorities(named: list[str]) -> None:
    """The authorities of the variables, of the system and of pip in one file. Pip before 24.2 uses only its own."""
    system = ssl.get_default_verify_paths().openssl_cafile
    of_pip = VENV.glob("lib/python*/site-packages/pip/_vendor/certifi/cacert.pem")
    usual = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"]
    files = dict.fromkeys([*named, system, *usual, *map(str, of_pip)])
    AUTHORITIES.write_bytes(b"\n".join(Path(file).read_bytes() for file in files if Path(file).is_file()))


def _run(uv: str | None, arguments: list[str], environment: dict[str, str], progress: Progress) -> None:
    if uv:
        command = [uv, "pip", "install", "--python", str(PYTHON), *arguments]
    else:
        command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        command += ["--progress-bar=off", *arguments]
    last: deque[str] = deque(maxlen=40)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT
    ) as process:
        for line in process.stdout or ():
            last.append(line.rstrip())
            progress.hear(line.strip())
    if process.returncode:
        raise InstallError("\n".join([*last, *_advice("\n".join(last))]))


def _advice(output: str) -> Iterator[str]:
    if re.search(r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerification|invalid peer certificate", output):
        yield (
            "The server's certificate is not trusted here. Behind a company's own authority, name its file of "
            "certificates: SSL_CERT_FILE=/path/ca.pem or REQUESTS_CA_BUNDLE=/path/ca.pem. Then run the same command "
            "again."
        )
    elif re.search(r"THESE PACKAGES DO NOT MATCH THE HASHES|hash mismatch", output, re.IGNORECASE):
        yield "A package is not the one this version was tested with; check the package index or proxy in between."
    elif re.search(r"No space left", output):
        yield "The disk is full: free 1 GB, then run the same command again."
    else:
        yield (
            "The packages could not be installed. Check the network connection, the proxy (HTTPS_PROXY, NO_PROXY) and "
            "the package index (PIP_INDEX_URL), then run the same command again: what was downloaded is kept."
        )


if __name__ == "__main__":
    try:
        install(sys.argv[1])
    except InstallError as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. Run the same command again; what was downloaded is kept.")
