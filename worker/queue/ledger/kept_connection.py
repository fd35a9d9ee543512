"""One connection to Redis, kept for many calls of scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript


class KeptConnection:
    """Runs scripts over a connection of a client's pool that it keeps, one at a time.

    redis-py takes a connection from the pool for each command, looks it over, counts it and gives
    it back, which takes twice as long as the command itself. One whose call was broken off has
    closed itself: its reply may still come, and would answer the next call.
    """

    def __init__(self, redis: Redis) -> None:
        # redis-py leaves the half of what both have untyped.
        self._pool: Any = redis.connection_pool
        self._connection: Any = None

    async def run(
        self, script: AsyncScript, keys: Sequence[str], arguments: Sequence[str | bytes | int]
    ) -> Any:
        """Returns what a script returns; nothing is tried again.

        Raises:
            redis.exceptions.RedisError: as a call of the script itself.
        """
        connection = await self._take()
        try:
            await connection.send_command("EVALSHA", script.sha, len(keys), *keys, *arguments)
            return await connection.read_response()
        except NoScriptError:
            return await script(keys=keys, args=arguments)

    async def close(self) -> None:
        """Closes the connection; a further call opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.disconnect(nowait=True)
            finally:
                await self._pool.release(connection)

    async def _take(self) -> Any:
        """Returns the connection, or another one where it has closed meanwhile."""
        if self._connection is not None:
            try:
                is_ready = not (
                    self._connection.should_reconnect()
                    or self._connection.is_doubted
                    or await self._connection.can_read()
                )
            except OSError:
                is_ready = False
            if is_ready:
                return self._connection
            await self.close()
        self._connection = await self._pool.get_connection()
        return self._connection
