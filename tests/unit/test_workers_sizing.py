"""How many processes VISION_WORKERS means, and for which commands. Pure, with control groups made of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vision_app.app import create_app
from vision_app.settings import SettingsError, load_settings
from vision_app.workers.command import several, without_app
from vision_app.workers.machine import Machine, this_machine
from vision_app.workers.processes import api_host
from vision_app.workers.sizing import size

GIB = 1024**3
ROOMY = 1000 * GIB


def wanted(workers: str, cores: float = 64, memory: int = ROOMY, **settings: Any) -> int:
    return size(load_settings(vision_workers=workers, **settings), Machine(cores, memory)).processes


@pytest.mark.parametrize(
    ("cores", "processes"), [(0.5, 1), (1, 1), (1.9, 1), (2, 2), (3, 3), (4, 3), (5, 4), (8, 6), (16, 12), (64, 48)]
)
def test_auto_leaves_one_of_four_cores_to_decoders(cores: float, processes: int) -> None:
    assert wanted("auto", cores, kafka_topic_partitions=100) == processes


def test_auto_is_bounded_by_partitions_and_by_memory() -> None:
    assert wanted("auto", kafka_topic_partitions=3) == 3
    each = 320 + 1280  # MiB: a process and one decoder with a picture of the largest size
    assert wanted("auto", memory=(128 + 4 * each) * 1024**2) == 4
    assert wanted("auto", memory=(128 + 4 * each - 1) * 1024**2) == 3
    assert wanted("auto", memory=(128 + 4 * each) * 1024**2, vision_decoding_memory_mb=160) == 8
    assert wanted("auto", memory=GIB // 2) == 1


def test_the_reason_names_what_was_decisive() -> None:
    assert "2 cores" in size(load_settings(vision_workers="auto"), Machine(2, ROOMY)).why
    assert "KAFKA_TOPIC_PARTITIONS" in size(load_settings(vision_workers="auto"), Machine(64, ROOMY)).why
    assert "GiB of memory" in size(load_settings(vision_workers="auto"), Machine(64, 4 * GIB)).why


def test_a_number_is_obeyed_up_to_the_partitions_and_a_doubt_is_said() -> None:
    assert wanted("3", cores=1) == 3
    assert wanted("12") == 8
    crowded = size(load_settings(vision_workers="4"), Machine(4, 4 * GIB))
    assert (crowded.processes, "room for 2" in crowded.doubt) == (4, True)
    assert size(load_settings(vision_workers="2"), Machine(4, 4 * GIB)).doubt == ""


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_other_values_are_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="VISION_WORKERS: must be auto, or a number from 1 on"):
        load_settings(vision_workers=value)


def test_several_processes_have_one_decoder_each_unless_told_otherwise() -> None:
    assert load_settings().vision_decoders == 2
    assert load_settings(vision_workers="1").vision_decoders == 2
    assert load_settings(vision_workers="auto").vision_decoders == 1
    assert load_settings(vision_workers="4", vision_decoders=3).vision_decoders == 3


# --- the machine ------------------------------------------------------------------------------------------------------


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def seen(tmp_path: Path, membership: str) -> Machine:
    (tmp_path / "membership").write_text(membership)
    return this_machine(tmp_path / "cgroup", tmp_path / "membership")


def test_the_second_version_counts_the_groups_above_too(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root / "a" / "b", cpu__max="max 100000", memory__max="max")
    group(root / "a", cpu__max="50000 100000", memory__max="1000000")
    assert seen(tmp_path, "0::/a/b\n") == Machine(0.5, 1_000_000)


def test_in_a_container_the_own_group_is_the_root(tmp_path: Path) -> None:
    group(tmp_path / "cgroup", cpu__max="25000 100000", memory__max="2000000")
    assert seen(tmp_path, "0::/docker/0123\n") == Machine(0.25, 2_000_000)


def test_the_first_version(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    group(root / "cpu,cpuacct" / "x", cpu__cfs_quota_us="20000", cpu__cfs_period_us="100000")
    group(root / "cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    group(root / "memory" / "x", memory__limit_in_bytes="3000000")
    group(root / "memory", memory__limit_in_bytes="9223372036854771712")
    assert seen(tmp_path, "5:cpu,cpuacct:/x\n4:memory:/x\n1:name=systemd:/\n") == Machine(0.2, 3_000_000)


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    found = this_machine(tmp_path / "none", tmp_path / "nothing")
    assert found.cores >= 1
    assert found.memory_bytes > GIB // 4
    assert seen(tmp_path, "0::/a\n") == found


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "advertised", "listens", "told"),
    [
        ("127.0.0.1", "", "127.0.0.1", "http://127.0.0.1:8000"),
        ("::1", "", "127.0.0.1", None),
        ("0.0.0.0", "", "127.0.0.1", "http://0.0.0.0:8000"),  # noqa: S104 - never listened on
        ("10.0.0.5", "", "10.0.0.5", "http://10.0.0.5:8000"),
        ("0.0.0.0", "node-1.internal", "0.0.0.0", "http://node-1.internal:8000"),  # noqa: S104 - never listened on
    ],
)
def test_where_processes_listen_and_what_a_worker_tells_the_others(
    host: str, advertised: str, listens: str, told: str | None
) -> None:
    """The supervisor sets VISION_API_HOST of its processes to the first; the second is what each of them tells then."""
    settings = load_settings(vision_api_host=host, vision_advertised_host=advertised, vision_api_tokens="t=*")
    assert api_host(settings) == listens
    if told is not None:
        assert str(create_app(settings).conf.canonical_url) == told


@pytest.mark.parametrize("value", ["http://a", "a:80", "u@a", "a b"])
def test_an_advertised_host_is_a_host_alone(value: str) -> None:
    with pytest.raises(SettingsError, match="VISION_ADVERTISED_HOST: must be a host name or an address alone"):
        load_settings(vision_advertised_host=value)


# --- the command ------------------------------------------------------------------------------------------------------


def test_only_the_command_worker_with_more_than_one_is_supervised(monkeypatch: pytest.MonkeyPatch) -> None:
    assert several(["worker"]) is None
    monkeypatch.setenv("VISION_WORKERS", "2")
    found = several(["--quiet", "worker", "--loglevel", "info"])
    assert found is not None
    assert (found.size.processes, found.arguments) == (2, ("--quiet", "worker", "--loglevel", "info"))
    assert several(["agents"]) is None
    assert several(["worker", "--help"]) is None
    monkeypatch.setenv("VISION_API_PORT", "0")  # the worker itself refuses it
    assert several(["worker"]) is None
    monkeypatch.setenv("VISION_API_PORT", "none")
    assert several(["worker"]) is None


@pytest.mark.parametrize("option", [["-p", "1"], ["--web-port=1"], ["--datadir", "/x"]])
def test_an_option_that_processes_cannot_share_is_refused(option: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_WORKERS", "2")
    with pytest.raises(SettingsError, match=r"cannot share this option.*VISION_WORKERS=1"):
        several(["worker", *option])


@pytest.mark.parametrize("given", [["-A", "vision_app.app"], ["--app", "vision_app.app"], ["--app=vision_app.app"]])
def test_the_name_of_the_app_is_left_out(given: list[str]) -> None:
    assert without_app([*given, "worker", "-l", "info"]) == ("worker", "-l", "info")
