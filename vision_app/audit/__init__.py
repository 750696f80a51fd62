"""The accountant: after a run, what became of every input, and was every token charged once.

It stands outside: it reads Redis, Kafka, Postgres, S3, Neo4j and the simulator's bill as any stranger could, and shares
no state with the worker. `readers.py` and its neighbours fetch the material (`material.py`), pure arithmetic
(`delivery.py`, `ledger.py`, `money.py`) judges it, `figures.py` is the result. `vision audit` shows it.
"""

from .account import take_account
from .figures import Account, TenantAccount, Waits

__all__ = ["Account", "TenantAccount", "Waits", "take_account"]
