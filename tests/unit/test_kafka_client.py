"""Kafka's clients from the settings: arguments, Faust's credentials, and the file for Kafka's own tools."""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Any

import faust
import pytest

from tests.tls_files import Certificates, make_certificates
from vision_app.cli import kafka as tools
from vision_app.clients.kafka import (
    broker_credentials,
    client_arguments,
    servers,
    tool_configuration,
    tool_path,
    tool_properties,
)
from vision_app.kafka_topics import wanted_topics
from vision_app.settings import Settings, SettingsError, load_settings

PASSWORD = 'of "vision" \\ ä 🙂'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def settings(protocol: str, **more: Any) -> Settings:
    user = {"kafka_sasl_username": "vision", "kafka_sasl_password": PASSWORD} if "SASL" in protocol else {}
    return load_settings(kafka_security_protocol=protocol, **user, **more)


def read_as_java(text: str) -> dict[str, str]:
    """The lines of a properties file, escapes undone as java.util.Properties does."""
    simple = {"n": "\n", "r": "\r", "t": "\t"}
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        content, units = iter(value), ""
        for character in content:
            if character != "\\":
                units += character
            elif (escaped := next(content)) == "u":
                units += chr(int("".join(next(content) for _ in range(4)), 16))
            else:
                units += simple.get(escaped, escaped)
        found[name] = units.encode("utf-16", "surrogatepass").decode("utf-16")
    return found


def test_without_security_only_the_servers_are_named() -> None:
    given = load_settings(kafka_bootstrap_servers="a:1, b:2")
    assert servers(given) == ["a:1", "b:2"]
    assert client_arguments(given) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
        "ssl_context": None,
    }
    assert broker_credentials(given) is None
    assert tool_properties(given) == "security.protocol=PLAINTEXT\n"


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_faust_gets_what_our_own_clients_get(protocol: str, mechanism: str) -> None:
    given = settings(protocol, kafka_sasl_mechanism=mechanism)
    ours, fausts = client_arguments(given), broker_credentials(given)
    assert isinstance(fausts, faust.SASLCredentials)
    assert fausts.protocol.value == ours["security_protocol"] == protocol
    assert fausts.mechanism.value == ours["sasl_mechanism"] == mechanism
    assert fausts.username == ours["sasl_plain_username"] == "vision"
    assert fausts.password == ours["sasl_plain_password"] == PASSWORD
    assert (fausts.ssl_context is None) == (ours["ssl_context"] is None) == (protocol == "SASL_PLAINTEXT")
    assert PASSWORD not in repr(fausts)


def test_certificates_are_compared_with_the_host_name(made: Certificates) -> None:
    for given in (settings("SSL", kafka_ca_file=made.ca), settings("SASL_SSL", kafka_ca_file=made.ca)):
        context = client_arguments(given)["ssl_context"]
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert len(context.get_ca_certs()) == 1


def test_the_file_for_the_tools_keeps_every_character() -> None:
    for mechanism, module in (("PLAIN", "plain.PlainLoginModule"), ("SCRAM-SHA-256", "scram.ScramLoginModule")):
        written = tool_properties(settings("SASL_PLAINTEXT", kafka_sasl_mechanism=mechanism))
        assert written.isascii()
        assert read_as_java(written)["sasl.jaas.config"] == (
            f"org.apache.kafka.common.security.{module} required "
            'username="vision" password="of \\"vision\\" \\\\ ä 🙂";'
        )


def test_the_tools_trust_the_same_authorities(made: Certificates) -> None:
    one = read_as_java(tool_properties(settings("SSL", kafka_ca_file=made.ca)))
    assert one["ssl.truststore.certificates"].count("BEGIN CERTIFICATE") == 1
    usual = read_as_java(tool_properties(settings("SSL")))
    ours = client_arguments(settings("SSL"))["ssl_context"].get_ca_certs()
    assert usual["ssl.truststore.certificates"].count("BEGIN CERTIFICATE") == len(ours) > 10


def test_a_key_in_an_old_format_is_refused_for_the_tools_only(made: Certificates) -> None:
    chain, key = made.client
    given = settings("SSL", kafka_ca_file=made.ca, kafka_cert_file=chain, kafka_key_file=key)
    assert client_arguments(given)["ssl_context"] is not None
    with pytest.raises(SettingsError, match="openssl pkcs8 -topk8"):
        tool_properties(given)


def test_the_file_has_no_name_and_ends_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # patched: the system's folder, to see that nothing is left in it
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with tool_configuration(settings("SASL_PLAINTEXT")) as descriptor:
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(descriptor).st_mode & 0o077 == 0
        assert "sasl.jaas.config" in Path(tool_path(descriptor)).read_text("ascii")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.fixture
def secured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VISION_CACHE", str(tmp_path))
    # patched: it would download the jars
    monkeypatch.setattr(tools, "classpath", lambda *_: [])
    # patched: the command reads the environment of this process
    monkeypatch.setattr(tools, "load_settings", lambda: settings("SASL_PLAINTEXT"))


@pytest.mark.usefixtures("secured")
def test_no_password_is_on_a_command_line() -> None:
    with tools._command("Tool", "--command-config", ["--list"]) as tool:
        assert tool.command[-1] == "--list"
        assert tool.command[tool.command.index("--command-config") + 1] == tool_path(tool.files[0])
        assert not [part for part in tool.command if "of " in part or part == "vision"]


@pytest.mark.usefixtures("secured")
def test_a_configuration_of_the_callers_own_replaces_ours() -> None:
    with tools._command("Tool", "--command-config", ["--command-config", "mine.properties"]) as tool:
        assert tool.files == ()
        assert tool.command.count("--command-config") == 1


def test_the_page_lists_the_rights_on_every_topic() -> None:
    page = (Path(__file__).parents[2] / "docs" / "connecting.md").read_text("utf-8")
    rights = page.partition("### Rights")[2].partition("Nothing is needed")[0]
    named = set(re.findall(r"`([a-z0-9.-]+[.-][a-z0-9.-]+)`", rights))
    assert named == set(wanted_topics(load_settings()))
