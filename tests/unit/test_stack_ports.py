"""Choosing ports, and naming the process that holds one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vision_app.stack import ports
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.worker import check_worker_ports


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_somebody_listens_on_is_not_free(taken_port: int) -> None:
    assert not ports.is_free(taken_port)


def test_a_port_on_which_a_connection_was_just_closed_is_free(taken_port: int) -> None:
    free = ports.choose(taken=set())
    with socket.create_server((ports.LOOPBACK, free)) as server:
        client = socket.create_connection((ports.LOOPBACK, free))
        server.accept()[0].close()  # the server's side waits in TIME_WAIT now
        client.close()
    assert ports.is_free(free)


def test_ports_are_chosen_where_they_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_PORTS", "31000-31029")
    chosen = {ports.choose(taken=set()) for _ in range(20)}
    assert chosen <= set(range(31000, 31030))
    with pytest.raises(StackError, match="no free port from 31000 to 31029; stop what listens there, or set VISION_P"):
        ports.choose(taken=set(range(31000, 31030)))


@pytest.mark.parametrize("given", ["", "31000", "31030-31000", "0-10", "65000-70000", "a-b"])
def test_a_wrong_range_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("VISION_PORTS", given)
    with pytest.raises(StackError, match="is no range of ports; write it as 20000-31999"):
        ports.choose(taken=set())


def test_the_holder_of_a_port_is_named(taken_port: int) -> None:
    with pytest.raises(StackError, match=rf"port {taken_port} is used by pid {os.getpid()} .*; stop it or"):
        check_worker_ports(taken_port, 0)


def test_port_zero_is_chosen_later_and_needs_no_check() -> None:
    check_worker_ports(0, 0)


def test_a_home_keeps_its_ports_and_keys(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = Instance.load(home)
    port, key = first.port("redis"), first.key("secret")
    first.save(home)
    again = Instance.load(home)
    assert (again.port("redis"), again.key("secret")) == (port, key)
    assert home.instance.stat().st_mode & 0o777 == 0o600


def test_a_port_taken_meanwhile_is_replaced(taken_port: int) -> None:
    instance = Instance(ports={"redis": taken_port})
    assert instance.port("redis") != taken_port


def test_two_services_never_get_the_same_port() -> None:
    instance = Instance()
    chosen = [instance.port(f"service-{number}") for number in range(50)]
    assert len(set(chosen)) == len(chosen)
