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
from redis.exceptions import AuthenticationError, InvalidResponse, MovedError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from trainmaster_client import Client, Partitions, RedisTroubleError, partition_of
from trainmaster_client.steps import ELSEWHERE
from worker.environment import load_ledger_settings
from worker.errors import SettingError, SeveralNamespacesError
from worker.logging import configure
from worker.queue.ledger.actions import ActionLog
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS, connect
from worker.queue.ledger.keys import Keys
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence

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
    def partitions(self) -> tuple[LedgerContext, ...]:
        """The ledger of each namespace: one, or several where a list of them is named."""
        settings = load_ledger_settings(self.redis_url, self.namespace, partitions=True)
        return tuple(LedgerContext(self.redis_url, name) for name in settings.namespaces)

    def of(self, command_id: str) -> LedgerContext:
        """Returns the ledger that has a command."""
        if len(self.partitions) == 1:
            return self.partitions[0]
        by_name = {each.settings.namespace: each for each in self.partitions}
        return by_name[partition_of(command_id, by_name)]

    def holding(
        self, name: str, is_known: Callable[[LedgerContext, Redis], Awaitable[bool]]
    ) -> LedgerContext:
        """Returns the ledger that knows something by an id; of none that which should have it.

        Raises:
            click.ClickException: Redis is away, or does not let us in.
        """
        if len(self.partitions) == 1:
            return self.partitions[0]

        async def look(
            one: LedgerContext, redis: Redis, names: Sequence[str]
        ) -> list[LedgerContext | None]:
            return [one if await is_known(one, redis) else None for _ in names]

        (found,) = self.run_by_id([name], look, is_known=lambda each: each is not None)
        return found or self.of(name)

    def run_by_id(
        self,
        command_ids: Sequence[str],
        act: Callable[[LedgerContext, Redis, Sequence[str]], Awaitable[Sequence[T]]],
        *,
        is_known: Callable[[T], bool],
    ) -> list[T]:
        """Returns what `act` returns for each command, in order.

        A ledger is asked for the commands that it should have, and every other one for those that
        it does not know: who sent them may have chosen a namespace.

        Raises:
            click.ClickException: Redis is away, or does not let us in.
        """
        found: dict[str, T] = {}
        for one in self.partitions:
            share = [each for each in command_ids if self.of(each) == one]
            found |= _run_share(one, share, act)
        for one in self.partitions if len(self.partitions) > 1 else ():
            lost = [each for each in command_ids if not is_known(found[each])]
            told = _run_share(one, [each for each in lost if self.of(each) != one], act)
            found |= {name: each for name, each in told.items() if is_known(each)}
        return [found[each] for each in command_ids]

    @functools.cached_property
    def settings(self) -> LedgerSettings:
        """The settings; a wrong one raises `SettingError` at the first use."""
        return load_ledger_settings(self.redis_url, self.namespace)

    @functools.cached_property
    def address(self) -> RedisAddress:
        """Where Redis is."""
        return RedisAddress.parse(self.partitions[0].settings.redis_url.get_secret_value())

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
            redis = connect(url, self.keys.prefix)
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
        """Yields a client of one namespace; trouble with Redis is one line, and the exit code 1.

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

    @contextlib.contextmanager
    def clients(self, patience_seconds: float = 0.0) -> Iterator[Partitions]:
        """Yields the clients of all namespaces; trouble is told as by `client`."""
        with contextlib.ExitStack() as stack:
            each = [stack.enter_context(one.client(patience_seconds)) for one in self.partitions]
            yield Partitions(each)

    def trouble(self, exc: BaseException) -> str:
        """Returns a line about trouble with Redis, without its password."""
        said = " ".join(str(exc).split()).rstrip(".") or type(exc).__name__
        said = self.address.without_secrets(said)
        if isinstance(exc, MovedError):
            # Its own text is a slot and an address.
            said = ELSEWHERE
        if isinstance(exc, AuthenticationError):
            said = f"{said}; check user and password in TRAINMASTER_REDIS_URL"
        elif isinstance(exc, InvalidResponse):
            said = f"{said}; what answers there is no Redis: check TRAINMASTER_REDIS_URL"
        elif type(exc) in {RedisConnectionError, RedisTimeoutError}:
            said = f"{said}; check that it runs, and that TRAINMASTER_REDIS_URL leads to it"
        return f"Redis: {said}"


def _run_share(
    ledger: LedgerContext,
    command_ids: Sequence[str],
    act: Callable[[LedgerContext, Redis, Sequence[str]], Awaitable[Sequence[T]]],
) -> dict[str, T]:
    if not command_ids:
        return {}
    found = ledger.run(lambda redis: act(ledger, redis, command_ids))
    return dict(zip(command_ids, found, strict=True))


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


namespace_option: Final = click.option(
    "--namespace", metavar="NAME", help="Instead of TRAINMASTER_NAMESPACE."
)


def ledger_command(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that name its ledger, and passes that as `ledger`."""

    @click.option(
        "--redis-url",
        metavar="URL",
        help="Instead of TRAINMASTER_REDIS_URL; process lists show it.",
    )
    @namespace_option
    @functools.wraps(function)
    def command(*, redis_url: str | None, namespace: str | None, **options: Any) -> None:
        # Lines of what the command uses: on stdout they would stand in the middle of its output.
        configure("WARNING", "text")
        with naming_one():
            function(ledger=LedgerContext(redis_url, namespace), **options)

    return command


@contextlib.contextmanager
def naming_one() -> Iterator[None]:
    """Says what to type where several namespaces are named for a command that works on one.

    Raises:
        SettingError: so it is.
    """
    try:
        yield
    except SeveralNamespacesError as exc:
        path = click.get_current_context().command_path
        first, *others = exc.namespaces
        raise SettingError(
            f"{exc.message}: type {path} --namespace {first}; in place of {first} there is "
            f"{', '.join(others)}",
            code=exc.code,
        ) from exc
