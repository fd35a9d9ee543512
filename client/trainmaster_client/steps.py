"""What a client does, written once for programs with and without an event loop.

A procedure is a generator: it yields what Redis is to be asked and is sent the reply, or the error
is raised where it yielded. `trainmaster_client.driver` carries it out, with an event loop or not.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    DataError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from trainmaster_client.errors import RedisRefusedError, RedisUnavailableError

T = TypeVar("T")

ELSEWHERE: Final = (
    "this server is a node of a Redis Cluster, and another one holds the namespace; "
    "write redis+cluster:// (by TLS rediss+cluster://) in the URL"
)
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0
# What no patience helps against: rights, passwords, and what others put where a stream should be.
_LASTING: Final = (AuthenticationError, AuthorizationError, NoPermissionError, DataError)
# Errors of a server that is full, follows another one or is short of replicas. Those with a class
# of their own come without the word that Redis begins them with.
_PASSING: Final = (
    OutOfMemoryError,
    ReadOnlyError,
    ClusterDownError,
    TryAgainError,
)
_PASSING_WORDS: Final = (
    "LOADING",
    "BUSY ",
    "READONLY",
    "MASTERDOWN",
    "NOREPLICAS",
    "OOM",
    "MISCONF",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "UNBLOCKED",
    "max number of clients",
)


@dataclass(frozen=True, slots=True)
class Ask:
    """Commands that go out together; the reply is a list with theirs.

    Attributes:
        raises: whether an error among the replies is raised; else it stands among them.
    """

    commands: tuple[tuple[Any, ...], ...]
    raises: bool = True


@dataclass(frozen=True, slots=True)
class Listen:
    """One command that may block for so long; the reply is its own."""

    command: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Sleep:
    """A pause; the reply is None."""

    seconds: float


Step = Ask | Listen | Sleep
Steps = Generator[Step, Any, T]


def ask(*command: Any) -> Steps[Any]:
    """Returns the reply to one command."""
    (reply,) = yield Ask((command,))
    return reply


def raise_first(replies: list[Any]) -> list[Any]:
    """Returns replies none of which is an error; else raises the first that is one."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def answer_of(error: BaseException) -> str:
    """Returns what the server answered; of several commands, redis-py says first to which."""
    _, found, answer = str(error).rpartition("of pipeline caused error: ")
    return answer.lstrip("('\"") if found else str(error)


def passes(error: BaseException) -> bool:
    """Tells whether Redis may answer if it is asked again."""
    if isinstance(error, _LASTING):
        return False
    if isinstance(error, ResponseError):
        return isinstance(error, _PASSING) or answer_of(error).startswith(_PASSING_WORDS)
    return isinstance(error, RedisError | OSError) and not _distrusts(error)


def _distrusts(error: BaseException) -> bool:
    """Tells whether a certificate was not accepted."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return True
        found = found.__cause__ or found.__context__
    return False


class Patience:
    """How long Redis may be away; begins anew each time it has answered.

    Args:
        seconds: until it is up.
        on_trouble: is told the first error of each outage.
    """

    def __init__(
        self, seconds: float, on_trouble: Callable[[BaseException], None] | None = None
    ) -> None:
        self._seconds = seconds
        self._on_trouble = on_trouble or (lambda _: None)
        self._since: float | None = None
        self._pause = _FIRST_PAUSE_SECONDS

    def worked(self) -> None:
        """Redis has answered."""
        self._since = None
        self._pause = _FIRST_PAUSE_SECONDS

    def failed(self, error: BaseException, command_ids: tuple[str, ...] = ()) -> Steps[None]:
        """Waits until it makes sense to ask again.

        Raises:
            RedisUnavailableError: the time is up.
            RedisRefusedError: it would be the same again.
        """
        if not passes(error):
            # What a node of a cluster says is a slot and an address.
            said = ELSEWHERE if isinstance(error, MovedError) else error
            raise RedisRefusedError(f"Redis: {said}", command_ids) from error
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._on_trouble(error)
        if now - self._since >= self._seconds:
            what = type(error).__name__
            if isinstance(error, ResponseError):
                # It has, but to say why it does nothing now.
                what += f": {error}"
            told = f"Redis has not answered for {self._seconds:g} s ({what})"
            raise RedisUnavailableError(told, command_ids) from error
        yield Sleep(self._pause)
        self._pause = min(_LONGEST_PAUSE_SECONDS, self._pause * 2)


def insist_unless(
    stopped: Callable[[], bool], patience: Patience, act: Callable[[], Steps[T]]
) -> Steps[T | None]:
    """Is `insist` for what nobody needs once `stopped`: then it returns None."""
    while not stopped():
        try:
            found = yield from act()
        except (RedisError, OSError) as exc:
            yield from patience.failed(exc)
        else:
            patience.worked()
            return found
    return None


def insist(patience: Patience, act: Callable[[], Steps[T]]) -> Steps[T]:
    """Returns what `act` returns, however often Redis is away until then; it may be done again."""
    while True:
        try:
            found = yield from act()
        except (RedisError, OSError) as exc:
            yield from patience.failed(exc)
        else:
            patience.worked()
            return found
