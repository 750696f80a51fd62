"""The pinned jars: what the lock files hold, and what happens when a download fails or is not what was pinned."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vision_app.stack import jars
from vision_app.stack.errors import StackError
from vision_app.stack.jars import Jar

CONTENT = b"the bytes of a jar"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_CACHE", str(tmp_path))


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """A Maven repository on this machine: path → content."""
    files: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in files else 404)
            self.end_headers()
            self.wfile.write(files.get(self.path, b""))

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("VISION_MAVEN_URL", f"http://127.0.0.1:{server.server_port}/maven/")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield files
        server.shutdown()


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> Jar:
    jar = Jar("org.example", "thing", "1.0", "", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(jars, "read_lock", lambda name: [jar])
    return jar


@pytest.mark.parametrize("name", ["kafka", "neo4j"])
def test_every_line_of_a_lock_pins_one_jar(name: str) -> None:
    locked = jars.read_lock(name)
    assert len(locked) > 90
    assert all(len(jar.sha256) == 64 and jar.version for jar in locked)
    assert len({(jar.group, jar.artifact, jar.classifier) for jar in locked}) == len(locked)


def test_a_jar_is_downloaded_once(mirror: dict[str, bytes], pinned: Jar) -> None:
    mirror["/maven/org/example/thing/1.0/thing-1.0.jar"] = CONTENT
    heard: list[str] = []
    [path] = jars.classpath("kafka", heard.append)
    assert path.read_bytes() == CONTENT
    assert heard == ["downloading jars: 1 of 1"]
    mirror.clear()
    assert jars.classpath("kafka") == [path]


def test_a_jar_cut_short_is_downloaded_again(mirror: dict[str, bytes], pinned: Jar, tmp_path: Path) -> None:
    mirror["/maven/org/example/thing/1.0/thing-1.0.jar"] = CONTENT
    partial = pinned.path(tmp_path / "maven")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:5])
    assert jars.classpath("kafka")[0].read_bytes() == CONTENT


def test_a_jar_deleted_later_is_noticed(mirror: dict[str, bytes], pinned: Jar) -> None:
    mirror["/maven/org/example/thing/1.0/thing-1.0.jar"] = CONTENT
    [path] = jars.classpath("kafka")
    assert jars.is_complete("kafka")
    path.unlink()
    assert not jars.is_complete("kafka")
    assert jars.classpath("kafka")[0].exists()


def test_a_jar_changed_later_is_noticed_even_if_its_size_is_the_same(mirror: dict[str, bytes], pinned: Jar) -> None:
    mirror["/maven/org/example/thing/1.0/thing-1.0.jar"] = CONTENT
    [path] = jars.classpath("kafka")
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(1, 1))
    assert not jars.is_complete("kafka")
    assert jars.classpath("kafka")[0].read_bytes() == CONTENT


def test_another_file_under_the_name_is_refused(mirror: dict[str, bytes], pinned: Jar, tmp_path: Path) -> None:
    mirror["/maven/org/example/thing/1.0/thing-1.0.jar"] = b"something else"
    with pytest.raises(StackError, match=r"thing-1\.0\.jar .* SHA-256 differs.*VISION_MAVEN_URL"):
        jars.classpath("kafka")
    assert not pinned.path(tmp_path / "maven").exists()


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, pinned: Jar) -> None:
    monkeypatch.setenv("VISION_MAVEN_URL", "http://127.0.0.1:1")
    with pytest.raises(StackError, match=r"cannot download thing-1\.0\.jar: .*Check the network.*VISION_MAVEN_URL"):
        jars.classpath("kafka")
