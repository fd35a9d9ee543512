"""redis-py's client for event loops, without what surrounds each of its commands.

Around a command redis-py tries again, counts and times for OpenTelemetry, and tells listeners that
a connection has come back, whether anybody listens or not. That takes as long as the command
itself, and three times as long where a command comes alone, after the processor has done something
else. Here nothing is tried again (see `connection.connect`), and telemetry has a seam of its own.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# After these redis-py closes a connection whose reply may still come.
_LOST = (RedisConnectionError, RedisTimeoutError, TimeoutError)


class LeanRedis(Redis):
    """A client whose single commands go straight to a connection of its pool.

    Pipelines, and clients with a connection of their own, are redis-py's.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Sends a command and returns its parsed reply.

        Raises:
            redis.exceptions.RedisError: it was refused, or nobody knows what became of it.
        """
        if self.single_connection_client:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        # redis-py leaves the half of what a pool has untyped.
        pool: Any = self.connection_pool
        # No lock: nothing waits between taking one and noting that.
        connection = pool.get_available_connection()
        try:
            await pool.ensure_connection(connection)
            await connection.send_command(*args)
            return await self.parse_response(connection, args[0], **options)
        except _LOST:
            await connection.disconnect()
            raise
        finally:
            # What the pool's `release` does, between its lock and its listeners.
            pool._in_use_connections.remove(connection)  # noqa: SLF001
            if connection.should_reconnect():
                await connection.disconnect()
            pool._available_connections.append(connection)  # noqa: SLF001
