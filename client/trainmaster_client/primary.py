"""Connections that look for the primary anew once their server says that it is none.

After a planned failover the name in the address leads to another server, but the one that was the
primary lives on as a replica and closes no connection. Whoever keeps one is refused for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis.asyncio.connection
import redis.connection
from redis.exceptions import ReadOnlyError, ResponseError

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
    told = {"refusals": _Refusals()}
    pool.connection_class = type("SeekingConnection", (seeking, pool.connection_class), told)
    return client


class _Refusals:
    """How often the connections of one client were refused by what is no primary."""

    count = 0


class _Seeking(redis.connection.AbstractConnection):
    """Pools call `connect` each time that they hand a connection out."""

    refusals: _Refusals
    _known = 0

    def connect(self) -> None:
        # One refusal tells it of all that are open.
        if self._known != self.refusals.count:
            self._known = self.refusals.count
            self.disconnect()
        super().connect()

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except ResponseError as exc:
            # Not closed at once: further replies of the same pipeline may be under way.
            self.refusals.count += is_of_no_primary(exc)
            raise


class _AsyncSeeking(redis.asyncio.connection.AbstractConnection):
    """The same for an event loop."""

    refusals: _Refusals
    _known = 0

    async def connect(self) -> None:
        if self._known != self.refusals.count:
            self._known = self.refusals.count
            await self.disconnect(nowait=True)
        await super().connect()

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except ResponseError as exc:
            self.refusals.count += is_of_no_primary(exc)
            raise
