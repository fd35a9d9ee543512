"""Waits for the end of commands by their events, whatever Redis does meanwhile.

The stream of events is followed from where it ended before the commands were sent. What it can't
tell is looked up in the ledger from time to time: a command whose id was known already ends
without a further event.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from schemas.enums import EventState
from schemas.events import is_about_command
from worker.ledger.connection import LEDGER_TROUBLE
from worker.ledger.event_stream import event_of
from worker.ledger.inspection import Inspector
from worker.ledger.streams import entries_after, entries_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from worker.cli.sending import Sent
    from worker.ledger.inspection import RowView
    from worker.ledger.keys import Keys

_ENDS: Final = frozenset({
    EventState.SUCCEEDED,
    EventState.FAILED,
    EventState.CANCELLED,
    EventState.REJECTED,
})
_PAGE: Final = 500
# Short enough that the time shown while waiting ticks.
_BLOCK_MILLISECONDS: Final = 1_000
_LOOK_SECONDS: Final = 2.0
# Long enough for a failover; whoever waits for days should not lose the wait to one.
_PATIENCE_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended; no event where Redis no longer has it.

    Attributes:
        state: a terminal state, or `unknown` where the ledger does not know the command.
    """

    state: str
    event: dict[str, Any] | None

    @property
    def succeeded(self) -> bool:
        """Whether there is a result."""
        return self.state == EventState.SUCCEEDED


class Watcher(Protocol):
    """Is told what happens while one waits."""

    def on_event(self, event: dict[str, Any]) -> None:
        """An event of one of the commands."""

    def on_untaken(self, commands: int) -> None:
        """No worker has taken so many of the commands from the stream yet; told once."""

    def on_trouble(self, exc: BaseException) -> None:
        """Redis can't be asked; told once each time."""

    def on_tick(self, waiting: int) -> None:
        """Some time has passed, and so many commands have not ended."""


class Wait:
    """A wait for commands that were sent.

    Args:
        cursor: end of the stream of events before the commands were sent.
    """

    def __init__(
        self, redis: Redis, keys: Keys, sent: Iterable[Sent], cursor: str, watcher: Watcher
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._open = {each.draft.command_id: each for each in sent}
        self._cursor = cursor
        self._watcher = watcher
        self._told_untaken = False
        self.endings: dict[str, Ending] = {}

    @property
    def waiting(self) -> Sequence[str]:
        """The ids of commands that have not ended."""
        return list(self._open)

    async def until_ended(self, patience_seconds: float | None = None) -> None:
        """Returns once every command has ended, or patience has.

        The time is looked at between reads, for a cancellation can get lost in redis-py; see
        `worker.cli.target`.

        Args:
            patience_seconds: how long to wait; None for as long as it takes.

        Raises:
            redis.exceptions.RedisError: Redis has not answered for minutes.
        """
        trouble_since: float | None = None
        begun = time.monotonic()
        next_look = begun + _LOOK_SECONDS
        while self._open:
            if patience_seconds is not None and time.monotonic() - begun >= patience_seconds:
                return
            self._watcher.on_tick(len(self._open))
            try:
                await self._read(_BLOCK_MILLISECONDS)
                if time.monotonic() >= next_look and self._open:
                    await self._look()
                    next_look = time.monotonic() + _LOOK_SECONDS
                trouble_since = None
            except LEDGER_TROUBLE as exc:
                if isinstance(exc, BrokenPipeError):
                    raise
                if trouble_since is None:
                    trouble_since = time.monotonic()
                    self._watcher.on_trouble(exc)
                if time.monotonic() - trouble_since > _PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _read(self, block_ms: int | None) -> int:
        entries = await entries_after(
            self._redis, self._keys.events, self._cursor, count=_PAGE, block_ms=block_ms
        )
        for entry_id, fields in entries:
            event = event_of(fields)
            if event is not None:
                self._take(event)
            self._cursor = entry_id.decode()
        return len(entries)

    def _take(self, event: dict[str, Any]) -> None:
        command_id, state = event["subject"], event["type"].rpartition(".")[2]
        sent = self._open.get(command_id)
        if sent is None or not is_about_command(event):
            return
        if state == EventState.REJECTED and event["id"] != f"{sent.origin}/{state}":
            # Someone else's message with the same id was rejected, not ours.
            return
        self._watcher.on_event(event)
        if state in _ENDS:
            self._end(command_id, Ending(state, event))

    def _end(self, command_id: str, ending: Ending) -> None:
        del self._open[command_id]
        self.endings[command_id] = ending

    async def _look(self) -> None:
        """Ends what has ended without a further event.

        Its entry leaves the stream in the same step that accepts or rejects it: so once it is
        gone and all events are read, only the row can tell more.
        """
        taken = await self._taken(list(self._open.values()))
        untaken = len(self._open) - len(taken)
        if untaken and not self._told_untaken:
            self._told_untaken = True
            self._watcher.on_untaken(untaken)
        while await self._read(None):
            pass
        inspector = Inspector(self._redis, self._keys)
        for sent in taken:
            command_id = sent.draft.command_id
            if command_id not in self._open:
                continue
            row = await inspector.status(command_id)
            if row is None:
                self._end(command_id, Ending("unknown", None))
            elif row.ended:
                await self._end_by_row(row)

    async def _taken(self, sent: Sequence[Sent]) -> list[Sent]:
        pipe = self._redis.pipeline(transaction=False)
        for each in sent:
            pipe.xrange(self._keys.stream(each.stream), each.entry_id, each.entry_id)
        found = await pipe.execute()
        return [each for each, entries in zip(sent, found, strict=True) if not entries]

    async def _end_by_row(self, row: RowView) -> None:
        event = await terminal_event(self._redis, self._keys, row)
        if event is not None:
            self._watcher.on_event(event)
        self._end(row.id, Ending(row.state, event))


async def terminal_event(redis: Redis, keys: Keys, row: RowView) -> dict[str, Any] | None:
    """Returns the event that told a command's end, None where it is no longer kept."""
    if not row.last_event_id:
        return None
    found = await entries_between(redis, keys.events, row.last_event_id, row.last_event_id)
    return event_of(found[0][1]) if found else None
