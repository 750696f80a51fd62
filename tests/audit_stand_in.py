"""Stands in for `vision_app.audit.child`: the name of the tenant says how it behaves."""

from __future__ import annotations

import os
import signal
import sys
import time

from vision_app.audit.child import limit
from vision_app.audit.figures import Account
from vision_app.audit.summary import AccountSummary, ChildReply


def summary(*discrepancies: str, notes: int = 0) -> AccountSummary:
    account = Account(
        taken_ms=1_764_331_200_000,
        seconds=1.5,
        inputs=3,
        missing=1,
        discrepancies=list(discrepancies),
        discrepancies_total=len(discrepancies),
        notes=[f"note {number}" for number in range(notes)],
    )
    return AccountSummary.of(account)


def main(memory_bytes: str, since_ms: str, tenant: str = "clean") -> None:
    if tenant == "hang":
        time.sleep(600)
    elif tenant == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif tenant == "garbage":
        print("Traceback, or whatever")
    elif tenant == "nothing":
        print("{}")
    elif tenant == "much":
        sys.stdout.write("x" * 50_000_000)
    elif tenant == "much and hang":
        sys.stdout.write("x" * 5_000_000)
        sys.stdout.flush()
        time.sleep(600)
    elif tenant == "errors":
        sys.stderr.write("x\n" * 5_000_000 + "the last line\n")
        sys.exit(7)
    elif tenant == "failure":
        print(ChildReply(failure="Redis: no answer; check REDIS_URL").model_dump_json())
    elif tenant == "memory":
        limit(int(memory_bytes))
        print(len(bytearray(1024**3)))
    elif tenant == "wrong":
        print(ChildReply(summary=summary("p-1 of acme has no end")).model_dump_json())
    else:
        found = summary().model_copy(update={"notes": [memory_bytes, since_ms, tenant, str(os.getppid())]})
        print(ChildReply(summary=found).model_dump_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
