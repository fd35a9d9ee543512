"""The events that a leader has read and not yet done, and how far its position has come."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainmaster_client.events import event_of
from worker.integrations.follower_store import order_of
from worker.queue.ledger.keys import EVENT_FIELD

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainmaster_client import Event
    from worker.integrations.follower_store import LeadAnswer
    from worker.queue.ledger.streams import StreamEntry

# Entries, and bytes, that are read and not done.
MOST_ENTRIES: Final = 1_024
MOST_BYTES: Final = 16 * 1024 * 1024
# By so much a position is put back that lies ahead of the stream: whatever clock its new entries
# have, none of them is passed over.
REWIND_MS: Final = 60_000


@dataclass(slots=True)
class WindowEntry:
    """An entry that was read.

    Attributes:
        number: entries that had been added up to it; -1 if that is not known.
        missed: entries before it that were trimmed unread.
    """

    entry_id: str
    number: int
    missed: int = 0
    event: Event | None = None
    text: bytes = b""
    done: bool = False


class EventWindow:
    """What was read and is not done, in the order of the stream.

    Args:
        answer: by which the lead was got: it names the position of the leader before.

    Attributes:
        position, number: the last entry that is done with all before it; how many entries had been
            added up to it, -1 if that is not known.
        missed: entries that were trimmed before they were read, up to the position; whoever has
            recorded some takes them off.
        read_to: the last entry that was read.
    """

    def __init__(self, answer: LeadAnswer) -> None:
        self.position, self.number = answer.position, answer.number
        self.missed = 0
        self.read_to, self._read_number = answer.position, answer.number
        self._gap = 0
        self._entries: deque[WindowEntry] = deque()
        self._known: set[str] = set()
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be read before something is done."""
        return len(self._entries) >= MOST_ENTRIES or self._bytes >= MOST_BYTES

    def put_back_if_ahead(self, last_id: str) -> str:
        """Puts a position back that lies behind the stream's end; returns it, else nothing."""
        if order_of(self.read_to) <= order_of(last_id):
            return ""
        # A failover has lost the end of the stream, or someone deleted it.
        was = self.read_to
        self.position = self.read_to = f"{max(order_of(last_id)[0] - REWIND_MS, 0)}-0"
        self.number = self._read_number = -1
        return was

    def read_again(self) -> None:
        """Has the next read begin at what is done: it may be another server then."""
        self.read_to, self._read_number = self.position, self.number

    def find_missed(self, first_id: str, gone: int) -> int:
        """Returns how many entries were trimmed before they were read.

        Args:
            first_id: of the oldest entry that the stream has.
            gone: how many entries it has no more.
        """
        if order_of(first_id) <= order_of(self.read_to) or self._read_number < 0:
            return 0
        missed = max(gone - self._read_number, 0)
        if missed:
            self._read_number = gone
            # It counts once the position has passed it: another leader would find it again.
            self._gap += missed
        return missed

    def caught_up(self, added: int) -> None:
        """Notes that nothing more is in the stream, which ever had so many entries."""
        self._read_number = added
        if not self._entries:
            self.number = added
            self.missed, self._gap = self.missed + self._gap, 0

    def add(self, entry: StreamEntry, wants: Callable[[Event], bool] | None) -> WindowEntry | None:
        """Takes in an entry that was read; returns it if somebody is to handle it.

        Args:
            entry: as Redis tells it.
            wants: tells which events are handled; the others are done at once.
        """
        raw_id, fields = entry
        entry_id = raw_id.decode()
        self.read_to = entry_id
        if self._read_number >= 0:
            self._read_number += 1
        if entry_id in self._known:
            return None
        found = WindowEntry(entry_id, self._read_number, self._gap)
        self._gap = 0
        self._entries.append(found)
        self._known.add(entry_id)
        event = event_of(raw_id, fields)
        if event is None or (wants is not None and not wants(event)):
            found.done = True
            return None
        found.event, found.text = event, fields[EVENT_FIELD]
        self._bytes += len(found.text)
        return found

    def end(self, entry: WindowEntry) -> None:
        """Notes that an entry is done."""
        entry.done = True
        self._bytes -= len(entry.text)
        entry.text = b""

    def advance(self) -> bool:
        """Moves the position behind all that is done; returns whether it has moved."""
        entries, has_moved = self._entries, False
        while entries and entries[0].done:
            entry = entries.popleft()
            self._known.discard(entry.entry_id)
            self.position, self.number = entry.entry_id, entry.number
            self.missed += entry.missed
            has_moved = True
        return has_moved
