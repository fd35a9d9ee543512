"""Carries out what a client does, with an event loop and without one.

All that is different for the two is here. The clients stand upon it, and are written once.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis.asyncio.retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from trainmaster_client.address import RedisAddress
from trainmaster_client.steps import Ask, Listen, raise_first

if TYPE_CHECKING:
    from trainmaster_client.steps import Step, Steps

T = TypeVar("T")

PATIENCE_SECONDS: Final = 120.0
# A blocking read must end well before the socket gives up on it.
_SOCKET_TIMEOUT_SECONDS: Final = 10.0
_CONNECT_TIMEOUT_SECONDS: Final = 5.0
# Each call that waits holds one. Newer versions of redis-py allow a hundred where nothing is said.
_MANY_CONNECTIONS: Final = 2**31
# Every step is done again where that is safe, and only there.
_NO_RETRY: Final = Retry(NoBackoff(), 0)
_ASYNC_NO_RETRY: Final = redis.asyncio.retry.Retry(NoBackoff(), 0)


class Driver:
    """Carries out steps in the thread that calls.

    Args:
        redis_url: where Redis is.
        key: any of the keys that are used, for a cluster.

    Raises:
        AddressError: the URL names no Redis, or files for TLS that can't be used.
    """

    def __init__(self, redis_url: str, key: str) -> None:
        self._redis = _checked(redis_url).client(
            key,
            socket_timeout=_SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            retry=_NO_RETRY,
            max_connections=_MANY_CONNECTIONS,
        )
        # Replies as they come; redis-py's own reading of them differs by version and protocol.
        self._redis.response_callbacks.clear()

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def raise_if_cancelled(self) -> None:
        """Does nothing: a thread can't be cancelled."""

    def run(self, steps: Steps[T]) -> T:
        """Carries a procedure out and returns what it returns."""
        try:
            step = next(steps)
            while True:
                try:
                    reply = self._do(step)
                except (RedisError, OSError) as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            found: T = end.value
            return found

    def _do(self, step: Step) -> Any:
        match step:
            case Ask(commands, raises):
                pipe = self._redis.pipeline(transaction=False)
                for command in commands:
                    pipe.execute_command(*command)
                # Not raised by redis-py: that would say the whole command, data and all.
                replies = pipe.execute(raise_on_error=False)
                return raise_first(replies) if raises else replies
            case Listen(command):
                return self._redis.execute_command(*command)
            case _:
                time.sleep(step.seconds)
                return None


class AsyncDriver:
    """Carries out steps in the task that calls.

    Args:
        redis_url: where Redis is.
        key: any of the keys that are used, for a cluster.

    Raises:
        AddressError: the URL names no Redis, or files for TLS that can't be used.
    """

    def __init__(self, redis_url: str, key: str) -> None:
        self._redis = _checked(redis_url).asyncio_client(
            key,
            socket_timeout=_SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            retry=_ASYNC_NO_RETRY,
            max_connections=_MANY_CONNECTIONS,
        )
        # Replies as they come; redis-py's own reading of them differs by version and protocol.
        self._redis.response_callbacks.clear()

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    def raise_if_cancelled(self) -> None:
        """Ends a task that was cancelled though redis-py, in an earlier call, swallowed that."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError

    async def run(self, steps: Steps[T]) -> T:
        """Carries a procedure out and returns what it returns.

        redis-py may lose a cancellation that meets a call at the wrong moment, so that is looked
        at after each: https://github.com/redis/redis-py/issues/2551.
        """
        task = asyncio.current_task()
        cancelled = 0 if task is None else task.cancelling()
        try:
            step = next(steps)
            while True:
                if task is not None and task.cancelling() > cancelled:
                    raise asyncio.CancelledError
                try:
                    reply = await self._do(step)
                except (RedisError, OSError) as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            if task is not None and task.cancelling() > cancelled:
                raise asyncio.CancelledError from None
            found: T = end.value
            return found

    async def _do(self, step: Step) -> Any:
        match step:
            case Ask(commands, raises):
                pipe = self._redis.pipeline(transaction=False)
                for command in commands:
                    pipe.execute_command(*command)
                # Not raised by redis-py: that would say the whole command, data and all.
                replies = await pipe.execute(raise_on_error=False)
                return raise_first(replies) if raises else replies
            case Listen(command):
                return await self._redis.execute_command(*command)
            case _:
                await asyncio.sleep(step.seconds)
                return None


class Stop:
    """Tells a consumer to stop, from any thread or a signal's handler."""

    def __init__(self) -> None:
        self._is_set = False
        # Unlike an event's, its `put` may interrupt itself and `get`, as a signal's handler does.
        self._awake: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Tells whether to stop."""
        return self._is_set

    def set(self) -> None:
        """Ends every pause."""
        self._is_set = True
        self._awake.put(None)

    def pause(self, seconds: float) -> None:
        """Waits so long, or until the consumer is to stop."""
        with suppress(Empty):
            self._awake.get(timeout=seconds)


class AsyncStop(asyncio.Event):
    """Tells a consumer to stop, from any task."""

    async def pause(self, seconds: float) -> None:
        """Waits so long, or until the consumer is to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), seconds)


def consumer_name() -> str:
    """Returns a name that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _checked(redis_url: str) -> RedisAddress:
    address = RedisAddress.parse(redis_url)
    address.check_files()
    return address
