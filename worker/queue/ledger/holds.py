"""Holds: why nobody, or one worker, claims; and how a person lifts that.

A hold of the whole fleet is what the API asked for by a 429. It stands in one key of Redis that
expires; no worker remembers it for longer than a moment, so deleting the key lifts it. A worker
whose credentials the API refuses holds itself, for the others' may be right; what it writes to
Redis is only told, and heeded by nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
import structlog

from schemas.events import ErrorCode
from schemas.json_text import decode_json
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.stored_values import moment_of, text_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

log = structlog.get_logger(__name__)

# A worker says so again at least so often; one that is silent for longer is gone.
REFUSED_SECONDS: Final = 90.0
_KEPT_SECONDS: Final = 600
_PAGE: Final = 500


class HoldScope(StrEnum):
    """Whom a hold keeps from claiming."""

    FLEET = "fleet"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold.

    Attributes:
        worker: its name, empty for a hold of the whole fleet.
        rest_ms: until it ends; None where it ends once the API takes the worker's credentials.
    """

    scope: HoldScope
    worker: str
    reason: str
    since_ms: int
    rest_ms: int | None


@dataclass(frozen=True, slots=True)
class Released:
    """What a release did.

    Attributes:
        commands: that had been told to come back later, and are due now.
    """

    holds: list[Hold]
    commands: int


class Holds:
    """The holds of a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._hasten = load_script(redis, "hasten")

    async def list(self) -> list[Hold]:
        """Returns all holds, that of the fleet first."""
        now = await self.now_ms()
        found = []
        rest_ms = int(await self._redis.pttl(self._keys.hold))
        if rest_ms > 0:
            value = cast("bytes | None", await self._redis.get(self._keys.hold))
            found.append(_fleet_hold(value or b"", now, rest_ms))
        refused = cast(
            "dict[bytes, bytes]",
            await self._redis.hgetall(self._keys.refused),
        )
        held = (_worker_hold(worker, value, now) for worker, value in sorted(refused.items()))
        return found + [each for each in held if each is not None]

    async def release(self) -> Released:
        """Lifts every hold: workers claim within a second, and refused ones ask at once."""
        held = await self.list()
        await self._redis.delete(self._keys.hold, self._keys.refused)
        return Released(held, await self._hasten_all())

    async def refuse(self, worker: str, reason: str, since_ms: int) -> None:
        """Tells that the API refuses a worker's credentials."""
        told: dict[str, Any] = {
            "reason": reason,
            "since_ms": since_ms,
            "seen_ms": await self.now_ms(),
        }
        await self._redis.hset(self._keys.refused, worker, orjson.dumps(told))
        await self._redis.expire(self._keys.refused, _KEPT_SECONDS)

    async def is_told(self, worker: str) -> bool:
        """Whether a worker's refusal still stands there; a release deletes it."""
        return await self._redis.hget(self._keys.refused, worker) is not None

    async def admit(self, worker: str) -> None:
        """Tells that the API takes a worker's credentials again."""
        await self._redis.hdel(self._keys.refused, worker)

    async def _hasten_all(self) -> int:
        """Makes due what a 429 had told to come back later; returns how many commands."""
        total = 0
        for due in (self._keys.due_interactive, self._keys.due_bulk):
            now = await self.now_ms()
            start = 0
            while ids := cast(
                "list[bytes]",
                await self._redis.zrangebyscore(due, f"({now}", "+inf", start, _PAGE),
            ):
                moved = await self._hasten(
                    keys=[due], args=[self._keys.prefix, ErrorCode.RATE_LIMITED, *ids]
                )
                total += moved
                start += len(ids) - moved
        return total

    async def now_ms(self) -> int:
        """Returns Redis' time."""
        seconds, microseconds = await self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000


def _fleet_hold(value: bytes, now_ms: int, rest_ms: int) -> Hold:
    since, reason = now_ms, "the API asked for a pause"
    parts = value.decode("utf-8", "replace").split(" ", 2)
    # Any other value was written by an older worker, or by hand.
    if len(parts) == 3 and parts[0].isdigit() and parts[1].isdigit():
        since, reason = int(parts[1]), parts[2]
        rest_ms = min(rest_ms, int(parts[0]))
    return Hold(HoldScope.FLEET, "", reason, since, rest_ms)


def _worker_hold(worker: bytes, value: bytes, now_ms: int) -> Hold | None:
    """Returns a worker's hold; None where it is silent, or others put something else there."""
    try:
        told = decode_json(value)
        if abs(now_ms - int(told["seen_ms"])) > REFUSED_SECONDS * 1000:
            return None
        name, reason = text_of(worker), str(told["reason"])
        return Hold(HoldScope.WORKER, name, reason, moment_of(told["since_ms"]), None)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError):
        return None


class RefusalBoard:
    """Where one worker tells that the API refuses its credentials; nobody heeds it but people.

    Args:
        worker: its name.
    """

    def __init__(self, holds: Holds, worker: str) -> None:
        self._holds = holds
        self._worker = worker
        self._since_ms = 0

    async def refuse(self, reason: str) -> None:
        """Tells it, since the first time."""
        try:
            self._since_ms = self._since_ms or await self._holds.now_ms()
            await self._holds.refuse(self._worker, reason, self._since_ms)
        except RETRYABLE_REDIS_ERRORS as exc:
            log.warning("holds.tell_failed", error=str(exc))

    async def admit(self) -> None:
        """Tells that it is over."""
        self._since_ms = 0
        try:
            await self._holds.admit(self._worker)
        except RETRYABLE_REDIS_ERRORS as exc:
            log.warning("holds.tell_failed", error=str(exc))

    async def is_told(self) -> bool:
        """Whether it stands there; True where Redis can't be asked."""
        try:
            return await self._holds.is_told(self._worker)
        except RETRYABLE_REDIS_ERRORS:
            return True
