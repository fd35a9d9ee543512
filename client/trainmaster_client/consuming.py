"""A group of consumers of events: each event is handled by one of them, and not forgotten.

An event is acknowledged once its handler has returned. What a consumer had read when it died is
taken over by another after a while. An event that comes twice is handled once, by its id; one whose
handler fails is tried again with growing pauses, and set aside (parked) after the last try.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from trainmaster_client.errors import ConsumerLostError
from trainmaster_client.events import check_types, event_of, is_one_of
from trainmaster_client.json_text import encode
from trainmaster_client.names import EVENT_FIELD
from trainmaster_client.reading import (
    BLOCK_MILLISECONDS,
    entries_of,
    entries_of_one,
    entry,
    newest_entry,
)
from trainmaster_client.steps import Ask, Listen, ask

if TYPE_CHECKING:
    from collections.abc import Collection

    from trainmaster_client.events import Event
    from trainmaster_client.names import Names
    from trainmaster_client.reading import Entry
    from trainmaster_client.steps import Steps

PARKED_FIELDS: Final = ("event", "error", "tries")
# An event that comes twice comes within minutes; a day is far beyond that.
_REMEMBERED_MS: Final = 86_400_000
_FORGOTTEN_MS: Final = 3_600_000
_FIRST: Final = "0-0"


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How a group of consumers works.

    Attributes:
        types: whole types, command types or states; what is none of them is acknowledged unread,
            so a pattern, or a state that there is not, is refused.
        reply_to: the stream of these replies instead of the stream of all events.
        batch: most events in one read.
        idle_seconds: an event that a consumer has held for so long is taken over by another: longer
            than the slowest handler takes.
        tries: of the handler for one event, before it is parked.
        retry_seconds: before the second try; each further pause is twice as long.
        from_start: whether a new group begins with the oldest event that is kept.
        deliveries: of an event whose handler neither returns nor raises, for it ends the process,
            before it is parked.
    """

    types: Collection[str] = ()
    reply_to: str | None = None
    batch: int = 50
    idle_seconds: float = 60.0
    tries: int = 5
    retry_seconds: float = 0.5
    from_start: bool = False
    deliveries: int = 10

    def __post_init__(self) -> None:
        """Refuses what would hand an event to two consumers, or to none."""
        if min(self.batch, self.tries, self.deliveries) < 1:
            raise ValueError("batch, tries and deliveries must be 1 at least")
        check_types(self.types)
        if self.idle_seconds < 0.001 or self.retry_seconds < 0:
            raise ValueError("idle_seconds must be above 0, and retry_seconds not below")


class Group:
    """What one consumer of a group asks Redis.

    Args:
        names: of the namespace.
        group: its name.
        consumer: this one's name, unlike that of every other one that lives.
        leaves: whether it leaves the group at its end. One that comes back with its name stays:
            its next process may be reading already.
    """

    def __init__(
        self,
        names: Names,
        group: str,
        consumer: str,
        options: ConsumerOptions,
        *,
        leaves: bool = True,
    ) -> None:
        self._leaves = leaves
        self._stream = names.events(options.reply_to)
        self._parked = names.parked(group)
        self._handled = names.handled(group)
        self._group = group
        self._consumer = consumer
        self._options = options
        self._own = _FIRST
        self._next_reclaim = 0.0
        self._keep_at = 0.0
        self._joined = False
        self._read_to_ms = 0
        self._begun = _FIRST

    def next_events(self) -> Steps[list[Event]]:
        """Returns what is to be handled now; what need not be is acknowledged on the way."""
        try:
            return (yield from self._next_events())
        except ResponseError as exc:
            self.read_own_again()
            if not _no_group(exc):
                raise
            yield from self._create()
            return []
        except BaseException:
            # Whatever it was: what had been read, or a lost reply held, is pending with us.
            self.read_own_again()
            raise

    def _next_events(self) -> Steps[list[Event]]:
        entries, again = yield from self._next_entries()
        events, needless = [], []
        for entry_id, fields in entries:
            event = event_of(entry_id, fields)
            if event is not None and is_one_of(event, self._options.types):
                events.append(replace(event, redelivered=again))
            else:
                needless.append(entry_id)
        if again:
            events = yield from self._without_deadly(events)
        seen = set((yield from self._done([event.id for event in events])))
        fresh = []
        for event in events:
            # One that comes twice may do so in one batch.
            if event.id in seen:
                needless.append(event.entry_id.encode())
            else:
                seen.add(event.id)
                fresh.append(event)
        if needless:
            yield from ask("XACK", self._stream, self._group, *needless)
        return fresh

    def keep(self, events: list[Event]) -> Steps[list[Event]]:
        """Returns those of read events that are still this consumer's to handle.

        What it keeps no other consumer takes over for another `idle_seconds`.
        """
        if not events or time.monotonic() < self._keep_at:
            return events
        try:
            held = yield from ask(
                *("XPENDING", self._stream, self._group, events[0].entry_id, events[-1].entry_id),
                *(len(events), self._consumer),
            )
        except ResponseError as exc:
            if not _no_group(exc):
                raise
            return []
        ids = [each[0] for each in held]
        if ids:
            claim = ("XCLAIM", self._stream, self._group, self._consumer, 0)
            yield from ask(*claim, *ids, "JUSTID")
        self._read_now()
        ours = {each.decode() for each in ids}
        return [event for event in events if event.entry_id in ours]

    def pauses(self) -> list[float]:
        """Returns how long to wait before each further try of a handler."""
        first = self._options.retry_seconds
        return [first * 2**number for number in range(self._options.tries - 1)]

    def acknowledge(self, event: Event) -> Steps[None]:
        """Says that an event was handled."""
        now = int(time.time() * 1000)
        yield Ask((
            ("ZADD", self._handled, now, event.id),
            ("XACK", self._stream, self._group, event.entry_id),
            ("ZREMRANGEBYSCORE", self._handled, "-inf", now - _REMEMBERED_MS),
        ))

    def park(self, event: Event, error: BaseException) -> Steps[None]:
        """Sets an event aside whose handler has failed for the last time."""
        kept = yield from entry(self._stream, event.entry_id)
        text = kept[1][EVENT_FIELD] if kept else encode(event.attributes)
        told = f"{type(error).__name__}: {error}"[:1_000].encode(errors="replace")
        tries = self._options.tries
        yield from ask("XADD", self._parked, "*", "event", text, "error", told, "tries", tries)
        yield from self.acknowledge(event)

    def _without_deadly(self, events: list[Event]) -> Steps[list[Event]]:
        """Parks what has ended its consumers too often; returns the rest."""
        rest = []
        for event in events:
            found = yield from ask(
                "XPENDING", self._stream, self._group, event.entry_id, event.entry_id, 1
            )
            deliveries = found[0][3] if found else 0
            if deliveries > self._options.deliveries:
                told = f"its consumer has ended without a word {deliveries - 1} times"
                yield from self.park(event, ConsumerLostError(told))
            else:
                rest.append(event)
        return rest

    def leave(self) -> Steps[None]:
        """Takes this consumer out of the group, unless events are still pending with it."""
        if not self._leaves:
            return
        pending = yield from ask("XPENDING", self._stream, self._group, "-", "+", 1, self._consumer)
        if not pending:
            yield from ask("XGROUP", "DELCONSUMER", self._stream, self._group, self._consumer)

    def _next_entries(self) -> Steps[tuple[list[Entry], bool]]:
        """Returns an own pending entry, else one of a consumer that is gone, else new ones.

        The first two one at a time: an event that ends its consumers must not have those counted
        as delivered again that only were read with it.
        """
        if self._own:
            entries = yield from self._read(self._own, count=1)
            self._own = entries[-1][0].decode() if entries else ""
            if entries:
                return entries, True
        if time.monotonic() >= self._next_reclaim:
            entries = yield from self._reclaim()
            if entries:
                return entries, True
            self._next_reclaim = time.monotonic() + self._options.idle_seconds / 4
        entries = yield from self._read(">", count=self._options.batch, block=True)
        self._joined = True
        if entries:
            self._read_to_ms = _milliseconds(entries[-1][0].decode())
        return entries, False

    def read_own_again(self) -> None:
        """Begins with what is pending with this consumer."""
        self._own = _FIRST

    def _read_now(self) -> None:
        self._keep_at = time.monotonic() + self._options.idle_seconds / 4

    def _read(self, start: str, *, count: int, block: bool = False) -> Steps[list[Entry]]:
        waiting: tuple[Any, ...] = ("BLOCK", BLOCK_MILLISECONDS) if block else ()
        reply = yield Listen((
            *("XREADGROUP", "GROUP", self._group, self._consumer),
            *("COUNT", count, *waiting, "STREAMS", self._stream, start),
        ))
        self._read_now()
        return entries_of_one(reply)

    def _reclaim(self) -> Steps[list[Entry]]:
        yield from self._forget_the_dead()
        idle_ms = int(self._options.idle_seconds * 1000)
        # XAUTOCLAIM looks at ten entries for each that it is to claim: with more of them in the
        # hands of who is slow it would never come to those of who is gone.
        while held := (
            yield from ask("XPENDING", self._stream, self._group, "IDLE", idle_ms, "-", "+", 1)
        ):
            found = yield from ask(
                "XCLAIM", self._stream, self._group, self._consumer, idle_ms, held[0][0]
            )
            # None where another consumer was quicker, or where the entry is no longer kept.
            if found:
                self._read_now()
                return entries_of(found)
        return []

    def _forget_the_dead(self) -> Steps[None]:
        """Takes consumers out of the group that hold nothing and have long been silent.

        One that only had nothing to read is in it again at its next read.
        """
        rows = yield from ask("XINFO", "CONSUMERS", self._stream, self._group)
        for row in rows:
            found = row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True))
            if not found[b"pending"] and found[b"idle"] > _FORGOTTEN_MS:
                yield from ask("XGROUP", "DELCONSUMER", self._stream, self._group, found[b"name"])

    def _create(self) -> Steps[None]:
        start = yield from self._start()
        try:
            yield from ask("XGROUP", "CREATE", self._stream, self._group, start, "MKSTREAM")
        except ResponseError as exc:
            if not str(exc).startswith("BUSYGROUP"):
                raise
        else:
            self._begun = start

    def _start(self) -> Steps[str]:
        """Returns where a group begins that is not there.

        One that has been there is lost with what its consumers had in hand. So it goes back as far
        as handled events are remembered, which tells the others apart.
        """
        if self._joined:
            known_ms = self._read_to_ms or int(time.time() * 1000)
            oldest_ms = max(known_ms - _REMEMBERED_MS, 0)
            return f"{oldest_ms}-0" if oldest_ms > _milliseconds(self._begun) else self._begun
        if self._options.from_start:
            return _FIRST
        return (yield from newest_entry(self._stream))

    def _done(self, event_ids: list[str]) -> Steps[list[str]]:
        if not event_ids:
            return []
        scores = yield from ask("ZMSCORE", self._handled, *event_ids)
        return [each for each, score in zip(event_ids, scores, strict=True) if score is not None]


def _no_group(error: ResponseError) -> bool:
    return str(error).startswith("NOGROUP")


def _milliseconds(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])
