"""The API over TLS: the shipped configuration of nginx before a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.pipeline import Worker, free_port
from tests.nginx import nginx
from tests.tls_files import Certificates, make_certificates
from vision_app.clients.tls import TlsFiles, client_context

WORKER = {"VISION_API_TOKENS": "canary-a=tenant-a,canary-all=*"}
SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx" / "vision.conf"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def front(worker: Worker, made: Certificates, tmp_path: Path) -> Iterator[str]:
    """The address of nginx with the shipped configuration; only ports and files are replaced."""
    port = free_port()
    site = SHIPPED.read_text()
    for shipped, own in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "server_name vision.example": "server_name localhost",
        "/etc/nginx/vision.pem": str(made.server[0]),
        "/etc/nginx/vision.key": str(made.server[1]),
        "http://127.0.0.1:8000": f"http://127.0.0.1:{urlsplit(worker.url).port}",
    }.items():
        assert shipped in site
        site = site.replace(shipped, own)
    with nginx(tmp_path, port, site):
        yield f"https://localhost:{port}"


async def test_the_api_over_tls(front: str, worker: Worker, made: Certificates) -> None:
    await worker.ready()
    trusted = client_context(TlsFiles("TEST", made.ca))
    async with httpx.AsyncClient(base_url=front, verify=trusted, trust_env=False) as http:
        assert (await http.get("/healthz")).status_code == 200
        path = "/api/v1/budget/tenant-a"
        assert (await http.get(path)).status_code == 401
        assert (await http.get(path, headers={"Authorization": "Bearer canary-b"})).status_code == 401
        for token in ("canary-a", "canary-all"):
            answer = await http.get(path, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
        assert (await http.get(path.replace("-a", "-b"), headers={"Authorization": "Bearer canary-a"})).status_code in (
            403,
            404,
        )
        too_large = await http.post("/api/v1/budget/tenant-a/reset", content=b" " * 70_000)
        assert too_large.status_code == 413


async def test_the_page_over_tls(front: str, worker: Worker, made: Certificates) -> None:
    """A browser sends `Origin` with the port; the session goes over https only."""
    await worker.ready()
    trusted = client_context(TlsFiles("TEST", made.ca))
    async with httpx.AsyncClient(base_url=front, verify=trusted, trust_env=False, headers={"Origin": front}) as http:
        assert (await http.get("/ui", follow_redirects=True)).url.path == "/ui/login"
        entered = await http.post("/ui/login", data={"token": "canary-all"})
        assert (entered.status_code, "Secure" in entered.headers["Set-Cookie"]) == (303, True)
        assert (await http.get("/ui/tenants")).status_code == 200
        foreign = await http.post("/ui/login", data={"token": "canary-all"}, headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
