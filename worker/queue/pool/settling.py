"""Ends that are recorded together, singly where Redis refuses one, and what is told of that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.queue.telemetry import Settled, log_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease, RunResult
    from worker.queue.telemetry import Listener

log = structlog.get_logger(__name__)

# Whatever was to be written: nothing reaches Redis.
REDIS_AWAY: Final = (RedisConnectionError, RedisTimeoutError, OSError)


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
        )
        for finish, was_done in zip(batch, done, strict=True)
        if was_done
    ])
