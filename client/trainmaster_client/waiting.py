"""Waits for the ends of commands by their events, whatever Redis does meanwhile.

What the stream of events can't tell is looked up in the ledger from time to time: a command whose
id was known already ends without a further event.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from trainmaster_client.commands import CommandId
from trainmaster_client.endings import UNKNOWN, Ending
from trainmaster_client.events import State, event_of
from trainmaster_client.reading import (
    BLOCK_MILLISECONDS,
    FIRST,
    Pace,
    entries_after,
    entry,
    is_reached,
    newest_entry,
    status,
)
from trainmaster_client.steps import Ask, passes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainmaster_client.events import Event
    from trainmaster_client.names import Names
    from trainmaster_client.reading import Entry, Status
    from trainmaster_client.steps import Patience, Steps

_LOOK_SECONDS: Final = 2.0
# What the ids of workers' events begin with: the entry of the command, and its stream.
_ORIGIN: Final = re.compile(r"b?[0-9]+-[0-9]+")
# Of many commands the ledger is asked the less often the more there are.
_LOOKED_UP_A_SECOND: Final = 500
# Whole commands come back, of a mebibyte each at most.
_ENTRIES: Final = 50


class Observer:
    """Is told what happens during a wait; does nothing with it."""

    def on_event(self, event: Event) -> None:
        """An event of one of the commands."""

    def on_trouble(self, error: BaseException) -> None:
        """Redis can't be asked; told once each time, and the wait goes on."""

    def on_untaken(self, commands: int) -> None:
        """No worker has taken so many of the commands from their streams yet; told once."""

    def on_tick(self, waiting: int) -> None:
        """Some time has passed, and so many commands have not ended."""


class Wait:
    """A wait for commands.

    Args:
        names: of the namespace.
        command_ids: to wait for. One that `submit` returned tells where to begin; of any other
            the ledger is asked first.
        reply_to: the stream of these replies instead of the stream of all events.
        observer: is told what happens.
    """

    def __init__(
        self,
        names: Names,
        command_ids: Iterable[str],
        *,
        reply_to: str | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._names = names
        self._stream = names.events(reply_to)
        # A string is a collection of strings too, and never meant so.
        self._open = dict.fromkeys((command_ids,) if isinstance(command_ids, str) else command_ids)
        # The keys as they were given: a `CommandId` knows its entry, an equal string does not.
        self._given = {str(each): each for each in self._open}
        # A rejection names its entry in any case; where the id can't be read, it is the subject.
        self._rejected_by = {
            _rejection_of(each): command_id
            for command_id, each in self._given.items()
            if isinstance(each, CommandId)
        }
        self._observer = observer or Observer()
        self._cursor: str | None = None
        self._pace = Pace()
        self._rejections: dict[str, Event] = {}
        self._told_untaken = False
        self.endings: dict[str, Ending] = {}

    @property
    def waiting(self) -> Sequence[str]:
        """The ids of commands that have not ended."""
        return list(self._open)

    def until_ended(self, timeout: float | None, patience: Patience) -> Steps[None]:
        """Returns once every command has ended, or the time is up.

        Raises:
            RedisUnavailableError: Redis has been away for too long.
        """
        begun = time.monotonic()
        next_look = begun + self._look_seconds()
        answered = True
        while self._open:
            left = math.inf if timeout is None else timeout - (time.monotonic() - begun)
            in_time = left > 0
            if not in_time and not answered:
                return
            self._observer.on_tick(len(self._open))
            try:
                if self._cursor is None:
                    yield from self._begin()
                elif in_time:
                    yield from self._read(math.ceil(min(left * 1000, BLOCK_MILLISECONDS)))
                # Once the time is up, a last look tells what has ended in it.
                if self._open and (time.monotonic() >= next_look or not in_time):
                    yield from self._look()
                    next_look = time.monotonic() + self._look_seconds()
            except (RedisError, OSError) as exc:
                if in_time or not passes(exc):
                    yield from patience.failed(exc)
                answered = False
            else:
                patience.worked()
                answered = True
            if not in_time:
                return

    def _look_seconds(self) -> float:
        return max(_LOOK_SECONDS, len(self._open) / _LOOKED_UP_A_SECOND)

    def _begin(self) -> Steps[None]:
        entries = [each.entry_id for each in self._given.values() if isinstance(each, CommandId)]
        if len(entries) == len(self._given):
            # No event of a command is older than its entry: both are told by Redis' clock.
            first = min(map(_milliseconds, entries))
            self._cursor = f"{max(first - 1, 0)}-0"
            return
        cursor = yield from newest_entry(self._stream)
        others = [each for each in self._open if not isinstance(self._given[each], CommandId)]
        yield from self._look_up(others)
        # What was submitted just now may have ended before the newest event.
        submitted = list(map(_milliseconds, entries))
        self._cursor = f"{max(min(submitted) - 1, 0)}-0" if submitted else cursor

    def _read(self, milliseconds: int) -> Steps[list[Entry]]:
        assert self._cursor is not None  # noqa: S101 - `_begin` came first
        entries = yield from entries_after(self._stream, self._cursor, milliseconds, self._pace)
        for entry_id, fields in entries:
            event = event_of(entry_id, fields)
            if event is not None and not event.is_of_item:
                self._take(event)
            self._cursor = entry_id.decode()
        return entries

    def _take(self, event: Event) -> None:
        if event.state == State.REJECTED:
            self._take_rejection(event)
        elif event.command_id in self._open and not self._is_of_earlier(event):
            self._observer.on_event(event)
            if event.is_end:
                self._end(event.command_id, event.state, event)

    def _is_of_earlier(self, event: Event) -> bool:
        """Tells whether an event was told of a command that had the id before ours came.

        Ours may be rejected for that, or be the same command once more: then the ledger tells.
        """
        ours = self._given[event.command_id]
        if not isinstance(ours, CommandId):
            return False
        origin = event.id.partition("/")[0]
        # Others may write events, too, and name them as they like.
        if not _ORIGIN.fullmatch(origin) or origin == ours.stream.origin(ours.entry_id):
            return False
        return _milliseconds(event.entry_id) <= _milliseconds(ours.entry_id)

    def _take_rejection(self, event: Event) -> None:
        command_id = self._rejected_by.get(event.id)
        if command_id is not None and command_id in self._open:
            self._observer.on_event(event)
            self._end(command_id, event.state, event)
        elif event.command_id in self._open and not isinstance(
            self._given[event.command_id], CommandId
        ):
            # It may be another message with the same id; the ledger will tell.
            self._rejections[event.command_id] = event

    def _end(self, command_id: str, state: str, event: Event | None) -> None:
        del self._open[command_id]
        self.endings[command_id] = Ending(command_id, state, event)

    def _look(self) -> Steps[None]:
        """Ends what has ended without a further event.

        An entry leaves its stream in the same step that accepts or rejects it: so once it is gone
        and all events are read, only the ledger can tell more.
        """
        submitted = [each for each in self._given.values() if isinstance(each, CommandId)]
        submitted = [each for each in submitted if each in self._open]
        reads = [(self._names.commands(each.stream), each.entry_id) for each in submitted]
        found: list[Any] = []
        for start in range(0, len(reads), _ENTRIES):
            page = reads[start : start + _ENTRIES]
            found += yield Ask(tuple(("XRANGE", key, place, place) for key, place in page))
        untaken = {str(each) for each, left in zip(submitted, found, strict=True) if left}
        if untaken and not self._told_untaken:
            self._told_untaken = True
            self._observer.on_untaken(len(untaken))
        # No further than that: a busy stream has always more by then.
        newest = yield from newest_entry(self._stream)
        while (yield from self._read(0)) and not is_reached(newest, by=self._cursor or FIRST):
            pass
        yield from self._look_up([each for each in self._open if each not in untaken])

    def _look_up(self, command_ids: Sequence[str]) -> Steps[None]:
        for told, command_id in zip(
            (yield from status(self._names, command_ids)), command_ids, strict=True
        ):
            if told is not None and told.ended:
                yield from self._end_by(told)
            elif told is not None:
                continue
            elif command_id in self._rejections:
                event = self._rejections[command_id]
                self._observer.on_event(event)
                self._end(command_id, State.REJECTED, event)
            elif isinstance(self._given[command_id], CommandId):
                self._end(command_id, UNKNOWN, None)

    def _end_by(self, told: Status) -> Steps[None]:
        event = None
        if told.end_entry:
            found = yield from entry(self._names.events(), told.end_entry)
            event = event_of(*found) if found else None
        if event is not None:
            self._observer.on_event(event)
        self._end(told.command_id, told.state, event)


def _milliseconds(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def _rejection_of(command_id: CommandId) -> str:
    """Returns the id of the event by which the entry of a command is rejected."""
    return f"{command_id.stream.origin(command_id.entry_id)}/{State.REJECTED}"
