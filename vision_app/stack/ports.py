"""Finds free TCP ports of the loopback interface, and the process that holds a port."""

from __future__ import annotations

import ipaddress
import os
import random
import re
import socket

import psutil

from vision_app.stack.errors import StackError
from vision_app.texts import say

LOOPBACK = "127.0.0.1"
VARIABLE = "VISION_PORTS"
CHOSEN_FROM = "20000-31999"
"""Below the range of ports for outgoing connections (Linux: from 32768, macOS: from 49152): any client could get such a
port just before the service binds it.
"""


def reachable(address: str) -> str:
    """The host for a URL that reaches a listener on this IP address, which may be the wildcard address."""
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified:
        ip = ipaddress.ip_address("::1" if ip.version == 6 else LOOPBACK)
    return f"[{ip}]" if ip.version == 6 else str(ip)


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    return True


def choose(taken: set[int]) -> int:
    """A port that is free now and not in `taken`, of those in VISION_PORTS (20000-31999). Raises StackError."""
    ports = _chosen_from()
    for port in random.sample(ports, min(200, len(ports))):
        if port not in taken and is_free(port):
            return port
    raise StackError(
        say(
            "no free port from {first} to {last}; stop what listens there, or set {variable}",
            first=ports[0],
            last=ports[-1],
            variable=VARIABLE,
        )
    )


def _chosen_from() -> range:
    given = os.environ.get(VARIABLE, CHOSEN_FROM)
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", given)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 0 < first <= last < 65536:
        raise StackError(
            say(
                "{variable}={given} is no range of ports; write it as {chosen_from}, or leave it out",
                variable=VARIABLE,
                given=given,
                chosen_from=CHOSEN_FROM,
            )
        )
    return range(first, last + 1)


def holder(port: int) -> psutil.Process | None:
    """The process that listens on the port, if this user may see it."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:  # macOS shows it only to root
        return None
    for connection in connections:
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address[1] == port and connection.pid:
            try:
                return psutil.Process(connection.pid)
            except psutil.NoSuchProcess:
                return None
    return None


def require_free(port: int, remedy: str) -> None:
    """Raises StackError, naming the process that holds the port, unless a server could listen on it now."""
    if not is_free(port):
        raise StackError(
            say(
                "port {port} is used by {holder}; {remedy}",
                port=port,
                holder=describe_holder(port),
                remedy=remedy,
            )
        )


def describe_holder(port: int) -> str:
    """For messages, such as "pid 123 (python)"."""
    process = holder(port)
    if process is None:
        return say("another process")
    try:
        return say("pid {pid} ({program})", pid=process.pid, program=process.name())
    except psutil.Error:
        return say("pid {pid}", pid=process.pid)
