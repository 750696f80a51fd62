"""Generated ids and a user's passwords may begin with "-": no tool of a service may take them for an option."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import serving
from vision_app.settings import load_settings
from vision_app.stack.client import running_stack
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.kafka import Kafka
from vision_app.stack.neo4j import Neo4j
from vision_app.stack.reachable import neo4j as reach


def home_in(folder: Path) -> Home:
    home = Home(folder)
    home.root.mkdir(exist_ok=True)
    return home


def test_kafka_is_formatted_with_an_id_that_looks_like_an_option(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    service = Kafka(home, Instance(keys={"kafka-cluster": "-h-KMbaRSgueDvUMcyLbcQ"}))
    service.prepare(lambda _: None)
    assert "cluster.id=-h-KMbaRSgueDvUMcyLbcQ" in (home.data("kafka") / "log" / "meta.properties").read_text()


async def test_neo4j_takes_a_password_that_looks_like_an_option(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    service = Neo4j(home, Instance(), "--verbose-secret")
    service.prepare(lambda _: None)
    with serving(service.command(), service.port, tmp_path / "neo4j.log", service.environment()):
        settings = load_settings(neo4j_uri=service.url, neo4j_user="neo4j", neo4j_password="--verbose-secret")
        assert await reach(settings) == "answers, the password is right"


def test_java_services_start_in_the_locale_c_in_a_folder_with_other_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Java in the locale C opens no such path, and reads its properties files as Latin-1."""
    for name in ("LC_ALL", "LANG"):
        monkeypatch.setenv(name, "C")
    home = tmp_path / "дом 'x\" y"
    with running_stack(home, services=("kafka", "neo4j")):
        assert (home / "data" / "kafka" / "log" / "meta.properties").exists()
        assert (home / "data" / "neo4j" / "data" / "dbms").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == [home.name], "nothing is left beside it"
