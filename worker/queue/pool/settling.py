"""Ends that are recorded together, singly where Redis refuses one, and what is told of that.

`Settler` is that of a pool; `finish_each` is for those who end commands without running them.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from schemas.enums import Priority
from worker.batching import BatchInterval
from worker.queue.ledger.redis_retry import keep_trying, next_pause
from worker.queue.ledger.refusals import EndsRefusedError
from worker.queue.telemetry import Settled, log_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease, RunResult
    from worker.queue.pool.lane_pauses import LanePauses
    from worker.queue.telemetry import Listener

log = structlog.get_logger(__name__)

# More in one script would hold Redis for milliseconds.
MOST_IN_A_SCRIPT: Final = 256
# Whatever was to be written: nothing reaches Redis.
REDIS_AWAY: Final = (RedisConnectionError, RedisTimeoutError, OSError)
# Ends that keys of their group refuse are tried again after so long, one script of them at a time.
REFUSED_PAUSE_SECONDS: Final = 1.0
# They are told of no more often.
REFUSED_TOLD_SECONDS: Final = 10.0


def fields_of(lease: Lease) -> dict[str, Any]:
    """Returns what a log line carries of the command that a lease is of."""
    return log_fields(lease.command_id, lease.text)


async def finish_each(ledger: Ledger, ends: Sequence[RunResult]) -> None:
    """Records ends; one that can't be written keeps none of the others from it.

    Raises:
        redis.exceptions.RedisError: Redis is away, or takes none of them.
    """
    try:
        tell_settled(ledger.telemetry, ends, await ledger.finish(ends))
    except REDIS_AWAY:
        raise
    except EndsRefusedError as exc:
        refused = [end for end, done in zip(ends, exc.done, strict=True) if done is None]
        if len(refused) == len(ends):
            raise
        tell_settled(ledger.telemetry, ends, [bool(done) for done in exc.done])
        for end in refused:
            log.warning("run.unsettled", **fields_of(end.lease), error=str(exc))
    except Exception as exc:
        if isinstance(exc, ResponseError) and len(ends) == 1:
            raise
        await _finish_singly(ledger, ends)


async def _finish_singly(ledger: Ledger, ends: Sequence[RunResult]) -> None:
    recorded, refused = 0, None
    for end in ends:
        try:
            tell_settled(ledger.telemetry, [end], await ledger.finish([end]))
            recorded += 1
        except REDIS_AWAY:
            raise
        except ResponseError as exc:
            refused = exc
            log.warning("run.unsettled", **fields_of(end.lease), error=str(exc))
        except Exception:
            log.exception("run.unrecordable", **fields_of(end.lease))
    if refused is not None and not recorded:
        raise refused


def tell_settled(telemetry: Listener, batch: Sequence[RunResult], done: Sequence[bool]) -> None:
    """Tells how ends were recorded, without those of runs that were fenced."""
    if not telemetry.hears("settled"):
        return
    now = time.monotonic()
    telemetry.settled([
        Settled(
            max(0.0, now - finish.ended_at),
            finish.state,
            bool(finish.event),
            finish.failure if finish.dead_letter else "",
            finish.lease.command_id,
            finish.lease.token,
            finish.end,
        )
        for finish, was_done in zip(batch, done, strict=True)
        if was_done
    ])


class Settler:
    """Records the ends of runs: each lane's by itself, or hundreds of bulk ones would go first.

    Args:
        pauses: judges lanes by what was recorded.
        unrecordable: makes an end that can be written of one that can't be, and why.
    """

    def __init__(
        self,
        ledger: Ledger,
        pauses: LanePauses,
        unrecordable: Callable[[Lease, Exception], RunResult],
    ) -> None:
        self._lanes = {lane: LaneSettler(lane, ledger, pauses, unrecordable) for lane in Priority}

    @property
    def waiting(self) -> list[RunResult]:
        """The ends that are not recorded yet."""
        return [finish for lane in self._lanes.values() for finish in lane.waiting]

    @property
    def under_way(self) -> list[RunResult]:
        """Those of them that no key of their group refuses: they are recorded in a moment."""
        return [finish for lane in self._lanes.values() for finish in lane.under_way]

    def is_behind(self, lane: Priority) -> bool:
        """Tells whether runs of a lane end faster than their ends are recorded."""
        return self._lanes[lane].is_behind

    def add(self, finish: RunResult) -> None:
        """Has an end recorded."""
        self._lanes[finish.lease.lane].add(finish)

    async def run(self, lane: Priority) -> None:
        """Records what is added of one lane until it is cancelled."""
        await self._lanes[lane].run()

    async def flush(self, seconds: float) -> None:
        """Waits until all ends are recorded; logs how many are not after so long."""
        await asyncio.gather(*(lane.flush(seconds) for lane in self._lanes.values()))


class LaneSettler:
    """Records the ends of one lane's runs, many in one script.

    Ends that keys of their group refuse are put aside and tried again now and then: they may be
    thousands, of one backfill, and all others go on.

    Args:
        lane: whose ends are added.
        pauses: judges lanes by what was recorded.
        unrecordable: makes an end that can be written of one that can't be, and why.
    """

    def __init__(
        self,
        lane: Priority,
        ledger: Ledger,
        pauses: LanePauses,
        unrecordable: Callable[[Lease, Exception], RunResult],
    ) -> None:
        self._lane = lane
        # Or the other lane's success would tell that Redis is back, which refuses this one.
        self._part = f"settle-{lane}"
        self._ends: list[RunResult] = []
        self._refused: list[RunResult] = []
        self._refused_again: asyncio.TimerHandle | None = None
        self._tell_refused_at = float("-inf")
        self._ledger = ledger
        self._telemetry = ledger.telemetry
        self._pauses = pauses
        self._unrecordable = unrecordable
        self._finishing = asyncio.Event()
        self._finished = asyncio.Event()

    @property
    def waiting(self) -> list[RunResult]:
        """The ends that are not recorded yet."""
        return self._ends + self._refused

    @property
    def under_way(self) -> list[RunResult]:
        """Those of them that are not put aside."""
        return self._ends

    @property
    def is_behind(self) -> bool:
        """Whether a full script waits behind the one that is under way."""
        return len(self._ends) >= 2 * MOST_IN_A_SCRIPT

    def add(self, finish: RunResult) -> None:
        """Has an end recorded."""
        self._ends.append(finish)
        self._finishing.set()

    async def run(self) -> None:
        """Records finishes in the ledger, many in one script, until it is cancelled."""
        pause = 0.0
        interval = BatchInterval()
        while True:
            if not self._ends:
                if not self._refused:
                    self._finished.set()
                await self._finishing.wait()
            self._finishing.clear()
            if not self._ends:
                continue
            self._finished.clear()
            await interval.wait()
            if await keep_trying(self._settle_batch, self._ledger.outage, self._part):
                pause = 0.0
            else:
                pause = next_pause(pause)
                await asyncio.sleep(pause)

    async def _settle_batch(self) -> bool:
        """Records finishes in one script; returns whether none of them is left.

        Raises:
            redis.exceptions.RedisError: Redis takes none of them.
        """
        # Anew for each try: one that failed may have recorded some of them.
        batch = self._ends[:MOST_IN_A_SCRIPT]
        done: Sequence[bool | None]
        try:
            done = await self._ledger.finish(batch)
        except REDIS_AWAY:
            raise
        except EndsRefusedError as exc:
            done = exc.done
            self._put_aside(
                [finish for finish, was_done in zip(batch, done, strict=True) if was_done is None],
                exc,
            )
        except Exception as exc:
            if isinstance(exc, ResponseError) and len(batch) == 1:
                raise
            # One of them may be what can't be written: it must not take the others with it.
            return await self._settle_singly(batch)
        del self._ends[: len(batch)]
        tell_settled(self._telemetry, batch, [bool(was_done) for was_done in done])
        for finish, was_done in zip(batch, done, strict=True):
            if was_done:
                await self._pauses.judge(finish)
            elif was_done is not None:
                self._tell_fenced(finish.lease)
        return True

    def _put_aside(self, refused: list[RunResult], why: EndsRefusedError) -> None:
        self._refused += refused
        self._try_refused_later()
        if time.monotonic() >= self._tell_refused_at:
            self._tell_refused_at = time.monotonic() + REFUSED_TOLD_SECONDS
            log.warning(
                "run.unsettled",
                **fields_of(refused[0].lease),
                runs=len(self._refused),
                lane=self._lane,
                error=str(why),
            )

    def _try_refused_later(self) -> None:
        if self._refused and self._refused_again is None:
            loop = asyncio.get_running_loop()
            self._refused_again = loop.call_later(REFUSED_PAUSE_SECONDS, self._try_refused)

    def _try_refused(self) -> None:
        self._refused_again = None
        self._ends += self._refused[:MOST_IN_A_SCRIPT]
        del self._refused[:MOST_IN_A_SCRIPT]
        self._finishing.set()
        self._try_refused_later()

    async def _settle_singly(self, batch: list[RunResult]) -> bool:
        settled, refused = 0, 0
        for finish in batch:
            try:
                recorded, was_done = await self._settle_one(finish)
            except EndsRefusedError as exc:
                del self._ends[0]
                self._put_aside([finish], exc)
                continue
            except ResponseError as exc:
                # Behind all others, so that it stands in nobody's way.
                self._ends.append(self._ends.pop(0))
                if not settled:
                    # Most likely Redis takes nothing at all: one is enough to ask.
                    raise
                log.warning("run.unsettled", **fields_of(finish.lease), error=str(exc))
                refused += 1
                continue
            del self._ends[0]
            settled += 1
            tell_settled(self._telemetry, [recorded], [was_done])
            if was_done:
                await self._pauses.judge(recorded)
            else:
                self._tell_fenced(finish.lease)
        return not refused

    async def _settle_one(self, finish: RunResult) -> tuple[RunResult, bool]:
        """Returns what was recorded, and whether it was: another end where this one can't be."""
        try:
            (was_done,) = await self._ledger.finish([finish])
        except (*REDIS_AWAY, ResponseError):
            raise
        except Exception as exc:
            log.exception("run.unrecordable", **fields_of(finish.lease))
            finish = self._unrecordable(finish.lease, exc)
            (was_done,) = await self._ledger.finish([finish])
        return finish, was_done

    def _tell_fenced(self, lease: Lease) -> None:
        self._telemetry.fenced(lease.command_id, lease.text, lease.token)

    async def flush(self, seconds: float) -> None:
        """Waits until all ends are recorded; logs how many are not after so long."""
        self._finished.clear()
        self._finishing.set()
        try:
            await asyncio.wait_for(self._finished.wait(), seconds)
        except TimeoutError:
            log.warning("run.unsettled", runs=len(self.waiting), lane=self._lane)
