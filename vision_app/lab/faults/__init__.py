"""Disturbs the network between a worker and its services on purpose: for tests and `vision soak` only.

Nothing of the worker imports this package.
"""

from .peers import Peers, between_brokers
from .proxied import Proxies, proxied
from .proxy import FAULTS, Fault, FaultProxy

__all__ = ["FAULTS", "Fault", "FaultProxy", "Peers", "Proxies", "between_brokers", "proxied"]
