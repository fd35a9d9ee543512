"""Connections that are opened anew once one of them shows that all of them may lead nowhere.

After a planned failover the name in the address leads to another server, but the one that was the
primary lives on as a replica and closes no connection. Whoever keeps one is refused for ever.

What lies between may forget connections, too, all at once and without a word. Each of them would
cost a command that waits in vain, those that were idle long after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis.asyncio.connection
import redis.connection
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

if TYPE_CHECKING:
    from redis.asyncio import Redis as AsyncRedis

R = TypeVar("R", bound="redis.Redis | AsyncRedis")

# A primary that was cut off from its replicas, or a replica from its primary.
_CUT_OFF: Final = ("NOREPLICAS", "MASTERDOWN")


def is_of_no_primary(error: ResponseError) -> bool:
    """Tells whether another server may be the primary by now."""
    return isinstance(error, ReadOnlyError) or str(error).startswith(_CUT_OFF)


def seek_primary(client: R) -> R:
    """Has a client's connections look for the primary anew where that may help; returns it."""
    pool: Any = client.connection_pool
    is_blocking = issubclass(pool.connection_class, redis.connection.AbstractConnection)
    seeking = _Seeking if is_blocking else _AsyncSeeking
    told = {"doubts": _Doubts()}
    pool.connection_class = type("SeekingConnection", (seeking, pool.connection_class), told)
    return client


class _Doubts:
    """How often a connection of one client has shown that all may lead nowhere."""

    count = 0


class _Seeking(redis.connection.AbstractConnection):
    """Pools call `connect` each time that they hand a connection out."""

    doubts: _Doubts
    # The doubts there were when it was opened.
    _known = 0

    def connect(self) -> None:
        if self._known != self.doubts.count:
            self._known = self.doubts.count
            self.disconnect()
        super().connect()

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except (ResponseError, RedisTimeoutError) as exc:
            # Not closed at once: further replies of the same pipeline may be under way.
            _doubt(self, exc)
            raise


class _AsyncSeeking(redis.asyncio.connection.AbstractConnection):
    """The same for an event loop."""

    doubts: _Doubts
    _known = 0

    async def connect(self) -> None:
        if self._known != self.doubts.count:
            self._known = self.doubts.count
            await self.disconnect(nowait=True)
        await super().connect()

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except (ResponseError, RedisTimeoutError) as exc:
            _doubt(self, exc)
            raise


def _doubt(connection: _Seeking | _AsyncSeeking, error: ResponseError | RedisTimeoutError) -> None:
    # One that was opened before the last doubt says nothing of those that were opened since.
    is_news = connection._known == connection.doubts.count  # noqa: SLF001 - of this module
    if is_news and (not isinstance(error, ResponseError) or is_of_no_primary(error)):
        connection.doubts.count += 1
