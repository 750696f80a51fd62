"""No message is delivered between the end of a table's recovery and the moment when all positions are set.

Faust lets messages flow while it recovers tables, makes the streams' partitions active, seeks them to the committed
offsets one by one, and then resumes the flow, which empties the streams' queues. What a partition delivers after its
seek and before that is gone: never handled, never acknowledged. An actor takes it for a repeat when it comes again
after the next restart, since the row has moved on. Seen on a real broker as 29 of 240 commands lost (kill -9, restart).
"""

from __future__ import annotations

from typing import Any


def hold_until_positioned(app: Any) -> None:
    """Stop the consumer's flow when recovery has ended; Faust itself resumes it once every partition is sought."""

    async def hold(sender: Any, **_: Any) -> None:
        sender.consumer.stop_flow()

    app.on_rebalance_complete.connect(hold)
