"""How much is read at a time, where the size of a message is known only once it has been read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from worker.queue.intake.validation import Entry

# Before anything is known of the sizes, and after reads that brought few.
FIRST_COUNT: Final = 4
# So many times what was read is read next; a backlog of small messages has full batches soon.
GROWTH: Final = 4


class ReadPace:
    """How many entries the next read asks for.

    Args:
        most: entries.
        most_bytes: what they are to have together, as far as the last ones tell.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self.count = min(FIRST_COUNT, most)

    def observe(self, entries: int, size_bytes: int) -> None:
        """Takes in what a read has brought."""
        fits = self._most
        if size_bytes:
            fits = min(fits, max(1, self._most_bytes * entries // size_bytes))
        self.count = min(fits, max(FIRST_COUNT, GROWTH * entries))


def size_of(entries: Iterable[Entry]) -> int:
    """Returns how many bytes entries have together."""
    return sum(entry.size_bytes for entry in entries)


def parts_of(entries: list[Entry], most_bytes: int) -> Iterator[list[Entry]]:
    """Yields entries with fields in parts of so many bytes, one at least; empties the list.

    What was yielded is held by nobody here, so its memory is free once it has been handled.
    """
    entries.reverse()
    while entries:
        part: list[Entry] = []
        size = 0
        while entries and (not part or size + entries[-1].size_bytes <= most_bytes):
            entry = entries.pop()
            size += entry.size_bytes
            if entry.fields:
                part.append(entry)
        yield part
        part = []
