"""GigaChat with a client certificate and through a proxy: nginx before the simulator, and tinyproxy on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.pipeline import free_port
from tests.nginx import nginx
from tests.processes import installed, serving
from tests.tls_files import Certificates, make_certificates
from vision_app.providers.base import ProviderOutage
from vision_app.providers.gigachat import GigaChat
from vision_app.settings import Settings, SettingsError, load_settings
from vision_app.simulator import RunningSimulator, running_simulator
from vision_app.stack.reachable import Unreachable
from vision_app.stack.reachable import gigachat as doctor

DISTANT = "127.1"
"""A spelling of 127.0.0.1 that is no loopback address for the client, so that it takes the proxy."""

SITE = """
server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    client_max_body_size 32m;
    {more}
    location / {{ proxy_pass {origin}; proxy_set_header Host 127.0.0.1; }}
}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator() as running:
        yield running


@contextmanager
def nginx_before(origin: str, folder: Path, pair: tuple[Path, Path], more: str = "") -> Iterator[int]:
    """nginx with this certificate before `origin`; yields its port."""
    port = free_port()
    site = SITE.format(port=port, certificate=pair[0], key=pair[1], origin=origin, more=more)
    with nginx(folder, port, site):
        yield port


@contextmanager
def tinyproxy(folder: Path) -> Iterator[int]:
    """A proxy that wants the user `vision` with a password; yields its port."""
    port = free_port()
    configuration = folder / "tinyproxy.conf"
    lines = [f"Port {port}", "Listen 127.0.0.1", "Allow 127.0.0.1", "BasicAuth vision canary-password", "MaxClients 20"]
    configuration.write_text("\n".join([*lines, f'LogFile "{folder}/proxied.log"', "LogLevel Connect", ""]))
    with serving([installed("tinyproxy"), "-d", "-c", str(configuration)], port, folder / "tinyproxy.log"):
        yield port


def settings_for(port: int, host: str = "localhost", **changes: Any) -> Settings:
    origin = f"https://{host}:{port}"
    addresses = {"gigachat_base_url": f"{origin}/v1", "gigachat_auth_url": f"{origin}/api/v2/oauth"}
    return load_settings(**{**addresses, "gigachat_credentials": RunningSimulator.credentials(), **changes})


async def sign_in(settings: Settings) -> None:
    client = GigaChat(settings)
    await client.open()
    try:
        await client.sign_in()
    finally:
        await client.close()


async def refusal(settings: Settings) -> tuple[str, str]:
    """What the worker says when it signs in, and what the doctor says."""
    with pytest.raises(ProviderOutage) as of_worker:
        await sign_in(settings)
    with pytest.raises(Unreachable) as of_doctor:
        await doctor(settings)
    assert "canary" not in f"{of_worker.value} {of_doctor.value}"
    return str(of_worker.value), str(of_doctor.value)


async def test_tls_with_a_further_authority(made: Certificates, simulator: RunningSimulator, tmp_path: Path) -> None:
    with nginx_before(simulator.origin, tmp_path, made.server) as port:
        settings = settings_for(port, gigachat_ca_bundle_file=made.ca)
        await sign_in(settings)
        assert (await doctor(settings)).endswith("the credentials are accepted")
        for ca in (made.other_ca, None):
            for said in await refusal(settings_for(port, gigachat_ca_bundle_file=ca)):
                assert "GigaChat: the server's certificate is signed by an authority that is not trusted here" in said
                assert "name the authority's file in GIGACHAT_CA_BUNDLE_FILE" in said


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (lambda made: made.expired, "GigaChat: the server's certificate has expired; renew it on the server"),
        (lambda made: made.other_name, "GigaChat: the server's certificate is for another host name"),
    ],
    ids=["expired", "other name"],
)
async def test_a_wrong_certificate(
    made: Certificates,
    simulator: RunningSimulator,
    tmp_path: Path,
    pair: Callable[[Certificates], tuple[Path, Path]],
    says: str,
) -> None:
    with nginx_before(simulator.origin, tmp_path, pair(made)) as port:
        for said in await refusal(settings_for(port, gigachat_ca_bundle_file=made.ca)):
            assert says in said


async def test_a_client_certificate(made: Certificates, simulator: RunningSimulator, tmp_path: Path) -> None:
    """nginx takes the handshake without a certificate and answers 400; a strange one, too."""
    demanded = f"ssl_client_certificate {made.ca}; ssl_verify_client on;"
    with nginx_before(simulator.origin, tmp_path, made.server, demanded) as port:
        own: dict[str, Any] = dict(zip(("gigachat_cert_file", "gigachat_key_file"), made.client, strict=True))
        settings = settings_for(port, gigachat_ca_bundle_file=made.ca, **own)
        await sign_in(settings)
        assert (await doctor(settings)).endswith("the credentials are accepted")
        strange: dict[str, Any] = dict(zip(("gigachat_cert_file", "gigachat_key_file"), made.stranger, strict=True))
        for changes in (dict[str, Any](), strange):
            with pytest.raises(Unreachable) as said:
                await doctor(settings_for(port, gigachat_ca_bundle_file=made.ca, **changes))
            assert "client certificate" in str(said.value)
            assert "GIGACHAT_CERT_FILE" in str(said.value)


async def test_through_a_proxy(made: Certificates, simulator: RunningSimulator, tmp_path: Path) -> None:
    with nginx_before(simulator.origin, tmp_path, made.distant) as port, tinyproxy(tmp_path) as proxy:
        log = tmp_path / "proxied.log"

        def behind(user: str) -> Settings:
            url = f"http://{user}@127.0.0.1:{proxy}"
            return settings_for(port, DISTANT, gigachat_ca_bundle_file=made.ca, gigachat_proxy_url=url)

        settings = behind("vision:canary-password")
        await sign_in(settings)
        assert (await doctor(settings)).endswith("the credentials are accepted")
        assert f"CONNECT {DISTANT}:{port}" in log.read_text()
        for said in await refusal(behind("vision:wrong-canary")):
            assert "GigaChat: the proxy refuses (401" in said  # tinyproxy's; others answer 407
            assert "GIGACHAT_PROXY_URL" in said
    for said in await refusal(settings):
        assert "nothing listens" in said


def test_values_that_cannot_be_used(made: Certificates) -> None:
    with pytest.raises(SettingsError, match="GIGACHAT_PROXY_URL: must start with one of http://, https://"):
        load_settings(gigachat_proxy_url="proxy:3128")
    client = GigaChat(load_settings(gigachat_cert_file=made.client[0]))
    with pytest.raises(SettingsError, match="GIGACHAT_CERT_FILE is set and GIGACHAT_KEY_FILE is not; set both or none"):
        client.open().send(None)
