"""Connections that are opened anew once one of them shows that all of them may lead nowhere.

After a planned failover the name in the address leads to another server, but the one that was the
primary lives on as a replica and closes no connection. Whoever keeps one is refused for ever.

What lies between may forget connections, too, all at once and without a word. Each of them would
cost a command that waits in vain, those that were idle long after.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis.asyncio.connection
import redis.connection
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from trainmaster_client.cluster import AsyncClusterConnection

if TYPE_CHECKING:
    from redis.asyncio import Redis as AsyncRedis

R = TypeVar("R", bound="redis.Redis | AsyncRedis")

# What was opened for a doubt raises none for so long: while every command is refused, as without
# replicas, each would else open a connection of its own.
_FRESH_SECONDS: Final = 1.0
# A primary that was cut off from its replicas; redis-py has no class of its own for that.
_CUT_OFF: Final = "NOREPLICAS"


def is_of_no_primary(error: ResponseError) -> bool:
    """Tells whether another server may be the primary by now."""
    return isinstance(error, (ReadOnlyError, MasterDownError)) or str(error).startswith(_CUT_OFF)


def seek_primary(client: R) -> R:
    """Has a client's connections look for the primary anew where that may help; returns it."""
    pool: Any = client.connection_pool
    is_blocking = issubclass(pool.connection_class, redis.connection.AbstractConnection)
    seeking = _Seeking if is_blocking else _AsyncSeeking
    follows_slot = issubclass(pool.connection_class, AsyncClusterConnection)
    told = {"doubts": _Doubts(), "follows_slot": follows_slot}
    pool.connection_class = type("SeekingConnection", (seeking, pool.connection_class), told)
    return client


class _Doubts:
    """How often a connection of one client has shown that all may lead nowhere."""

    count = 0


class _Doubtful:
    """What both kinds of connections know of themselves."""

    doubts: _Doubts
    # The doubts there were when it was opened.
    _known = 0
    # Because of a doubt, by the monotonic clock.
    _opened_at = float("-inf")

    @property
    def is_doubted(self) -> bool:
        """Whether it may lead nowhere by now."""
        return self._known != self.doubts.count

    def doubt(self, error: ResponseError | RedisTimeoutError) -> None:
        """Has all of the client's connections be opened anew where an error says that it helps."""
        # One that was opened before the last doubt says nothing of those that were opened since.
        if self.is_doubted or time.monotonic() - self._opened_at < _FRESH_SECONDS:
            return
        if not isinstance(error, ResponseError) or is_of_no_primary(error):
            self.doubts.count += 1


class _Seeking(_Doubtful, redis.connection.AbstractConnection):
    """Pools call `connect` each time that they hand a connection out."""

    def connect(self) -> None:
        if self.is_doubted:
            self._known = self.doubts.count
            self._opened_at = time.monotonic()
            self.disconnect()
        super().connect()

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except (ResponseError, RedisTimeoutError) as exc:
            # Not closed at once: further replies of the same pipeline may be under way.
            self.doubt(exc)
            raise


class _AsyncSeeking(_Doubtful, redis.asyncio.connection.AbstractConnection):
    """The same for an event loop."""

    # Whether it looks by itself, each time, where its slot is by now.
    follows_slot: bool

    async def connect(self) -> None:
        if self.is_doubted:
            self._known = self.doubts.count
            self._opened_at = time.monotonic()
            await self.disconnect(nowait=True)
        # By itself redis-py readies what would try again before it looks.
        if self.follows_slot or not self.is_connected:
            await super().connect()

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except (ResponseError, RedisTimeoutError) as exc:
            self.doubt(exc)
            raise
