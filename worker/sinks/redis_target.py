"""A stream or a list of another Redis, or of our own, as a destination."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS, connect
from worker.queue.ledger.lua import load_script
from worker.redis_address import RedisAddress
from worker.sinks.destinations import Answer, DeliveryError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

    from trainmaster_client import Event
    from worker.integrations.sink_config import RedisSink

# An event that is sent twice is sent twice within the days in which it is tried.
REMEMBERED_MS: Final = 7 * 86_400_000
# Of so many events that were added last, about 13 MB: what is sent twice is so within seconds,
# or after a pause in which nothing else was added either.
REMEMBERED_EVENTS: Final = 100_000
_TAG: Final = re.compile(r"[^{]*\{([^}]+)\}")
_CONNECTIONS: Final = 32


class RedisTarget:
    """A stream or a list; an event that was added is not added again.

    Args:
        config: of the target.
        redis: our own, for a target without a URL.
    """

    def __init__(self, config: RedisSink, redis: Redis) -> None:
        self._own = None
        if config.url is not None:
            self._address = RedisAddress.parse(config.url.value.decode())
            key = config.stream or config.list or ""
            self._own = connect(config.url.value.decode(), key, max_connections=_CONNECTIONS)
        client = self._own or redis
        if config.stream is not None:
            self._key, self._append = config.stream, _script(client, "append_stream")
        else:
            self._key, self._append = config.list or "", _script(client, "append_list")
        self._maxlen = config.maxlen or ""

    async def send(self, event: Event, text: bytes) -> Answer:
        """Adds an event, unless it is there.

        Raises:
            DeliveryError: Redis is away or refuses it.
        """
        try:
            added = await self._append(
                keys=[self._key, sent_key(self._key)],
                args=[event.id, text, self._maxlen, REMEMBERED_MS, REMEMBERED_EVENTS],
            )
        except RETRYABLE_REDIS_ERRORS as exc:
            said = " ".join(str(exc).split()) or type(exc).__name__
            if self._own is not None:
                said = self._address.without_secrets(said)
            raise DeliveryError(f"Redis: {said}"[:500]) from exc
        return Answer("added" if added else "was there already")

    async def close(self) -> None:
        """Closes its connections."""
        if self._own is not None:
            await self._own.aclose()


def sent_key(key: str) -> str:
    """Returns the key of the ids that were added, in the same slot of a Redis Cluster."""
    return f"{key}:sent" if _TAG.match(key) else f"{{{key}}}:sent"


def _script(redis: Redis, name: str) -> AsyncScript:
    return load_script(redis, name, "worker.sinks")
