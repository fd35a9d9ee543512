"""The read model of one namespace: one process of all gateways writes it, each of them reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.gateway.read_model.counting import count
from worker.gateway.read_model.event_source import EventSource
from worker.gateway.read_model.follower import CHECK_SECONDS, Follower
from worker.gateway.read_model.minutes import read_minutes
from worker.gateway.read_model.queries import find, find_types
from worker.gateway.read_model.readers import ModelUnavailableError, Readers
from worker.gateway.read_model.state_counts import count_states, count_types
from worker.gateway.read_model.timeline import entry_numbers, read_timeline
from worker.gateway.read_model.writing import FIRST, Progress, read_progress

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.gateway.read_model.counting import Count
    from worker.gateway.read_model.minutes import Minute
    from worker.gateway.read_model.queries import CommandFilter, Page
    from worker.gateway.read_model.state_counts import TypeAndState
    from worker.gateway.read_model.timeline import Timeline
    from worker.queue.ledger.keys import Keys


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the model is behind the stream of events.

    Attributes:
        events: that it has not taken in.
        seconds: between its last event and the stream's; 0 where it has them all.
    """

    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """What there is, and what happened lately.

    Attributes:
        states: how many commands are in each state; in those that are not named, none.
        minutes: oldest first.
    """

    states: dict[str, int]
    minutes: list[Minute]


class ReadModel:
    """Answers lists and searches of commands, and follows the events while `follow` runs.

    Args:
        redis: of the ledger.
        keys: of the namespace.
        folder: of this model alone; see `model_folder`.
        retention_seconds: how long a command is listed after its last event, once it has ended.
        check_seconds: between two looks whether the stream is still the one that was read.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        folder: Path,
        *,
        retention_seconds: float,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._source = EventSource(redis, keys)
        self._follower = Follower(
            self._source,
            folder,
            retention_seconds=retention_seconds,
            check_seconds=check_seconds,
        )
        self._readers = Readers(folder, lambda: self.trouble)
        self._minutes: dict[int, Minute] = {}

    @property
    def trouble(self) -> str | None:
        """What keeps this process from writing the model, if its disk does; for people."""
        return self._follower.trouble

    async def query(
        self, wanted: CommandFilter, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """Returns a page of commands, newest first.

        Args:
            wanted: which commands.
            cursor: `next_cursor` of the page before; None for the first page.
            limit: rows of the page; `MOST_ROWS` at most.

        Raises:
            CursorError: the cursor is not one that a page gave.
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """
        return await self._readers.read(lambda connection: find(connection, wanted, cursor, limit))

    async def query_types(
        self,
        types: Sequence[str],
        state: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Returns a page of the commands of some types, newest first; raises as `query` does."""
        return await self._readers.read(
            lambda connection: find_types(connection, types, state, cursor, limit)
        )

    async def count(self, wanted: CommandFilter) -> Count:
        """Returns how many commands are wanted.

        Raises:
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """
        return await self._readers.read(lambda connection: count(connection, wanted))

    async def timeline(self, command_id: str) -> Timeline | None:
        """Returns where the events of a command stand; None where the model does not know it.

        Raises:
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """
        return await self._readers.read(lambda connection: read_timeline(connection, command_id))

    async def pulse(self, now_ms: int, minutes: int) -> Pulse:
        """Returns what there is, and what happened in so many minutes up to now.

        Raises:
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """

        def read(connection: sqlite3.Connection) -> Pulse:
            found = read_minutes(connection, now_ms, minutes, self._minutes)
            # Put there as a whole, for readers are threads.
            self._minutes = {each.begin_ms: each for each in found}
            return Pulse(count_states(connection), found)

        return await self._readers.read(read)

    async def type_states(self) -> dict[TypeAndState, int]:
        """Returns how many commands there are of each type in each state.

        Raises:
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """
        return await self._readers.read(count_types)

    async def last_event(self) -> str:
        """Returns the entry of the last event that the model knows, `0-0` before any.

        Raises:
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """
        progress = await self._readers.read(read_progress) or Progress()
        return progress.cursor

    async def lag(self) -> Lag:
        """Returns how far the model is behind; without a model, by the whole stream.

        Raises:
            RedisError: Redis is away.
        """
        extent = await self._source.extent()
        try:
            progress = await self._readers.read(read_progress) or Progress()
        except ModelUnavailableError:
            progress = Progress()
        if extent is None:
            return Lag(0, 0.0)
        cursor = max(entry_numbers(progress.cursor), _before(extent.first))
        if cursor >= extent.last:
            return Lag(0, 0.0)
        known = progress.added if progress.cursor != FIRST else extent.removed
        behind = max(1, min(extent.added - known, extent.length))
        return Lag(behind, max(0.0, (extent.last[0] - cursor[0]) / 1000))

    async def follow(self) -> None:
        """Keeps the model up with the events until it is cancelled.

        Of all processes that do, one writes; another takes over when that one ends. Trouble with
        Redis or with the disk is waited for.
        """
        await self._follower.run()

    def close(self) -> None:
        """Closes the readers' connections; nothing of the model is used any more."""
        self._readers.close()


def _before(entry: tuple[int, int]) -> tuple[int, int]:
    return (entry[0], entry[1] - 1)
