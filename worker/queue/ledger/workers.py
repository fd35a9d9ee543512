"""The worker processes of a namespace: each tells of itself every few seconds.

A hash has one field for each, by the name that no other process has. Its value says when it was
told, so that a process that died drops out of every list by itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from schemas.json_text import decode_json

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

TELL_SECONDS: Final = 5.0
# A process that is silent for longer is not listed: two words may get lost on the way.
SILENT_SECONDS: Final = 14.0
# What it said last is deleted then, by another worker, or by Redis where there is none.
_KEPT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker process tells of itself.

    Attributes:
        name: that no other process has; its consumer of the streams and its holds have it too.
        version: of trainmaster.
        python: the version.
        started_ms: when it started; ms since the epoch, as `seen_ms`.
        seen_ms: when it told this.
        slots: commands that it may run at the same time.
        loop_lag_seconds: the most by which its event loop was late since it told before.
        breaker_open: whether it takes the API for down, and claims nothing.
        stopping: whether it was told to stop, and takes nothing new.
        partitions: the namespaces that it and those beside it serve; empty in older versions.
    """

    name: str
    host: str
    pid: int
    version: str
    python: str
    started_ms: int
    seen_ms: int
    slots: int
    slots_used: int
    loop_lag_seconds: float
    breaker_open: bool
    stopping: bool
    partitions: tuple[str, ...] = ()


class Workers:
    """The worker processes of a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def list(self) -> list[WorkerStatus]:
        """Returns those that run, by name."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        pipe.hgetall(self._keys.workers)
        (seconds, microseconds), told = await pipe.execute()
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        found = (_read(name, value) for name, value in sorted(told.items()))
        return [
            each
            for each in found
            if each is not None and not _is_silent(each, now_ms, SILENT_SECONDS)
        ]

    async def tell(self, status: WorkerStatus) -> None:
        """Tells of one process."""
        value = asdict(status)
        name = value.pop("name")
        pipe = self._redis.pipeline(transaction=False)
        pipe.hset(self._keys.workers, name, orjson.dumps(value))
        pipe.expire(self._keys.workers, _KEPT_SECONDS)
        for reply in await pipe.execute(raise_on_error=False):
            # As the server said it: redis-py would put the whole command before it.
            if isinstance(reply, Exception):
                raise reply

    async def leave(self, name: str) -> None:
        """Deletes what a process has told of itself."""
        await self._redis.hdel(self._keys.workers, name)

    async def forget_silent(self, now_ms: int) -> None:
        """Deletes what was told by processes that must be gone."""
        told = cast("dict[bytes, bytes]", await self._redis.hgetall(self._keys.workers))
        gone = [
            name
            for name, value in told.items()
            if (each := _read(name, value)) is None or _is_silent(each, now_ms, _KEPT_SECONDS)
        ]
        if gone:
            await self._redis.hdel(self._keys.workers, *gone)


def _is_silent(status: WorkerStatus, now_ms: int, seconds: float) -> bool:
    # Redis' clock may have gone back: what was told before that is no word of the future.
    return abs(now_ms - status.seen_ms) > seconds * 1000


def _read(name: bytes, value: bytes) -> WorkerStatus | None:
    """Returns what a process told; None where somebody wrote something else there.

    Other versions may tell more.
    """
    try:
        told: dict[str, Any] = decode_json(value)
        return WorkerStatus(
            name=name.decode("utf-8", "replace"),
            host=str(told["host"]),
            pid=int(told["pid"]),
            version=str(told["version"]),
            python=str(told["python"]),
            started_ms=int(told["started_ms"]),
            seen_ms=int(told["seen_ms"]),
            slots=int(told["slots"]),
            slots_used=int(told["slots_used"]),
            loop_lag_seconds=float(told["loop_lag_seconds"]),
            breaker_open=bool(told["breaker_open"]),
            stopping=bool(told["stopping"]),
            partitions=tuple(map(str, told.get("partitions", ()))),
        )
    except (ValueError, TypeError, KeyError, IndexError, OverflowError):
        return None
