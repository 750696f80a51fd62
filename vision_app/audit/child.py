"""The process in which a worker has an account taken: `child MEMORY_BYTES SINCE_MS [TENANT]`, one line of JSON.

An account takes minutes of processor time and much memory, which must not be the worker's. The settings come from the
environment and the files that the worker itself reads. `vision_app.web.audit_child` starts it at lower priority and
sets its deadline.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from vision_app.operations.connections import run
from vision_app.settings import SettingsError, load_settings
from vision_app.stack.errors import StackError
from vision_app.texts import say

from .account import take_account
from .figures import Account
from .summary import AccountSummary, ChildReply

TakeAccount = Callable[..., Coroutine[Any, Any, Account]]


def main(arguments: list[str]) -> None:
    memory_bytes, since_ms, *tenants = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is sent to the terminal's group; the worker decides when we end
    limit(int(memory_bytes))
    sys.stdout.write(reply(int(since_ms), tenants, int(memory_bytes) // 1024**2).model_dump_json())
    sys.stdout.flush()


def reply(since_ms: int, tenants: list[str], memory_mb: int, take: TakeAccount = take_account) -> ChildReply:
    """The summary of the account, or why there is none."""
    try:
        account = run(take(load_settings(), since_ms=since_ms, tenants=tenants or None))
        return ChildReply(summary=AccountSummary.of(account))
    except (StackError, SettingsError) as fault:
        return ChildReply(failure=str(fault))
    except MemoryError:
        return ChildReply(
            failure=say(
                "it needs more memory than {memory_mb} MiB; ask for a shorter time with `since`, or raise "
                "VISION_AUDIT_MEMORY_MB and restart the worker",
                memory_mb=memory_mb,
            )
        )


def limit(memory_bytes: int) -> None:
    """Limit the memory for good, and write no core. If the machine runs out of memory, this process goes first."""
    for kind, bound in ((resource.RLIMIT_DATA, memory_bytes), (resource.RLIMIT_CORE, 0)):
        _, most = resource.getrlimit(kind)
        bound = bound if most == resource.RLIM_INFINITY else min(bound, most)
        resource.setrlimit(kind, (bound, bound))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")


if __name__ == "__main__":
    main(sys.argv[1:])
