"""The gate before every request: the fleet's rate, its concurrency, and the API's health.

The limits are kept where all workers can see them, in Redis, behind the protocol `FleetLimits`;
the circuit breaker is each process' own, for it is evidence that opens it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from schemas.enums import Priority
from schemas.events import ErrorCode
from worker.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    MisconfiguredError,
    NotSentError,
    RateLimitedError,
    ServerFailedError,
    ShortageError,
    TrainmasterError,
)
from worker.queue.log_listener import LOGS
from worker.queue.telemetry import RequestEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from worker.encord.api.credentials_watch import CredentialsWatch
    from worker.encord.api.transport import Transport
    from worker.http.response import Response
    from worker.http.timeouts import Timeouts
    from worker.queue.circuit_breaker import CircuitBreaker
    from worker.queue.telemetry import Listener

log = structlog.get_logger(__name__)

# uvloop's timers count whole milliseconds, so a wait until the deadline may end just before it.
_TIMER_SECONDS: Final = 0.01


class FleetLimits(Protocol):
    """What all workers share."""

    async def enter(self, lane: Priority) -> str:
        """Waits for a turn, bulk commands behind others; returns a permit to give back."""
        ...

    async def leave(self, permit: str) -> None:
        """Gives a permit back."""
        ...

    async def hold(self, seconds: float, reason: str) -> None:
        """Holds every worker back, because the API asked for it."""
        ...


class ThrottledTransport:
    """Sends requests through the limits and tells the breaker how they went.

    It has the transport's one method, so that the client does not know of it.

    Args:
        transport: what sends them.
        limits: of the fleet.
        breaker: of this process.
        deadline: in seconds since the epoch; past it nothing more is sent.
        lane: of the command whose requests these are.
        turn: is entered while a request waits for the limits.
        credentials: is told of each 401.
        now: seconds since the epoch, by the clock that deadlines are judged by.
        telemetry: whoever is told of each request.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        transport: Transport,
        limits: FleetLimits | None,
        breaker: CircuitBreaker | None,
        *,
        deadline: float | None = None,
        lane: Priority = Priority.INTERACTIVE,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
        credentials: CredentialsWatch | None = None,
        now: Callable[[], float] = time.time,
        telemetry: Listener = LOGS,
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._breaker = breaker
        self._deadline = deadline
        self._lane = lane
        self._turn = turn
        self._credentials = credentials
        self._now = now
        self._telemetry = telemetry
        self._is_heard = telemetry.hears("requested")

    def until(
        self,
        deadline: float | None,
        lane: Priority | None = None,
        turn: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> ThrottledTransport:
        """Returns the same gate, but for its deadline and perhaps for whose requests it is."""
        return ThrottledTransport(
            self._transport,
            self._limits,
            self._breaker,
            deadline=deadline,
            lane=lane or self._lane,
            turn=turn or self._turn,
            credentials=self._credentials,
            now=self._now,
            telemetry=self._telemetry,
        )

    @property
    def timeouts(self) -> Timeouts:
        """How long each phase of a request may take."""
        return self._transport.timeouts

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        fresh: bool = False,
        read_timeout_seconds: float | None = None,
    ) -> Response:
        """Sends a request as soon as the limits let it through; raises what the transport does.

        Raises:
            DeadlineExceededError: the deadline came before its turn; nothing was sent.
        """
        limits = self._limits
        asked_at = time.monotonic()
        permit = "" if limits is None else await self._enter(limits)
        response = None
        sent_at = time.monotonic()
        try:
            response = await self._transport.send(
                method,
                path,
                query=query,
                body=body,
                fresh=fresh,
                read_timeout_seconds=read_timeout_seconds,
                within_seconds=None if self._deadline is None else self._rest(self._deadline),
            )
        except TrainmasterError as error:
            if isinstance(error, NotSentError) and self._came_while_waiting():
                raise _lateness() from error
            if self._is_heard:
                status, seconds = getattr(error, "status", None) or 0, time.monotonic() - sent_at
                self._telemetry.requested(
                    RequestEnd(method, path, status, seconds, sent_at - asked_at, error.code)
                )
            await self._tell(error)
            raise
        finally:
            if permit and limits is not None:
                await _leave(limits, permit, response)
        if self._is_heard:
            seconds = time.monotonic() - sent_at
            self._telemetry.requested(
                RequestEnd(method, path, response.status, seconds, sent_at - asked_at)
            )
        if self._breaker is not None:
            self._breaker.succeeded()
        return response

    async def _enter(self, limits: FleetLimits) -> str:
        with self._turn():
            if self._deadline is None:
                return await limits.enter(self._lane)
            return await _enter_within(limits, self._lane, self._deadline - self._now())

    def _rest(self, deadline: float) -> float:
        """Returns the seconds until a deadline, more than 0."""
        rest = deadline - self._now()
        if rest <= 0:
            raise _lateness()
        return rest

    def _came_while_waiting(self) -> bool:
        """Tells whether the deadline came while a request waited to be sent."""
        return self._deadline is not None and self._deadline <= self._now() + _TIMER_SECONDS

    async def _tell(self, error: TrainmasterError) -> None:
        match error:
            case RateLimitedError():
                if self._limits is not None:
                    seconds = error.retry_after_seconds or 1.0
                    await self._limits.hold(seconds, f"the API answered 429: {error.message}")
            case MisconfiguredError():
                if self._credentials is not None:
                    self._credentials.suspect()
                if self._breaker is not None:
                    self._breaker.succeeded()
            case DeadlineExceededError() | ShortageError():
                # Nothing was sent, so nothing is learned of the API.
                pass
            case NotSentError() | ConnectionLostError() | ServerFailedError():
                if self._breaker is not None:
                    self._breaker.failed()
            case _:
                if self._breaker is not None:
                    self._breaker.succeeded()


async def _enter_within(limits: FleetLimits, lane: Priority, seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            return await limits.enter(lane)
    except TimeoutError as exc:
        raise _lateness() from exc


async def _leave(limits: FleetLimits, permit: str, response: Response | None) -> None:
    try:
        await limits.leave(permit)
    except BaseException:
        # Nobody will read it, and its connection waits for that.
        if response is not None:
            response.distrust()
        raise


def _lateness() -> DeadlineExceededError:
    return DeadlineExceededError(
        "the deadline passed before the call's turn had come", code=ErrorCode.DEADLINE_EXCEEDED
    )
