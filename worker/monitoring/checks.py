"""What a worker needs to do its work, and who looks at it again and again."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import NoPermissionError

from schemas.events import ErrorCode
from worker.errors import LedgerLostError, NewerLedgerError, ShortageError
from worker.queue.ledger.connection import PASSING_TROUBLE, RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.refusals import refusal_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from redis.asyncio import Redis

    from worker.encord.api.credentials_watch import CredentialsWatch
    from worker.queue.ledger.epoch import Epoch
    from worker.queue.ledger.keys import Keys
    from worker.queue.pool.results import ResultStore

    Check = Callable[[], Awaitable[str]]

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 4.0
_CHECK_SECONDS: Final = 5.0
# An API in an outage is asked by every worker.
ASK_SECONDS: Final = 30.0
# A store asks money for each request.
STORE_SECONDS: Final = 30.0
_TRIED_MS: Final = 5_000
# What the API answers to a wrong key; whoever replaces it resumes the lane with it.
_WRONG_KEY: Final = frozenset({ErrorCode.NOT_AUTHENTICATED, ErrorCode.NOT_AUTHORISED})


class ReadinessWatch:
    """Looks again and again whether everything is there that a process needs.

    Args:
        redis: returns what is wrong with Redis, or nothing; without it the others can't tell.
        checks: the others, by name; likewise.
    """

    def __init__(self, redis: Check, checks: Mapping[str, Check]) -> None:
        self._redis = redis
        self._checks = checks

    async def watch(self, tell: Callable[[dict[str, str]], None]) -> None:
        """Looks until it is cancelled, and tells what was found each time."""
        while True:
            tell(await self.look())
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> dict[str, str]:
        """Returns what is missing, by name."""
        if problem := await _asked(self._redis):
            return {"redis": problem}
        found = await asyncio.gather(*(_asked(each) for each in self._checks.values()))
        return {name: problem for name, problem in zip(self._checks, found, strict=True) if problem}


async def _asked(check: Check) -> str:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {_CHECK_SECONDS:.0f} s"
    except RETRYABLE_REDIS_ERRORS as exc:
        return f"Redis: {' '.join(str(exc).split())}"
    except Exception as exc:
        log.exception("health.check_broken")
        return f"the check broke: {type(exc).__name__}"


async def redis_trouble(redis: Redis, keys: Keys) -> str:
    """Returns what is wrong with Redis; empty where it answers and takes writes."""
    try:
        # It changes nothing, for there is no such key; a server that takes no writes refuses it.
        await redis.set(keys.trial, b"", xx=True, px=_TRIED_MS)
    except NoPermissionError:
        # Redis answers; what this user may do is asked by `doctor`.
        return ""
    except PASSING_TROUBLE as exc:
        refusal = refusal_of(exc)
        return "can't be reached" if refusal is None else f"takes no writes: {refusal}"
    return ""


def redis_check(redis: Redis, keys: Keys) -> Check:
    """Returns what asks whether Redis answers and takes writes."""
    return partial(redis_trouble, redis, keys)


def epoch_check(epoch: Epoch) -> Check:
    """Returns what asks whether the ledger is the one that the worker knows."""

    async def check() -> str:
        if not epoch.known:
            return "Redis has not been met yet"
        try:
            await epoch.check()
        except (LedgerLostError, NewerLedgerError) as exc:
            return exc.message
        return ""

    return check


def credentials_check(
    watch: CredentialsWatch, clock: Callable[[], float] = time.monotonic
) -> Check:
    """Returns what asks whether the API has taken our credentials.

    A worker asks at its start. Where the API could not tell then it is asked again, but not more
    often than it can bear from a fleet.
    """
    again_at = clock() + ASK_SECONDS

    async def check() -> str:
        nonlocal again_at
        if watch.is_refused:
            return "the API refuses them"
        if not watch.is_proved and clock() >= again_at:
            again_at = clock() + ASK_SECONDS
            await watch.prove()
        return "" if watch.is_proved else "the API could not tell yet whether it takes them"

    return check


def results_check(results: ResultStore, clock: Callable[[], float] = time.monotonic) -> Check:
    """Returns what asks now and then whether a result can be stored and read again."""
    found, again_at = "", 0.0

    async def check() -> str:
        nonlocal found, again_at
        if clock() >= again_at:
            try:
                await results.rehearse()
            except (OSError, ShortageError) as exc:
                # The text of such an error names paths and URLs.
                reason = exc.strerror if isinstance(exc, OSError) else None
                found, again_at = f"can't be used: {reason or type(exc).__name__}", 0.0
            else:
                found, again_at = "", clock() + STORE_SECONDS
        return found

    return check


def lanes_check(redis: Redis, keys: Keys) -> Check:
    """Returns what asks whether a lane is paused for a wrong key."""
    lanes = Lanes(redis, keys)

    async def check() -> str:
        paused = [each.lane for each in await lanes.paused() if each.code in _WRONG_KEY]
        return f"paused, for the API refuses us: {', '.join(paused)}" if paused else ""

    return check
