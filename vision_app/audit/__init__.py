"""The accountant: checks after a run that every input was answered once and every token was charged once.

It reads Redis, Kafka, Postgres, S3, Neo4j and the simulator's bill from outside, and shares no state with the worker.
`readers.py` and its neighbours fetch the material (`material.py`), pure arithmetic (`delivery.py`, `ledger.py`,
`money.py`) judges it, `figures.py` is the result. `vision audit` shows it. A worker that is asked for it over the API
has it taken by `child.py`, and gets a `summary.py`.
"""

from .account import take_account
from .figures import Account, TenantAccount, Waits

__all__ = ["Account", "TenantAccount", "Waits", "take_account"]
