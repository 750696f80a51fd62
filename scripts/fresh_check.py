"""`make fresh-check`: the README's commands as a newcomer runs them, on a new Debian 12 and 13. Root, Debian, network.

For each release: a minimal root made by debootstrap, with python3, python3-venv, make, git and ca-certificates and no
compiler; a plain user; a clone of the last commit; `make demo`, `make demo` again in a network namespace with nothing
but lo, and `make down`. An existing root is kept in the cache and used again; the clone and the user's home are made
again. All mounts are in a namespace of this process, so nothing stays mounted when it ends.

The roots trust only Debian's certificate authorities. Those of this machine are passed in a file named by
SSL_CERT_FILE, as in a company with its own authority.

`python scripts/fresh_check.py [RELEASE …] [--tests]`; with --tests also `make test`, which takes half an hour each.
"""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from vision_app.stack.home import cache_folder

REPOSITORY = Path(__file__).parents[1]
ROOTS = cache_folder() / "fresh"
PACKAGES = "python3,python3-venv,make,git,ca-certificates"
RELEASES = {"bookworm": "Debian 12", "trixie": "Debian 13"}
USER = "newcomer"
AUTHORITIES = f"/home/{USER}/authorities.pem"
TOOLS = {"debootstrap": "debootstrap", "unshare": "util-linux", "ip": "iproute2"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*", default=list(RELEASES), metavar="RELEASE", help="bookworm, trixie")
    parser.add_argument("--tests", action="store_true", help="run make test, too")
    wanted = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print("This makes roots of Debian, which needs root on Debian: run it there, or in a virtual machine.")
        return 2
    missing = [package for program, package in TOOLS.items() if not shutil.which(program)]
    if missing:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], check=True)
    if "FRESH_NAMESPACE" not in os.environ:
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        os.execvpe(command[0], command, {**os.environ, "FRESH_NAMESPACE": "1"})  # noqa: S606 - runs itself in a namespace of its own
    results = [line for release in wanted.releases for line in check(release, wanted.tests)]
    print("\n".join(["", *results]))
    return 0 if all(": ok" in line for line in results) else 1


def check(release: str, with_tests: bool) -> Iterator[str]:
    """One line for each step: what, how it ended, how long it took."""
    name, root = RELEASES[release], ROOTS / release
    _make_root(release, root)
    _mount(root)
    _make_user(root)
    facts = _run_in(root, "python3 --version; python3 -m pip --version 2>/dev/null | cut -d' ' -f2; command -v gcc cc")
    python = " ".join(facts.stdout.split())
    steps = {
        "git clone": f"rm -rf project && git clone -q {REPOSITORY} project",
        "make demo, everything downloaded": "cd project && make demo",
        "make demo, second time, without network": "cd project && make down && make demo",
        "make down": "cd project && make down",
    }
    if with_tests:
        steps |= {
            "make demo and make test": "cd project && make demo && make test",
            "the end": "cd project && make down",
        }
    for step, command in steps.items():
        started = time.monotonic()
        print(f"--- {name} ({python}): {step}", flush=True)
        done = _run_in(root, command, show=True, network="without network" not in step)
        seconds = time.monotonic() - started
        if done.returncode:
            _run_in(root, "cd project && make down")
            yield f"{name}, {step}: FAILED with exit code {done.returncode} after {seconds:.0f} s"
            return
        yield f"{name}, {step}: ok, {seconds:.0f} s"
    strangers = _written_elsewhere(root)
    yield f"{name}, files written outside the clone and the cache: {'FAILED, ' if strangers else 'ok, '}{strangers}"
    sizes = _run_in(root, "du -sm project/.venv .cache | tr '\\n\\t' '  '").stdout
    yield f"{name}, megabytes in .venv and the cache: ok, {sizes.strip()}"


def _make_root(release: str, root: Path) -> None:
    if (root / ".complete").exists():
        return
    if root.exists():
        shutil.rmtree(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    print(f"--- making a root of {RELEASES[release]} in {root}", flush=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release, str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (root / ".complete").touch()


def _mount(root: Path) -> None:
    """/proc, /dev and the repository, read-only, inside the root."""
    inside = root / str(REPOSITORY).lstrip("/")
    inside.mkdir(parents=True, exist_ok=True)
    for options in (
        ["-t", "proc", "proc", str(root / "proc")],
        ["--bind", "/dev", str(root / "dev")],
        ["--bind", "-o", "ro", str(REPOSITORY), str(inside)],
    ):
        subprocess.run(["mount", *options], check=True)


def _make_user(root: Path) -> None:
    subprocess.run(["chroot", str(root), "useradd", "-m", USER], check=False, capture_output=True)
    home = root / "home" / USER
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / AUTHORITIES.lstrip("/"))
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    (home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    subprocess.run(["chroot", str(root), "chown", "-R", f"{USER}:", f"/home/{USER}"], check=True)


def _written_elsewhere(root: Path) -> list[str]:
    """Files changed since the user was made, outside the clone and the user's cache."""
    expected = ("proc", "dev", str(REPOSITORY).strip("/"), f"home/{USER}/project", f"home/{USER}/.cache")
    since = (root / AUTHORITIES.lstrip("/")).stat().st_mtime
    found = []
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if str(here / name) not in expected]
        changed = (Path(folder, name) for name in files)
        found += [str(path.relative_to(root)) for path in changed if path.lstat().st_mtime > since + 1]
    return [path for path in found if path != f"home/{USER}/.gitconfig"]


@functools.cache
def _free_ports() -> dict[str, str]:
    """Other ports for the API and the metrics, if the usual ones are in use on this machine."""
    with socket.socket() as usual, socket.socket() as one, socket.socket() as other:
        try:
            usual.bind(("127.0.0.1", 8000))
        except OSError:
            one.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            return {"VISION_API_PORT": str(one.getsockname()[1]), "METRICS_PORT": str(other.getsockname()[1])}
    return {}


def _run_in(root: Path, command: str, *, show: bool = False, network: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in the root as the user, in the user's home, without this process' environment."""
    variables = {"HOME": f"/home/{USER}", "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}
    variables |= {"SSL_CERT_FILE": AUTHORITIES, **_free_ports()}
    assigned = [f"{name}={value}" for name, value in variables.items()]
    inside = shlex.join(["env", "-i", *assigned, "sh", "-c", f"cd && {{ {command}; }}"])
    as_user = ["chroot", str(root), "su", USER, "-s", "/bin/sh", "-c", inside]
    if not network:
        as_user = ["unshare", "--net", "sh", "-c", f"ip link set lo up && exec {shlex.join(as_user)}"]
    pipes = None if show else subprocess.PIPE
    return subprocess.run(as_user, stdout=pipes, stderr=pipes, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
