"""Connections to one server, shared and bounded.

A request goes through two halves. Until it has a connection, nothing of it is written, and what
fails there is `NOT_SENT`. From then on the server may have it, whatever happens, and nothing is
sent again: with one exception, a request that may be repeated, on a connection that was at rest
and ended without a byte.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx

from worker.http.connection import Connection
from worker.http.failures import NotWrittenError
from worker.http.opening import Dialer
from worker.http.response import ResponseReader
from worker.http.timeouts import KEEP_ALIVE_SECONDS

if TYPE_CHECKING:
    from worker.http.opening import Resolve, Route
    from worker.http.response import BodyLimits, Response
    from worker.http.timeouts import Timeouts

# One timer looks after all connections. It is as late as this at most, which no timeout minds.
TICK_SECONDS: Final = 0.05

_CLOSED: Final = "the pool was closed before the request"


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for a request.

    Attributes:
        timeouts: Of each phase.
        limits: Of the response's body.
        is_repeatable: Whether it may be sent again over a new connection where the one that it
            went out on was at rest before, and ended without a byte.
        has_body: Whether a body follows the response's head; if not, its connection is closed.
        within_seconds: For a connection, instead of what the timeouts say.
        unpacks: Whether a packed body is unpacked.
        is_lenient: Whether a response is read whose head is nearly HTTP.
    """

    timeouts: Timeouts
    limits: BodyLimits
    is_repeatable: bool = False
    has_body: bool = True
    within_seconds: float | None = None
    unpacks: bool = True
    is_lenient: bool = False


class ConnectionPool:
    """Sends requests on one route; made on the event loop that it is used on.

    Args:
        route: Whom all requests go to.
        limit: Connections in use at a time; requests beyond wait, first come, first served.
        keeps: Whether a connection serves more than one request.
        resolve: Looks names up, if not the system; it alone decides what is connected to.
    """

    def __init__(
        self, route: Route, *, limit: int, keeps: bool = True, resolve: Resolve | None = None
    ) -> None:
        self.route = route
        self._keeps = keeps
        self._loop = asyncio.get_running_loop()
        self._dialer = Dialer(route, self._loop, resolve)
        self._free = limit
        self._waiters: deque[asyncio.Future[None]] = deque()
        # The last is the one that was used last; the first falls asleep first.
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        # No connection is to be looked after sooner than so long after it has changed.
        self._shortest_seconds = KEEP_ALIVE_SECONDS
        self._is_closed = False

    async def send(self, head: bytes, body: bytes, terms: Terms) -> Response:
        """Sends a request and returns its response.

        Of a pool that keeps connections, whoever has the response calls its `accept` or
        `distrust`; until then its connection serves nobody.

        Args:
            head: As `write_head` makes it.
            body: Of the length that the head tells.
            terms: What holds for it.

        Raises:
            httpx.HTTPError: One of `NOT_SENT`, or the outcome is unknown.
        """
        timeouts = terms.timeouts
        now = self._loop.time()
        within = terms.within_seconds
        ends_at = now + timeouts.total
        until = now + (timeouts.pool + timeouts.connect if within is None else within)
        # A connection that stands later than that would only carry a request in vain.
        until = min(until, ends_at)
        if self._free:
            self._free -= 1
        else:
            await self._wait_for_permit(until)
        try:
            connection = await self._connect(timeouts.connect, until)
            reader = self._reader(terms)
            try:
                response = await self._exchange(connection, head, body, reader, terms, ends_at)
            except httpx.ReadError as lost:
                if not (terms.is_repeatable and connection.is_reused) or reader.has_begun:
                    raise
                connection = await self._connect_again(timeouts.connect, until, lost)
                reader = self._reader(terms)
                response = await self._exchange(connection, head, body, reader, terms, ends_at)
        except BaseException:
            self._return_permit()
            raise
        if self._keeps and terms.has_body:
            response.keep(connection)
        else:
            connection.close()
            self._return_permit()
        return response

    async def aclose(self) -> None:
        """Closes all connections; requests that are under way fail, and no other begins."""
        self._is_closed = True
        self._dialer.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf
        for connection in tuple(self._connections):
            connection.close()
        self._idle.clear()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(NotWrittenError(_CLOSED))
        self._waiters.clear()
        # They end in the loop's next turn, and the loop may end before that.
        await asyncio.sleep(0)

    def _reader(self, terms: Terms) -> ResponseReader:
        return ResponseReader(
            terms.limits,
            has_body=terms.has_body,
            unpacks=terms.unpacks,
            is_lenient=terms.is_lenient,
        )

    async def _exchange(
        self,
        connection: Connection,
        head: bytes,
        body: bytes,
        reader: ResponseReader,
        terms: Terms,
        ends_at: float,
    ) -> Response:
        timeouts = terms.timeouts
        now = self._loop.time()
        most_seconds = timeouts.pool + timeouts.connect + timeouts.write + timeouts.read
        ends_at = min(now + most_seconds, ends_at)
        self._shortest_seconds = min(self._shortest_seconds, timeouts.shortest)
        if (look_at := min(now + self._shortest_seconds, ends_at)) < self._timer_at:
            self._look_after_at(look_at)
        return await connection.exchange(head, body, reader, timeouts, ends_at=ends_at)

    async def _connect(self, seconds: float, until: float) -> Connection:
        """Returns a connection on which nothing lies unread."""
        self._check_open()
        while self._idle:
            connection = self._idle.pop()
            if connection.acts_at <= self._loop.time():
                # Of a loop that stood still, the timer comes later than this.
                connection.close()
                continue
            connection.acts_at = math.inf
            if connection.is_silent() or await connection.grows_silent():
                return connection
        connection = await self._dialer.open(self._new, min(seconds, until - self._loop.time()))
        try:
            self._check_open()
        except NotWrittenError:
            connection.close()
            raise
        if connection.is_silent() or await connection.grows_silent():
            return connection
        told = "the connection ended, or brought bytes, before the request"
        raise NotWrittenError(told) from connection.lost_by

    async def _connect_again(
        self, seconds: float, until: float, lost: httpx.ReadError
    ) -> Connection:
        """Returns a new connection for what was sent once.

        Raises:
            httpx.ReadError: There is none; that the request was sent does not change by it.
        """
        # Others that were at rest may have ended with the one that did.
        self._close_idle()
        try:
            return await self._connect(seconds, until)
        except httpx.HTTPError as exc:
            raise httpx.ReadError(f"{lost}; then, once more: {exc}") from exc

    def _check_open(self) -> None:
        if self._is_closed:
            raise NotWrittenError(_CLOSED)

    def _new(self) -> Connection:
        connection = Connection(self._loop, self._give_back, self._connections.discard)
        self._connections.add(connection)
        return connection

    async def _wait_for_permit(self, until: float) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(until):
                await waiter
        except BaseException as exc:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._return_permit()
            if isinstance(exc, TimeoutError):
                raise httpx.PoolTimeout("no connection in time") from exc
            raise

    def _return_permit(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_closed:
            connection.is_reused = True
            connection.acts_at = self._loop.time() + KEEP_ALIVE_SECONDS
            self._idle.append(connection)
        self._return_permit()

    def _close_idle(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _look_after_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(when, self._look_after), when

    def _look_after(self) -> None:
        """Ends what has taken too long; goes on while there is a connection."""
        self._timer, self._timer_at = None, math.inf
        now = self._loop.time()
        late = [each for each in self._connections if each.acts_at <= now]
        for connection in late:
            connection.expire()
        # Servers have closed some, too.
        self._idle = [each for each in self._idle if not each.is_closed]
        if self._connections:
            next_at = min(each.acts_at for each in self._connections)
            next_at = min(next_at, now + self._shortest_seconds)
            self._look_after_at(max(next_at, now + TICK_SECONDS))
