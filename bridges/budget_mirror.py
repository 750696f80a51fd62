"""Shows in Redis what the tenants of this worker have spent, and turns the deletion of a sentinel into a reset.

It runs once a second and does not delay the budget actor. It reads the actor's table, writes the value of each tenant
whose value changed or whose key is gone, and restores sentinels. A deleted sentinel is restored only after its reset is
in Kafka, so that no reset is lost.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from mode import Service
from redis.exceptions import RedisError

from vision_app.domain.moment import Moment
from vision_app.messages import Reset, key_of
from vision_app.stores.budget_mirror import BudgetMirror, Spent, sentinel_key
from vision_app.streams.faust_seams import Worker
from vision_app.streams.outbox import Outbox
from vision_app.streams.ownership import LeftUnacked, owns
from vision_app.telemetry import metrics
from vision_app.topics import BUDGET

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
RETRY_SECONDS = 5.0
SEND_SECONDS = 5.0
OPERATOR = "redis DEL"


class BudgetMirrorService(Service):
    """`record` writes a reset to Postgres. While it raises, the reset waits: a rebuilt ledger needs it."""

    def __init__(
        self,
        app: Worker,
        outbox: Outbox,
        mirror: BudgetMirror,
        record: Callable[[str, str], Awaitable[None]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._app, self._outbox, self._mirror, self._record = app, outbox, mirror, record
        self._shown: dict[str, Spent] = {}
        self._reset: set[str] = set()  # resets sent whose sentinel is not restored yet

    @Service.task
    async def _look_for_ever(self) -> None:
        while not self.should_stop:
            pause = LOOK_SECONDS
            try:
                await self.look()
            except (RedisError, OSError) as fault:
                metrics.RETRIES.labels(stage="redis").inc()
                log.warning("budget_mirror_unavailable", error=repr(fault))
                pause = RETRY_SECONDS
            except Exception:
                metrics.UNEXPECTED_ERRORS.labels(where="timers").inc()
                log.exception("budget_mirror_failed")
                pause = RETRY_SECONDS
            await self.sleep(pause)

    async def look(self) -> None:
        """One round."""
        if not self._app.serving():
            return
        spent = self._spent()
        sentinels = await self._mirror.sentinels(spent)
        done = {tenant for tenant in sentinels.deleted if await self._ask_reset(tenant)}
        stale = {*sentinels.new, *done}
        await self._mirror.watch(stale)
        self._reset -= stale
        stale |= await self._mirror.missing(spent)
        changed = {t: now for t, now in spent.items() if t in stale or self._shown.get(t) != now}
        await self._mirror.show(changed)
        self._shown = spent

    def _spent(self) -> dict[str, Spent]:
        """What each tenant of this worker has spent today. Rows of partitions that moved to other workers are left out.

        A ledger that is not loaded yet is left out, too: it is loaded with the value that Redis shows of a lost one.
        """
        today = Moment(time_ms=round(time.time() * 1000), offset=0).day
        rows = [row for row in self._app.budgets.rows() if row.loaded and self._is_mine(row.tenant_id)]
        return {row.tenant_id: Spent(today, row.spent if row.day >= today else 0) for row in rows}

    def _is_mine(self, tenant_id: str) -> bool:
        return owns(self._app, BUDGET, key_of(tenant_id))

    async def _ask_reset(self, tenant_id: str) -> bool:
        """Record the reset and send it. Returns False if it has to be tried again."""
        if tenant_id in self._reset:
            return True
        deadline = time.monotonic() + SEND_SECONDS
        try:
            await self._record(tenant_id, OPERATOR)
            await self._outbox.send([Reset(tenant_id=tenant_id)], keep_trying=lambda: time.monotonic() < deadline)
        except LeftUnacked:
            return False
        except Exception as fault:  # noqa: BLE001 - on any error the reset stays due, and we log it
            metrics.RETRIES.labels(stage="db").inc()
            log.warning("budget_reset_delayed", tenant_id=tenant_id, error=repr(fault))
            return False
        self._reset.add(tenant_id)
        log.info("budget_reset_by_redis_del", tenant_id=tenant_id, key=sentinel_key(tenant_id))
        return True
