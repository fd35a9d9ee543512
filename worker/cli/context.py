"""The ledger that a command reads or changes: one namespace in one Redis."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pwd
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from redis.exceptions import AuthenticationError

from trainmaster_client import Client, RedisTroubleError
from worker.environment import load_ledger_settings
from worker.logging import configure
from worker.queue.ledger.actions import ActionLog
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS, connect
from worker.queue.ledger.keys import Keys
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from redis.asyncio import Redis

    from worker.acts import Act
    from worker.queue.ledger.actions import Entry
    from worker.settings import LedgerSettings

T = TypeVar("T")

_CANCEL_AGAIN_SECONDS: Final = 0.1


@dataclass(frozen=True)
class LedgerContext:
    """A ledger; it needs no credentials for the API.

    What is not given comes from the environment.
    """

    redis_url: str | None = field(repr=False)
    namespace: str | None

    @functools.cached_property
    def settings(self) -> LedgerSettings:
        """The settings; a wrong one raises `SettingError` at the first use."""
        return load_ledger_settings(self.redis_url, self.namespace)

    @functools.cached_property
    def keys(self) -> Keys:
        """The keys of the namespace."""
        return Keys(self.settings.namespace)

    def run(self, act: Callable[[Redis], Awaitable[T]]) -> T:
        """Returns what `act` returns; trouble with Redis is one line, and the exit code 1.

        Raises:
            click.ClickException: Redis is away, or does not let us in.
        """
        url = self.settings.redis_url.get_secret_value()

        async def connected() -> T:
            redis = connect(url)
            try:
                return await act(redis)
            finally:
                await redis.aclose()

        try:
            return asyncio.run(_interruptible(connected()))
        except BrokenPipeError:
            # Whoever read our output has left; that is no trouble of Redis.
            raise
        except RETRYABLE_REDIS_ERRORS as exc:
            raise click.ClickException(self.trouble(exc)) from exc

    def recorded(
        self,
        redis: Redis,
        act: Act,
        subject: str | None = None,
        *,
        dry_run: bool = False,
        **details: Any,
    ) -> contextlib.AbstractAsyncContextManager[Entry]:
        """Records an act of whoever runs this, if its entry is told that it is done."""
        log = ActionLog(redis, self.keys)
        return log.recorded(console_name(), act, subject, dry_run=dry_run, **details)

    @contextlib.contextmanager
    def client(self, patience_seconds: float = 0.0) -> Iterator[Client]:
        """Yields a client; trouble with Redis is one line, and the exit code 1.

        Args:
            patience_seconds: for how long Redis may be away.

        Raises:
            click.ClickException: Redis is away, or does not let us in.
        """
        url = self.settings.redis_url.get_secret_value()
        try:
            with Client(
                url, namespace=self.settings.namespace, patience_seconds=patience_seconds
            ) as client:
                yield client
        except BrokenPipeError:
            # Whoever read our output has left; that is no trouble of Redis.
            raise
        except RedisTroubleError as exc:
            raise click.ClickException(self.trouble(exc.__cause__ or exc)) from exc

    def trouble(self, exc: BaseException) -> str:
        """Returns a line about trouble with Redis, without its password."""
        address = RedisAddress.parse(self.settings.redis_url.get_secret_value())
        said = " ".join(str(exc).split()).rstrip(".") or type(exc).__name__
        said = address.without_secrets(said)
        if isinstance(exc, AuthenticationError):
            said = f"{said}; check user and password in TRAINMASTER_REDIS_URL"
        return f"Redis: {said}"


def console_name() -> str:
    """Returns who runs this, as the log of acts has it: the system's user, and the machine."""
    number = os.geteuid()
    try:
        user = pwd.getpwuid(number).pw_name
    except KeyError:
        # In a container users need no names.
        user = str(number)
    return f"cli:{user}@{socket.gethostname()}"


async def _interruptible(act: Coroutine[Any, Any, T]) -> T:
    """Runs `act` so that an interrupt always ends it.

    redis-py sends through `asyncio.wait_for`, which before Python 3.12 loses a cancellation that
    comes while it returns: https://github.com/python/cpython/issues/86296
    """
    task = asyncio.ensure_future(act)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_CANCEL_AGAIN_SECONDS)
        raise


def ledger_command(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that name its ledger, and passes that as `ledger`."""

    @click.option(
        "--redis-url",
        metavar="URL",
        help="Instead of TRAINMASTER_REDIS_URL; process lists show it.",
    )
    @click.option("--namespace", metavar="NAME", help="Instead of TRAINMASTER_NAMESPACE.")
    @functools.wraps(function)
    def command(*, redis_url: str | None, namespace: str | None, **options: Any) -> None:
        # Lines of what the command uses: on stdout they would stand in the middle of its output.
        configure("WARNING", "text")
        function(ledger=LedgerContext(redis_url, namespace), **options)

    return command
