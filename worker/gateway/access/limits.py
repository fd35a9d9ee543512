"""How much a caller may ask for: requests a second, and commands while the backlog is long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from schemas.wording import counted
from worker.gateway.keys import requests_key
from worker.gateway.problems import ProblemError

if TYPE_CHECKING:
    from fastapi import Request
    from redis.asyncio import Redis

    from worker.gateway.access.callers import Caller
    from worker.queue.ledger.keys import Keys

# The backlog is looked at so often by a process, however many requests it has.
_LOOK_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 5


class RequestRates:
    """Counts the requests of each token, over all processes of all gateways.

    Args:
        redis: of the namespace.
        keys: of the namespace.
        per_second: the most; 0 sets no limit.
    """

    def __init__(self, redis: Redis, keys: Keys, per_second: int) -> None:
        self._redis = redis
        self._keys = keys
        self._per_second = per_second

    async def take(self, request: Request, caller: Caller) -> None:
        """Counts a request, and leaves the caller's rest in `request.state` for the response.

        Raises:
            ProblemError: the token has had its requests of this second.
        """
        if not self._per_second:
            return
        second = int(time.time())
        key = requests_key(self._keys, caller.token.id if caller.token else "none", second)
        pipe = self._redis.pipeline(transaction=False)
        pipe.incr(key)
        pipe.expire(key, 2)
        count, _ = await pipe.execute()
        rest = max(self._per_second - count, 0)
        headers = {
            "ratelimit-policy": f'"token";q={self._per_second};w=1',
            "ratelimit": f'"token";r={rest};t=1',
        }
        request.state.rate_headers = headers
        if count > self._per_second:
            raise ProblemError(
                429,
                "too_many_requests",
                f"This token may send {self._per_second} requests a second.",
                headers={**headers, "Retry-After": "1"},
            )


class Backlog:
    """Refuses commands while too many wait.

    Args:
        redis: of the namespace.
        keys: of the namespace.
        most: unread and open commands; 0 sets no limit.
    """

    def __init__(self, redis: Redis, keys: Keys, most: int) -> None:
        self._redis = redis
        self._keys = keys
        self._most = most
        self._length = 0
        self._looked_at = 0.0

    async def check(self) -> None:
        """Returns if further commands are taken.

        Raises:
            ProblemError: too many wait.
        """
        if not self._most:
            return
        if time.monotonic() - self._looked_at > _LOOK_SECONDS:
            self._length = await self._count()
            self._looked_at = time.monotonic()
        if self._length >= self._most:
            raise ProblemError(
                429,
                "backlog_full",
                f"{counted(self._length, 'command')} waiting is as much as is let wait; "
                "send this again later.",
                headers={"Retry-After": str(_RETRY_SECONDS)},
            )

    async def _count(self) -> int:
        keys = self._keys
        pipe = self._redis.pipeline(transaction=False)
        pipe.xlen(keys.commands)
        pipe.xlen(keys.bulk_commands)
        pipe.llen(keys.inbox)
        for due in (keys.due_interactive, keys.due_bulk, keys.due_suspect):
            pipe.zcard(due)
        return sum(await pipe.execute())
