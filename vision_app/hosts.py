"""Under which host names our ports may be asked: a defence of open ports on this machine against DNS rebinding.

A page of a foreign site can make its own name point to 127.0.0.1 and then talk to a local server as its own origin. The
browser still sends that name as `Host`. Addresses and names without a dot cannot be taken over that way.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection


def allowed_names(setting: str) -> frozenset[str]:
    """The names of VISION_ALLOWED_HOSTS, separated by commas; `*` stands for all."""
    return frozenset(name.strip().lower().rstrip(".") for name in setting.split(",") if name.strip())


def host_allowed(header: str | None, allowed: Collection[str] = ()) -> bool:
    """Whether a request with this Host header is meant for us. Without the header it comes from no browser."""
    if header is None or "*" in allowed:
        return True
    name = _name_of(header)
    return name in allowed or _cannot_be_foreign(name)


def _name_of(header: str) -> str:
    """The name without its port. An address in brackets keeps what is in them."""
    text = header.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].rstrip(".")


def _cannot_be_foreign(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name != "" and ("." not in name or name.endswith(".localhost"))
    return True
