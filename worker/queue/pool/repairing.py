"""The slow tasks of a worker: one puts back what Redis lost, one looks at how Redis is set up."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import NoPermissionError, ResponseError

from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.redis_retry import keep_trying
from worker.queue.ledger.repair import SHOWN
from worker.queue.ledger.server import SAFE_POLICY, eviction_policy
from worker.queue.pool.incompatible import LastWord, give_up_lost
from worker.queue.pool.settling import finish_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.queue.groups import GroupOwner
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.repair import LostRow, Repair, Repaired

log = structlog.get_logger(__name__)

# Every worker looks so often whether a pass is due; one of them makes it.
LONGEST_LOOK_SECONDS: Final = 30.0
POLICY_SECONDS: Final = 60.0


class RepairWatch:
    """Compares the rows with the due sets once in a while, and mends what differs.

    Args:
        groups: whoever makes groups.
        holder: this process' name.
        every_seconds: from the end of a pass to the next.
        now: Redis' time, in seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        repair: Repair,
        *,
        groups: GroupOwner,
        holder: str,
        every_seconds: float,
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._repair = repair
        self._groups = groups
        self._holder = holder
        self._every_seconds = every_seconds
        self._now = now
        self._refused = False

    async def watch(self) -> None:
        """Makes passes until it is cancelled."""
        while True:
            await asyncio.sleep(min(self._every_seconds, LONGEST_LOOK_SECONDS))
            try:
                if await self._repair.begin(self._holder, self._every_seconds):
                    await self.run_pass()
            except NoPermissionError as exc:
                if not self._refused:
                    log.warning(
                        "ledger.repair_refused",
                        error=str(exc),
                        advice="give the worker's user of Redis the rights of redis-users.acl",
                    )
                self._refused = True
            except RETRYABLE_REDIS_ERRORS as exc:
                self._ledger.outage.failed("repair", exc)
            else:
                self._refused = False
                self._ledger.outage.worked("repair")

    async def run_pass(self) -> None:
        """Looks at every row once, and lets the next pass begin after a while."""
        async for step in self._repair.steps(self._holder):
            _tell(step)
            await self._end(step.to_end)
        await self._repair.end(self._every_seconds)

    async def watch_policy(self) -> None:
        """Looks at the eviction policy once a minute until it is cancelled.

        Work goes on under a wrong one: what Redis throws away it throws away all the same, and
        what has not ended is longer at risk the longer it waits.
        """
        ask = partial(eviction_policy, self._ledger.redis)
        while True:
            await asyncio.sleep(min(self._every_seconds, POLICY_SECONDS))
            policy = await keep_trying(ask, self._ledger.outage, "policy")
            if policy not in {None, SAFE_POLICY}:
                log.critical(
                    "redis.may_evict",
                    policy=policy,
                    advice=f"CONFIG SET maxmemory-policy {SAFE_POLICY}: with this one Redis may "
                    "throw commands away, or the memory that they were done",
                )

    async def _end(self, rows: list[LostRow]) -> None:
        last = LastWord(self._ledger, self._groups, self._now())
        ends = []
        for row in rows:
            try:
                ends.append(give_up_lost(row, last))
            except Exception:
                # Whatever someone has written there, the scan goes on for all others.
                log.exception("ledger.row_unendable", id=row.lease.command_id)
        if not ends:
            return
        try:
            await finish_each(self._ledger, ends)
        except NoPermissionError:
            raise
        except ResponseError as exc:
            # Those of other steps can be ended all the same; the next pass tries these again.
            ids = [end.lease.command_id for end in ends]
            log.warning("ledger.rows_unended", ids=ids[:SHOWN], rows=len(ids), error=str(exc))


def _tell(step: Repaired) -> None:
    if step.not_due or step.not_indexed or step.to_end:
        log.warning(
            "ledger.repaired",
            put_back=step.not_due,
            indexed=step.not_indexed,
            ended=len(step.to_end),
            advice="someone deletes keys, or Redis evicts them: trainmaster doctor",
        )
    if step.unreadable:
        log.error("ledger.rows_unreadable", ids=step.unreadable[:SHOWN], rows=len(step.unreadable))
