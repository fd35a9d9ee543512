"""Connections to Redis, for the ledger and for everything that reads it."""

from __future__ import annotations

import asyncio
import errno
import re
from typing import TYPE_CHECKING, Any, Final, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError, RedisError

from trainmaster_client.packing import numbers_as_text
from worker.queue.ledger.entry_fields import keep_doubled_fields
from worker.queue.ledger.lean_client import LeanRedis
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

# What a call of the ledger may raise when Redis is away, full or on its way back: nothing is
# known of the call's outcome, and calling again is safe.
RETRYABLE_REDIS_ERRORS = (RedisError, OSError, TimeoutError)

# Of it, what comes from Redis and nowhere else: a file that can't be opened is no reason to wait.
PASSING_TROUBLE = (RedisError, ConnectionError, TimeoutError)

_TAG: Final = re.compile(r"[^{]*\{([^}]+)\}")

# A blocking read must end well before the socket gives up on it.
SOCKET_TIMEOUT_SECONDS = 10.0
BLOCK_MILLISECONDS = 2_000


# Below the high water mark of a transport, from which on a writer has to wait.
_AT_ONCE_BYTES = 32_768

# Above the most slots of a process, each of which makes one call at a time: the pool refuses
# what is more, and a refused checkpoint would cost its run the lease. Only what is used is opened.
MAX_CONNECTIONS = 5_000


def connect(url: str, key: str | None = None, *, max_connections: int = MAX_CONNECTIONS) -> Redis:
    """Returns a client for `url`; it connects at its first command.

    Commands are not retried here: a script whose reply was lost may have run, and only its
    caller knows what a second run means.

    Args:
        url: where Redis is.
        key: for a cluster, any of the keys that are used; all share one slot.
        max_connections: more are refused.
    """
    address = RedisAddress.parse(url)
    client = address.asyncio_client(
        key,
        client_class=LeanRedis,
        decode_responses=False,
        max_connections=max_connections,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=5.0,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 0),
    )
    keep_doubled_fields(client)
    pool = client.connection_pool
    # Plain, TLS, Sentinel's or a cluster's: each packs in Python unless it is told otherwise.
    packed = _WholeScripts if address.is_cluster else _Packed
    told = {"absent_key": _absent_key(key or "")} if address.is_cluster else {}
    pool.connection_class = type("PackedConnection", (packed, pool.connection_class), told)
    return client


class _Packed(AbstractConnection):
    """Packs commands with hiredis, which redis-py's connections for event loops only read with.

    What uvloop says of a connection that has closed before a command is written to it is no error
    of Redis to redis-py; here it is one, so that it passes like any other loss.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Writes what fits into the transport's buffer at once, for nothing waits there.

        redis-py makes a task and a timer for each command, so that none waits for ever; they take
        as long as packing, writing and reading it.
        """
        if not isinstance(command, list) or not self._takes_at_once(command, check_health):
            await super().send_packed_command(command, check_health)
            return
        try:
            self._write(command)
        except OSError as exc:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"Error while writing to socket. {exc}") from exc

    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        self._write(command)
        await cast("asyncio.StreamWriter", self._writer).drain()

    def _write(self, command: Iterable[bytes]) -> None:
        try:
            cast("asyncio.StreamWriter", self._writer).writelines(command)
        except RuntimeError as exc:
            raise ConnectionResetError(errno.ECONNRESET, "the connection has closed") from exc

    def _takes_at_once(self, command: list[bytes], check_health: bool) -> bool:
        writer = self._writer
        if writer is None or writer.transport.get_write_buffer_size():
            return False
        if check_health and self.health_check_interval:
            now = asyncio.get_running_loop().time()
            if now > self.next_health_check:
                return False
        return sum(map(len, command)) <= _AT_ONCE_BYTES

    async def can_read(self) -> bool:
        """Has the pool connect anew where the server has closed the connection, or bytes wait.

        By itself redis-py 8.1 hands such a connection out: it keeps bytes for notices of
        maintenance, and takes the end of a connection for bytes. After a restart of Redis each
        connection that had been idle would cost one command.
        """
        if await cast("Any", self._parser).can_read():
            raise ConnectionResetError(errno.ECONNRESET, "the connection has closed")
        return False

    def pack_command(self, *args: Any) -> list[bytes]:
        command, *rest = args
        name = command.encode() if isinstance(command, str) else command
        try:
            return [hiredis.pack_command((*name.split(), *numbers_as_text(rest)))]
        except TypeError as exc:
            raise DataError(str(exc)) from exc


class _WholeScripts(_Packed):
    """Has a cluster run each script as a whole or not at all, while a slot is moved key by key.

    Our scripts come upon keys that they find in rows. Where one of these has gone to the other node
    already, the script would break off in its middle, after what it has written. So each names one
    key more, which never exists: a node that is giving a slot away refuses a command that names a
    key it does not have, before it runs (TRYAGAIN, ASK). Workers wait until the slot has moved.
    """

    absent_key: str

    def pack_command(self, *args: Any) -> list[bytes]:
        if args[0] == "EVALSHA":
            _, sha, count, *rest = args
            keys, arguments = rest[: int(count)], rest[int(count) :]
            args = ("EVALSHA", sha, int(count) + 1, *keys, self.absent_key, *arguments)
        return super().pack_command(*args)


def _absent_key(key: str) -> str:
    """Returns a key in the slot of another that nobody writes."""
    tag = _TAG.match(key)
    return f"{{{tag[1] if tag else key}}}:absent"


def stop_if_cancelled() -> None:
    """Ends a task that was asked to end, though a call of Redis has swallowed that.

    redis-py may lose a cancellation that meets a call at the wrong moment; a loop that trusts it
    alone would never end. See https://github.com/redis/redis-py/issues/2551.

    Raises:
        asyncio.CancelledError: the running task was cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks until they have ended: redis-py may lose a cancellation."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1.0)
