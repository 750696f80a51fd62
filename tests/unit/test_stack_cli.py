"""The commands' output and exit codes if nothing runs or a setting is wrong."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vision_app.cli import COMMANDS, main


@pytest.fixture(autouse=True)
def _clean_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISION_HOME", str(tmp_path / ".vision"))


def vision(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_imported_and_explains_itself(name: str) -> None:
    command = main.get_command(main.make_context("vision", [], resilient_parsing=True), name)
    assert command is not None
    assert command.help


def test_help_imports_no_client_library() -> None:
    code = "import sys; from vision_app.cli import main; print(*sys.modules); main(['--help'], standalone_mode=False)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"faust", "aiokafka", "asyncpg", "neo4j", "aioboto3", "httpx"} & set(output.split())


@pytest.mark.parametrize("arguments", [["config"], ["up"], ["worker"], ["kafka", "topics", "--list"]])
def test_wrong_settings_are_one_line_each_and_exit_code_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISION_API_PORT", "high")
    monkeypatch.setenv("REDIS_URL", "http://127.0.0.1")
    result = vision(*arguments)
    assert result.exit_code == 2
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["REDIS_URL", "VISION_API_PORT"]


def test_doctor_reports_wrong_settings_among_its_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_API_PORT", "high")
    result = vision("doctor")
    assert result.exit_code == 1
    assert "FAILED settings: VISION_API_PORT" in result.output


def test_doctor_says_what_to_do_when_nothing_runs() -> None:
    result = vision("doctor")
    assert "redis: not running; start it with `vision up`" in result.output


def test_config_hides_secrets_and_tells_where_values_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:my-password@db.example/vision")
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "my-secret")
    Path(".env").write_text("VISION_API_TOKENS=my-token=tenant\nLOG_LEVEL=DEBUG\n")
    result = vision("config", "--json")
    values = json.loads(result.output)
    assert not re.search("my-(password|secret|token)", result.output)
    assert not re.search("my-(password|secret|token)", vision("config").output)
    assert values["DATABASE_URL"] == {
        "value": "postgresql://me:********@db.example/vision",
        "source": "environment",
    }
    assert values["VISION_API_TOKENS"] == {"value": "********", "source": ".env"}
    assert values["LOG_LEVEL"] == {"value": "DEBUG", "source": ".env"}
    assert values["GIGACHAT_CREDENTIALS"] == {"value": "", "source": "default"}


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["groups"], ["--describe", "--group", "mine"]),
        (["groups", "--list"], ["--list"]),
        (["topics"], ["--list"]),
        (["topics", "--describe"], ["--describe"]),
    ],
)
def test_kafkas_tools_show_something_without_arguments(
    arguments: list[str], passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    # patched: the command runs a Java program and ends this process
    monkeypatch.setattr("vision_app.cli.kafka._run", lambda *given: ran.append(given[-1]))
    monkeypatch.setenv("KAFKA_APP_ID", "mine")
    assert vision("kafka", *arguments).exit_code == 0
    assert ran == [passed]


def test_status_of_nothing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:  # bound and not listening: nobody answers, also if a worker runs on the usual port
        unused.bind(("127.0.0.1", 0))
        for variable in ("VISION_API_PORT", "METRICS_PORT"):
            monkeypatch.setenv(variable, str(unused.getsockname()[1]))
        _status_of_nothing()


def _status_of_nothing() -> None:
    assert vision("status").exit_code == 1
    assert json.loads(vision("status", "--json").output) == {"running": False, "ready": False, "services": []}


def test_ordering_workers_about_where_none_run_is_a_failure() -> None:
    result = vision("worker", "restart", "1")
    assert (result.exit_code, "start it with `vision up`" in result.stderr) == (1, True)
    assert vision("worker", "stop", "all").exit_code == 2


def test_stopping_nothing_is_fine() -> None:
    result = vision("down")
    assert (result.exit_code, result.output) == (0, "Nothing was running.\n")


def test_logs_names_what_there_is() -> None:
    logs = Path(".vision/logs")
    logs.mkdir(parents=True)
    (logs / "redis.log").write_text("one\ntwo\nthree\n")
    result = vision("logs", "rediss")
    assert result.exit_code == 1
    assert "there are: redis" in result.stderr
    assert vision("logs", "redis", "-n", "2").output == "two\nthree\n"


@pytest.mark.parametrize(
    "command", ["budget show", "trace", "pause", "publish --tenant-id", "audit --tenant", "cost --tenant"]
)
def test_an_argument_that_is_not_utf_8_is_refused_in_one_sentence(command: str) -> None:
    refused = vision(*command.split(), "a\udcff\udcfe")
    assert refused.exit_code == 2
    assert refused.output.splitlines()[-1].endswith("is not UTF-8; check the terminal's encoding")
    assert refused.exception is None or isinstance(refused.exception, SystemExit)


def test_a_file_may_have_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yml")
    Path(name).write_text("nonsense: 1\n")
    checked = vision("policy", "check", name)
    assert "is not UTF-8" not in checked.output
    assert checked.exit_code == 1


def test_the_accounts_of_a_tenant_without_a_name_are_not_taken() -> None:
    refused = vision("audit", "--tenant", "")
    assert (refused.exit_code, "never empty" in refused.output) == (2, True)
