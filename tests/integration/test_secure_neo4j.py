"""Neo4j over TLS and with a database's name: against the real server with that security on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import serving
from tests.tls_files import Certificates, make_certificates
from vision_app.clients.neo4j import neo4j_driver, neo4j_session
from vision_app.settings import Settings, SettingsError, load_settings
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.neo4j import Neo4j
from vision_app.stack.reachable import Unreachable
from vision_app.stack.reachable import neo4j as doctor
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.neo4j import GraphSink

PASSWORD, DATABASE = "canary-password", "graph"


class SecureNeo4j(Neo4j):
    """The embedded server, which demands TLS and has a database of another name than the usual one."""

    pair: tuple[Path, Path]

    def _configuration(self) -> str:
        folder = self.data / "certificates"
        folder.mkdir(parents=True, exist_ok=True)
        for source, name in zip(self.pair, ("public.crt", "private.key"), strict=True):
            shutil.copy(source, folder / name)
        return super()._configuration() + "\n".join(
            [
                "server.bolt.tls_level=REQUIRED",
                "dbms.ssl.policy.bolt.enabled=true",
                f"dbms.ssl.policy.bolt.base_directory={folder}",
                "dbms.ssl.policy.bolt.private_key=private.key",
                "dbms.ssl.policy.bolt.public_certificate=public.crt",
                "dbms.ssl.policy.bolt.client_auth=NONE",
                f"initial.dbms.default_database={DATABASE}",
                "",
            ]
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("neo4j")


@contextmanager
def neo4j(folder: Path, pair: tuple[Path, Path]) -> Iterator[int]:
    """The server with this certificate, its data in `folder`; yields its port."""
    home = Home(folder)
    home.root.mkdir(exist_ok=True)
    service = SecureNeo4j(home, Instance.load(home), PASSWORD)
    service.pair = pair
    service.prepare(lambda _: None)
    with serving(service.command(), service.port, folder / "neo4j.log", service.environment()):
        yield service.port


@pytest.fixture(scope="module")
def secured(made: Certificates, folder: Path) -> Iterator[int]:
    with neo4j(folder, made.server) as port:
        yield port


def settings_for(uri: str, **changes: object) -> Settings:
    return load_settings(**{"neo4j_uri": uri, "neo4j_user": "neo4j", "neo4j_password": PASSWORD, **changes})


async def refusal(settings: Settings) -> tuple[str, str]:
    """What the worker says at its start, and what the doctor says."""
    sink = GraphSink(settings)
    try:
        with pytest.raises(SinkUnavailable) as of_worker:
            await sink.open()
    finally:
        await sink.close()
    with pytest.raises(Unreachable) as of_doctor:
        await doctor(settings)
    assert "canary" not in f"{of_worker.value} {of_doctor.value}"
    return str(of_worker.value), str(of_doctor.value)


@pytest.mark.parametrize("scheme", ["bolt+s", "neo4j+s"])
@pytest.mark.parametrize("database", ["", DATABASE])
async def test_tls_with_our_own_authority(secured: int, made: Certificates, scheme: str, database: str) -> None:
    settings = settings_for(f"{scheme}://localhost:{secured}", neo4j_ca_file=made.ca, neo4j_database=database)
    sink = GraphSink(settings)
    await sink.open()
    await sink.close()
    assert await doctor(settings) == "answers, the password is right"
    async with neo4j_driver(settings) as driver, neo4j_session(driver, settings) as session:
        answer = await session.run("CALL db.info() YIELD name RETURN name")
        assert (await answer.single(strict=True))["name"] == DATABASE


async def test_tls_without_verification_when_asked_for(secured: int) -> None:
    assert await doctor(settings_for(f"bolt+ssc://localhost:{secured}")) == "answers, the password is right"


async def test_an_authority_that_is_not_trusted(secured: int, made: Certificates) -> None:
    for ca in (made.other_ca, None):
        for said in await refusal(settings_for(f"neo4j+s://localhost:{secured}", neo4j_ca_file=ca)):
            assert "Neo4j: the server's certificate is signed by an authority that is not trusted here" in said
            assert "name the authority's file in NEO4J_CA_FILE" in said


async def test_a_wrong_password(secured: int, made: Certificates) -> None:
    uri = f"bolt+s://localhost:{secured}"
    for said in await refusal(settings_for(uri, neo4j_ca_file=made.ca, neo4j_password="other-canary")):
        assert "NEO4J_PASSWORD" in said
        assert "refuse" in said


async def test_a_database_that_is_not_there(secured: int, made: Certificates) -> None:
    uri = f"bolt+s://localhost:{secured}"
    for said in await refusal(settings_for(uri, neo4j_ca_file=made.ca, neo4j_database="nosuch")):
        assert "nosuch" in said
        assert "check NEO4J_DATABASE" in said


async def test_no_tls_to_a_server_that_demands_it(secured: int) -> None:
    for said in await refusal(settings_for(f"bolt://localhost:{secured}")):
        assert "check NEO4J_URI" in said


async def test_an_expired_certificate_and_one_for_another_name(made: Certificates, tmp_path: Path) -> None:
    for pair, says in [
        (made.expired, "Neo4j: the server's certificate has expired; renew it on the server"),
        (made.other_name, "Neo4j: the server's certificate is for another host name"),
    ]:
        with neo4j(tmp_path, pair) as port:
            for said in await refusal(settings_for(f"bolt+s://localhost:{port}", neo4j_ca_file=made.ca)):
                assert says in said


def test_an_authority_for_a_connection_without_tls(made: Certificates) -> None:
    with pytest.raises(SettingsError, match="NEO4J_CA_FILE is set and NEO4J_URI does not use it"):
        settings_for("bolt://localhost:7687", neo4j_ca_file=made.ca)
