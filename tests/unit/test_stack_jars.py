"""The pinned jars: the content of the lock files, and what happens if a download fails or has other content."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from vision_app.stack import jars
from vision_app.stack.certificates import VARIABLES
from vision_app.stack.errors import StackError

CONTENT = b"the bytes of a jar" * 100


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_CACHE", str(tmp_path))


class Mirror:
    """A Maven repository on this machine. `files`: path → content; `cut`: how many answers end half-way."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut = 0
        self.asked: list[str | None] = []  # the Range of each request
        self.paths: list[str] = []

    def serve(self, tls: trustme.LeafCert | None = None) -> http.server.ThreadingHTTPServer:
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.paths.append(self.path)
                mirror.asked.append(self.headers["Range"])
                body = mirror.files.get(self.path.rpartition("/maven/")[2])
                if body is None:
                    self.send_error(404)
                    return
                start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body) - start))
                self.end_headers()
                end = len(body) // 2 if mirror.cut else len(body)
                mirror.cut = max(0, mirror.cut - 1)
                self.wfile.write(body[start:end])

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


JAR = "org/example/thing/1.0/thing-1.0.jar"


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    mirror = Mirror()
    with mirror.serve() as server:
        monkeypatch.setenv("VISION_MAVEN_URL", f"http://127.0.0.1:{server.server_port}/maven/")
        yield mirror
        server.shutdown()


class Pinned:
    """A lock file with one jar, and the functions under test with it."""

    def __init__(self, locks: Path) -> None:
        self._locks = locks
        locks.mkdir()
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        (locks / "kafka.jars").write_text(f"# org.example:thing:1.0\norg.example:thing:1.0 {sha256} {len(CONTENT)}\n")

    def classpath(self, progress: jars.Progress = lambda _: None) -> list[Path]:
        return jars.classpath("kafka", progress, locks=self._locks, pause_seconds=0.01)

    def is_complete(self) -> bool:
        return jars.is_complete("kafka", self._locks)

    def path(self, repository: Path) -> Path:
        (jar,) = jars.read_lock("kafka", self._locks)
        return jar.path(repository)


@pytest.fixture
def pinned(tmp_path: Path) -> Pinned:
    return Pinned(tmp_path / "locks")


@pytest.mark.parametrize("name", ["kafka", "neo4j"])
def test_every_line_of_a_lock_pins_one_jar(name: str) -> None:
    locked = jars.read_lock(name)
    assert len(locked) > 90
    assert all(len(jar.sha256) == 64 and jar.version and jar.size_bytes > 500 for jar in locked)
    assert len({(jar.group, jar.artifact, jar.classifier) for jar in locked}) == len(locked)


def test_a_jar_is_downloaded_once(mirror: Mirror, pinned: Pinned) -> None:
    mirror.files[JAR] = CONTENT
    heard: list[str] = []
    [path] = pinned.classpath(heard.append)
    assert path.read_bytes() == CONTENT
    assert re.fullmatch(r"downloading jars: 1 of 1, 0 of 0 MB, \d+ s", heard[-1])
    assert not list(path.parent.glob("*.part"))
    mirror.files.clear()
    assert pinned.classpath() == [path]


def test_a_jar_cut_short_is_downloaded_again(mirror: Mirror, pinned: Pinned, tmp_path: Path) -> None:
    mirror.files[JAR] = CONTENT
    partial = pinned.path(tmp_path / "maven")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:5])
    assert pinned.classpath()[0].read_bytes() == CONTENT


def test_a_jar_deleted_later_is_noticed(mirror: Mirror, pinned: Pinned) -> None:
    mirror.files[JAR] = CONTENT
    [path] = pinned.classpath()
    assert pinned.is_complete()
    path.unlink()
    assert not pinned.is_complete()
    assert pinned.classpath()[0].exists()


def test_a_jar_changed_later_is_noticed_even_if_its_size_is_the_same(mirror: Mirror, pinned: Pinned) -> None:
    mirror.files[JAR] = CONTENT
    [path] = pinned.classpath()
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(1, 1))
    assert not pinned.is_complete()
    assert pinned.classpath()[0].read_bytes() == CONTENT


def test_another_file_under_the_name_is_refused(mirror: Mirror, pinned: Pinned, tmp_path: Path) -> None:
    mirror.files[JAR] = b"something else"
    with pytest.raises(StackError, match=r"thing-1\.0\.jar .* SHA-256 differs.*VISION_MAVEN_URL"):
        pinned.classpath()
    assert not pinned.path(tmp_path / "maven").exists()


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, pinned: Pinned) -> None:
    monkeypatch.setenv("VISION_MAVEN_URL", "http://127.0.0.1:1")
    with pytest.raises(StackError, match=r"cannot download thing-1\.0\.jar: .*Check the network.*VISION_MAVEN_URL"):
        pinned.classpath()


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_a_download_cut_off_goes_on_where_it_stopped(mirror: Mirror, pinned: Pinned) -> None:
    mirror.files[JAR], mirror.cut = CONTENT, 1
    [path] = pinned.classpath()
    assert path.read_bytes() == CONTENT
    assert mirror.asked == [None, f"bytes={len(CONTENT) // 2}-"]


def test_an_unfinished_file_of_an_earlier_start_is_continued(mirror: Mirror, pinned: Pinned, tmp_path: Path) -> None:
    mirror.files[JAR] = CONTENT
    path = pinned.path(tmp_path / "maven")
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.part").write_bytes(CONTENT[:7])
    assert pinned.classpath() == [path]
    assert mirror.asked == ["bytes=7-"]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_unfinished_file_that_is_another_one_is_not_taken(mirror: Mirror, pinned: Pinned, tmp_path: Path) -> None:
    mirror.files[JAR] = CONTENT
    path = pinned.path(tmp_path / "maven")
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.part").write_bytes(b"x" * 7)
    assert pinned.classpath()[0].read_bytes() == CONTENT
    assert mirror.asked == ["bytes=7-", None], "begun anew"


def test_a_download_that_never_ends_well_keeps_what_it_has(mirror: Mirror, pinned: Pinned, tmp_path: Path) -> None:
    mirror.files[JAR], mirror.cut = CONTENT, 10
    with pytest.raises(StackError, match="what is downloaded already is kept"):
        pinned.classpath()
    path = pinned.path(tmp_path / "maven")
    assert not path.exists()
    assert path.with_name(f"{path.name}.part").stat().st_size == len(CONTENT) // 2


def test_two_at_once_download_a_jar_once(mirror: Mirror, pinned: Pinned) -> None:
    mirror.files[JAR] = CONTENT
    with ThreadPoolExecutor(8) as pool:
        found = {job.result()[0] for job in [pool.submit(pinned.classpath) for _ in range(8)]}
    assert {path.read_bytes() for path in found} == {CONTENT}
    assert len(mirror.asked) == 1
    assert [each.name for each in found.pop().parent.iterdir()] == ["thing-1.0.jar"]


# --- certificates and proxies -----------------------------------------------------------------------------------------


@pytest.fixture
def tls_mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Mirror, Path]]:
    """A mirror with an unknown certificate authority, and the file of that authority."""
    authority, mirror = trustme.CA(), Mirror()
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    mirror.files[JAR] = CONTENT
    with mirror.serve(authority.issue_cert("localhost")) as server:
        monkeypatch.setenv("VISION_MAVEN_URL", f"https://localhost:{server.server_port}/maven")
        yield mirror, file
        server.shutdown()


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_authority_of_the_companys_own(
    tls_mirror: tuple[Mirror, Path], pinned: Pinned, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tls_mirror[1]))
    assert pinned.classpath()[0].read_bytes() == CONTENT


def test_an_unknown_authority_is_refused_at_once_and_both_variables_are_named(
    tls_mirror: tuple[Mirror, Path], pinned: Pinned, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(StackError, match=r"not trusted here.*SSL_CERT_FILE.*REQUESTS_CA_BUNDLE.*run `vision up` again"):
        pinned.classpath()
    assert tls_mirror[0].asked == []


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_that_names_no_certificates(
    mirror: Mirror, pinned: Pinned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "absent.pem"))
    with pytest.raises(StackError, match=rf"{variable}=.*absent\.pem is no file of certificates"):
        pinned.classpath()


def test_the_proxy_is_asked_unless_the_host_is_excepted(
    mirror: Mirror, pinned: Pinned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mirror.files[JAR] = CONTENT
    address = os.environ["VISION_MAVEN_URL"].removesuffix("/maven/")
    monkeypatch.setenv("HTTP_PROXY", address)  # a proxy is asked for the whole address
    monkeypatch.setenv("VISION_MAVEN_URL", "http://maven.invalid/maven")
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert pinned.classpath()[0].read_bytes() == CONTENT
    assert mirror.paths == [f"http://maven.invalid/maven/{JAR}"]
    monkeypatch.setenv("VISION_CACHE", str(tmp_path / "other"))
    monkeypatch.setenv("NO_PROXY", "maven.invalid")
    with pytest.raises(StackError, match="HTTPS_PROXY, NO_PROXY"):
        pinned.classpath()


def test_a_mirror_without_the_jar_is_named(mirror: Mirror, pinned: Pinned) -> None:
    with pytest.raises(StackError, match=r"127\.0\.0\.1 answered 404.*VISION_MAVEN_URL"):
        pinned.classpath()
