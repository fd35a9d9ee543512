"""Whether a process lives, and whether it can do its work.

A process lives while its loops go round; restarting one that does not helps. It is ready while
everything that it needs is there; restarting one that is not does not help.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from worker.errors import LedgerLostError, ShortageError
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from worker.encord.api.credentials_watch import CredentialsWatch
    from worker.queue.heartbeat import Heartbeat
    from worker.queue.ledger.epoch import Epoch
    from worker.queue.ledger.keys import Keys
    from worker.queue.pool.results import ResultStore

    Check = Callable[[], Awaitable[str]]

log = structlog.get_logger(__name__)

# A batch may keep the loop for a second or two; nothing that is meant to keeps it for longer.
LOOP_LIMIT_SECONDS: Final = 12.0
# Redis may take as long as a socket waits, and a pause follows.
INTAKE_LIMIT_SECONDS: Final = 20.0
# kombu's socket waits for half a minute.
CELERY_LIMIT_SECONDS: Final = 60.0
BEAT_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 4.0
# A look of which nothing was heard for so long is over: the loop, or what it asks, stands still.
STALE_SECONDS: Final = 12.0
_CHECK_SECONDS: Final = 5.0
# An API in an outage is asked by every worker.
ASK_SECONDS: Final = 30.0
# A store asks money for each request.
STORE_SECONDS: Final = 30.0
_TRIED_MS: Final = 5_000


class Liveness:
    """Whether the loops of a process go round."""

    def __init__(self, heartbeats: Sequence[Heartbeat]) -> None:
        self._heartbeats = heartbeats

    def problems(self) -> dict[str, str]:
        """Returns what stands still, by name; nothing where all is well."""
        return {
            each.name: f"silent for {each.age_seconds or 0:.0f} s; {each.limit_seconds:.0f} s count"
            for each in self._heartbeats
            if each.is_late
        }


class Readiness:
    """What was found at the last look, for whoever asks from another thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: Mapping[str, str] = {"start": "it has not met Redis yet"}
        self._at: float | None = None

    def set(self, problems: Mapping[str, str]) -> None:
        """Keeps what a look has found."""
        self._found = dict(problems)
        self._at = self._clock()

    def problems(self) -> dict[str, str]:
        """Returns what is missing, by name; nothing where the process is ready."""
        found = dict(self._found)
        if self._at is not None and (age := self._clock() - self._at) > STALE_SECONDS:
            found["look"] = f"nobody has looked for {age:.0f} s"
        return found


class ReadinessWatch:
    """Looks again and again whether everything is there that a process needs.

    Args:
        readiness: is told.
        checks: by name; each returns what is wrong, or nothing.
    """

    def __init__(self, readiness: Readiness, checks: Mapping[str, Check]) -> None:
        self._readiness = readiness
        self._checks = checks

    async def watch(self) -> None:
        """Looks until it is cancelled."""
        while True:
            self._readiness.set(await self.look())
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> dict[str, str]:
        """Returns what is missing, by name."""
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


async def beat(heartbeat: Heartbeat, tell_lag: Callable[[float], None]) -> None:
    """Beats on a loop until it is cancelled; tells by how many seconds each beat is late."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            heartbeat.beat()
            due = loop.time() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            tell_lag(max(0.0, loop.time() - due))
    finally:
        heartbeat.rest()


def redis_check(redis: Redis, keys: Keys) -> Check:
    """Returns what asks whether Redis answers and takes writes."""

    async def check() -> str:
        # It changes nothing, for there is no such key; a server that takes no writes refuses it.
        await redis.set(keys.trial, b"", xx=True, px=_TRIED_MS)
        return ""

    return check


def epoch_check(epoch: Epoch) -> Check:
    """Returns what asks whether the ledger is the one that the worker knows."""

    async def check() -> str:
        if not epoch.known:
            return "Redis has not been met yet"
        try:
            await epoch.check()
        except LedgerLostError as exc:
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
