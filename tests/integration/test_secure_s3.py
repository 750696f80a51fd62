"""S3 over TLS, with temporary keys, with a role, in virtual-host style and with encryption: against a real rclone."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from tests.integration.pipeline import free_port
from tests.processes import serving
from tests.tls_files import Certificates, make_certificates
from vision_app.settings import Settings, SettingsError, load_settings
from vision_app.stack.reachable import Unreachable
from vision_app.stack.reachable import s3 as doctor
from vision_app.stack.s3 import program
from vision_app.stores.s3 import S3Store, StoreMisconfigured, StoreUnavailable

BUCKET, ACCESS, SECRET = "vision", "key-of-the-test", "canary-secret-of-the-test"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def rclone(folder: Path, *options: str) -> Iterator[int]:
    """A store with one bucket; yields its port."""
    (folder / "data" / BUCKET).mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [program(), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--vfs-cache-mode", "off", *options]
    environment = {"RCLONE_AUTH_KEY": f'"{ACCESS},{SECRET}"', "RCLONE_CONFIG": "/dev/null"}
    with serving([*command, str(folder / "data")], port, folder / "rclone.log", environment):
        yield port


def with_tls(pair: tuple[Path, Path]) -> tuple[str, ...]:
    return ("--cert", str(pair[0]), "--key", str(pair[1]))


@pytest.fixture(scope="module")
def secured(made: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with rclone(tmp_path_factory.mktemp("secured"), *with_tls(made.server)) as port:
        yield port


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with rclone(tmp_path_factory.mktemp("plain")) as port:
        yield port


def settings_for(url: str, **changes: Any) -> Settings:
    keys = {"s3_access_key_id": ACCESS, "s3_secret_access_key": SECRET}
    return load_settings(**{"s3_endpoint_url": url, "s3_bucket": BUCKET, **keys, **changes})


async def round_trip(settings: Settings) -> None:
    """Write, list, read and delete an object; then what the doctor says."""
    store = S3Store(settings)
    await store.open()
    try:
        assert not await store.ensure_bucket()
        await store.put("media/t/a.bin", b"picture", "image/png", {"tenant": "t"})
        assert [head.key async for head in store.list("media/")] == ["media/t/a.bin"]
        assert await store.read("media/t/a.bin", 100) == b"picture"
        assert await store.delete(["media/t/a.bin"]) == 1
    finally:
        await store.close()
    assert await doctor(settings) == "answers, bucket vision is there"


async def refusal(settings: Settings) -> tuple[str, str]:
    """What the worker says at its start, and what the doctor says."""
    store = S3Store(settings)
    await store.open()
    try:
        with pytest.raises(StoreUnavailable) as of_worker:
            await store.ensure_bucket()
    finally:
        await store.close()
    with pytest.raises(Unreachable) as of_doctor:
        await doctor(settings)
    return str(of_worker.value), str(of_doctor.value)


async def test_tls_with_our_own_authority(secured: int, made: Certificates) -> None:
    await round_trip(settings_for(f"https://localhost:{secured}", s3_ca_file=made.ca))


async def test_an_authority_that_is_not_trusted(secured: int, made: Certificates) -> None:
    for ca in (made.other_ca, None):
        for said in await refusal(settings_for(f"https://localhost:{secured}", s3_ca_file=ca)):
            assert "S3: the server's certificate is signed by an authority that is not trusted here" in said
            assert said.endswith("name the authority's file in S3_CA_FILE")


async def test_an_expired_certificate(made: Certificates, tmp_path: Path) -> None:
    with rclone(tmp_path, *with_tls(made.expired)) as port:
        for said in await refusal(settings_for(f"https://localhost:{port}", s3_ca_file=made.ca)):
            assert said.endswith("S3: the server's certificate has expired; renew it on the server")


async def test_a_certificate_for_another_host_name(made: Certificates, tmp_path: Path) -> None:
    with rclone(tmp_path, *with_tls(made.other_name)) as port:
        for said in await refusal(settings_for(f"https://localhost:{port}", s3_ca_file=made.ca)):
            assert "S3: the server's certificate is for another host name" in said
            assert "S3_ENDPOINT_URL" in said


async def test_tls_to_a_port_without_it(plain: int, made: Certificates) -> None:
    for said in await refusal(settings_for(f"https://localhost:{plain}", s3_ca_file=made.ca)):
        assert "S3: the server does not speak TLS on this port; check the port in S3_ENDPOINT_URL" in said


async def test_a_wrong_secret_key(plain: int) -> None:
    settings = settings_for(f"http://127.0.0.1:{plain}", s3_secret_access_key="another-canary")
    for said in await refusal(settings):
        assert "canary" not in said
        assert "key" in said


def test_an_invalid_file_of_authorities(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    store = S3Store(settings_for("https://localhost:1", s3_ca_file=tmp_path / "ca.pem"))
    with pytest.raises(SettingsError, match=r"S3_CA_FILE: .* cannot be used: not in PEM format"):
        store.open().send(None)


async def test_a_session_token_and_encryption_are_sent_and_signed(plain: int) -> None:
    async with recording(plain) as (url, headers):
        await round_trip(
            settings_for(
                url,
                s3_session_token="canary-token",
                s3_server_side_encryption="aws:kms",
                s3_sse_kms_key_id="key-1",
            )
        )
    assert {request["X-Amz-Security-Token"] for request in headers} == {"canary-token"}
    [written] = [request for request in headers if request.get("x-amz-server-side-encryption")]
    assert written["x-amz-server-side-encryption"] == "aws:kms"
    assert written["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
    assert "x-amz-server-side-encryption;" in written["Authorization"]


async def test_nothing_of_it_is_sent_unless_set(plain: int) -> None:
    async with recording(plain) as (url, headers):
        await round_trip(settings_for(url, s3_sse_kms_key_id="key-1"))
    assert not any("X-Amz-Security-Token" in request or "server-side" in str(request) for request in headers)


async def test_the_bucket_in_the_host_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo

    def resolved(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return resolve("127.0.0.1" if name == f"{BUCKET}.store.test" else name, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)  # patched: stands for a DNS with our name in it
    with rclone(tmp_path, "--force-path-style=false") as port:
        await round_trip(settings_for(f"http://store.test:{port}", s3_addressing_style="virtual"))


async def test_a_role_instead_of_keys(plain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys come from the address that a container's runtime names, as with a pod's identity."""
    credentials = {"AccessKeyId": ACCESS, "SecretAccessKey": SECRET, "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}
    with answering(lambda: json.dumps(credentials).encode()) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
        await round_trip(
            load_settings(
                s3_endpoint_url=f"http://127.0.0.1:{plain}",
                s3_bucket=BUCKET,
                s3_auth="role",
                vision_grant_key="random",
            )
        )


def test_a_role_needs_a_key_for_the_ledger() -> None:
    with pytest.raises(SettingsError, match="VISION_GRANT_KEY is not set and S3_AUTH=role leaves no secret key"):
        load_settings(s3_auth="role")


async def test_no_keys_at_all() -> None:
    with pytest.raises(StoreMisconfigured, match=r"set S3_ACCESS_KEY_ID and S3_SECRET_.*, or S3_AUTH=role"):
        await S3Store(load_settings(s3_access_key_id="", s3_secret_access_key="")).open()


@contextmanager
def answering(answer: Callable[[], bytes]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/keys"
        finally:
            server.shutdown()


class recording:
    """A proxy that notes the headers of each request to the store at `port`; yields its URL and the list."""

    def __init__(self, port: int) -> None:
        self._target, self._headers = f"http://127.0.0.1:{port}", list[dict[str, str]]()

    async def __aenter__(self) -> tuple[str, list[dict[str, str]]]:
        self._http = ClientSession(auto_decompress=False)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}", self._headers

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._http.close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        self._headers.append(dict(request.headers))
        async with self._http.request(
            request.method, self._target + request.raw_path, headers=request.headers, data=await request.read()
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("transfer-encoding", "content-length")}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())
