"""scripts/pin_images.py against a small registry on loopback: tokens, digests, refusals. No real registry is asked."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_deploy_compose import compose

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("pin_images", ROOT / "scripts" / "pin_images.py")
assert _spec
assert _spec.loader
pin_images = importlib.util.module_from_spec(_spec)
sys.modules["pin_images"] = pin_images  # dataclasses look their module up
_spec.loader.exec_module(pin_images)


class Registry(ThreadingHTTPServer):
    """Serves manifests to those who fetched a token for their repository first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.manifests: dict[str, bytes] = {}
        self.told: dict[str, str] = {}
        """Digests that the header claims instead of the true ones."""
        self.public: set[str] = set()
        """Repositories that need no token."""
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def put(self, path: str, content: str) -> str:
        body = json.dumps({"schemaVersion": 2, "annotations": {"content": content}}).encode()
        self.manifests[path] = body
        return "sha256:" + hashlib.sha256(body).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path.startswith("/token?"):
            return self.answer(200, json.dumps({"token": self.path.partition("scope=repository%3A")[2]}).encode())
        _, _, rest = self.path.partition("/v2/")
        repository, _, tag = rest.rpartition("/manifests/")
        wanted = f"Bearer {repository.replace('/', '%2F')}%3Apull"
        if repository not in self.server.public and self.headers["Authorization"] != wanted:
            realm = f'Bearer realm="http://{self.server.address}/token",service="here"'
            return self.answer(401, b"", {"WWW-Authenticate": realm})
        body = self.server.manifests.get(f"{repository}:{tag}")
        if body is None or "image.index.v1+json" not in self.headers["Accept"]:
            return self.answer(404, b"")
        true = "sha256:" + hashlib.sha256(body).hexdigest()
        return self.answer(200, body, {"Docker-Content-Digest": self.server.told.get(repository, true)})

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def files(tmp_path: Path, registry: Registry) -> Path:
    (tmp_path / "compose.yml").write_text(
        f"# a comment stays\nservices:\n  a:\n    image: {registry.address}/team/app:1.0\n"
        f"  b:\n    image: {registry.address}/plain:2.1-alpine # and this\n  own:\n    image: vision-app:0.1.0\n"
    )
    (tmp_path / "Dockerfile").write_text(f"ARG BASE_IMAGE={registry.address}/team/app:1.0\nFROM ${{BASE_IMAGE}}\n")
    return tmp_path


def run(folder: Path, *arguments: str) -> int:
    return int(pin_images.main(list(arguments), folder, ("compose.yml", "Dockerfile")))


def test_tags_get_the_digests_of_the_registry_and_nothing_else_changes(registry: Registry, files: Path) -> None:
    app, plain = registry.put("team/app:1.0", "one"), registry.put("plain:2.1-alpine", "two")
    registry.public.add("plain")
    before = (files / "compose.yml").read_text()
    assert run(files) == 0
    at = registry.address
    assert (files / "compose.yml").read_text() == before.replace(
        f"{at}/team/app:1.0", f"{at}/team/app:1.0@{app}"
    ).replace(f"{at}/plain:2.1-alpine", f"{at}/plain:2.1-alpine@{plain}")
    assert (files / "Dockerfile").read_text().startswith(f"ARG BASE_IMAGE={at}/team/app:1.0@{app}\n")
    assert sum(path.startswith("/token?") for path in registry.asked) == 1, "plain needs none, app is asked for once"


def test_a_moved_tag_is_pinned_again_and_told_by_check(registry: Registry, files: Path) -> None:
    registry.put("team/app:1.0", "one")
    registry.put("plain:2.1-alpine", "two")
    assert run(files, "--check") == 1
    assert "@" not in (files / "compose.yml").read_text()
    assert run(files) == 0
    assert run(files, "--check") == 0
    moved = registry.put("team/app:1.0", "another")
    assert run(files, "--check") == 1
    assert run(files) == 0
    text = (files / "compose.yml").read_text()
    assert f"team/app:1.0@{moved}\n" in text
    assert text.count("@sha256:") == 2


@pytest.mark.parametrize("fault", ["no tag", "lies", "away"])
def test_nothing_is_written_unless_every_image_was_found(
    registry: Registry, files: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.put("plain:2.1-alpine", "two")
    if fault == "lies":
        registry.put("team/app:1.0", "one")
        registry.told["team/app"] = "sha256:" + "0" * 64
    before = {path.name: path.read_text() for path in files.iterdir()}
    if fault == "away":
        before["compose.yml"] = before["compose.yml"].replace(registry.address, "127.0.0.1:1")
        (files / "compose.yml").write_text(before["compose.yml"])
    assert run(files) == 2
    assert {path.name: path.read_text() for path in files.iterdir()} == before
    told = capsys.readouterr().err
    assert "nothing was changed" in told
    assert {"no tag": "correct the name", "lies": "do not use it", "away": "HTTPS_PROXY"}[fault] in told


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis:7.2.11-alpine", "https://registry-1.docker.io/v2/library/redis/manifests/7.2.11-alpine"),
        ("grafana/grafana:12.1.0@sha256:ab", "https://registry-1.docker.io/v2/grafana/grafana/manifests/12.1.0"),
        ("quay.io/a/b/c:v1", "https://quay.io/v2/a/b/c/manifests/v1"),
        ("localhost:5000/x:1", "http://localhost:5000/v2/x/manifests/1"),
    ],
)
def test_where_an_image_is_asked_for(text: str, url: str) -> None:
    assert pin_images.Image.parse(text).manifest_url == url


def test_an_image_without_a_tag_is_refused() -> None:
    with pytest.raises(ValueError, match="has no tag"):
        pin_images.Image.parse("localhost:5000/x")


def test_every_image_of_the_project_is_found() -> None:
    found: set[str] = set()
    for name in pin_images.FILES:
        text = (ROOT / name).read_text()
        found |= pin_images.images(text)
        if name.endswith(".yml"):
            listed = {s["image"] for s in compose(text).get("services", {}).values() if "image" in s}
            assert {image for image in listed if not image.startswith("vision-app:")} == pin_images.images(text)
    assert any(image.startswith("python:") for image in found)
    assert len(found) >= 10
    for image in found:
        pin_images.Image.parse(image)
