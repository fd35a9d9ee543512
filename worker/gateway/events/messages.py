"""What goes over the wire to a watcher.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from schemas.json_text import encode_json
from trainmaster_client.events import event_of
from worker.queue.ledger.keys import EVENT_FIELD
from worker.queue.ledger.streams import is_entry_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trainmaster_client import Event
    from worker.queue.ledger.streams import StreamEntry

# Before all entries.
FIRST: Final = "0-0"
# How soon a browser comes again, in milliseconds; and first bytes, which tell that it is connected.
HELLO: Final = b"retry: 1000\n\n"
HEARTBEAT: Final = b": heartbeat\n\n"
# The same while nothing can come. A comment as well: no client takes it for an event.
STALLED: Final = b": stalled\n\n"
# Handed to the connection together.
PIECE_BYTES: Final = 65_536

_LINE_END: Final = re.compile(rb"[\r\n]")


class LastEventIdError(ValueError):
    """What a watcher says that they have is no event's id."""

    def __init__(self) -> None:
        super().__init__("must be the id of an event as this stream gave it, like 1700000000000-0")


def message_of(event: Event, text: bytes) -> bytes:
    """Returns an event as its message; its text is what the stream has of it."""
    # Workers write one line; others may have written several, or a type with a line's end in it.
    line = text if not _LINE_END.search(text) else encode_json(event.attributes)
    name = "".join(each for each in event.type if each.isprintable())
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.entry_id.encode(), name.encode(), line)


def notice(name: str, said: str) -> bytes:
    """Returns an event of the stream itself; it has no id, so what the watcher has stays known."""
    return b"event: trainmaster.%b\ndata: %b\n\n" % (name.encode(), encode_json({"reason": said}))


def pieces_of(entries: Iterable[StreamEntry], fits: Callable[[Event], bool]) -> list[bytes]:
    """Returns the messages of those that are wanted, joined to pieces."""
    pieces: list[bytes] = []
    piece = bytearray()
    for each in entries:
        event = event_of(*each)
        if event is None or not fits(event):
            continue
        piece += message_of(event, each[1][EVENT_FIELD])
        if len(piece) >= PIECE_BYTES:
            pieces.append(bytes(piece))
            piece.clear()
    return [*pieces, bytes(piece)] if piece else pieces


def check_entry_id(text: str) -> None:
    """Returns if a text names an event of the stream.

    Raises:
        LastEventIdError: it does not.
    """
    if not is_entry_id(text):
        raise LastEventIdError


def order_of(entry_id: str) -> tuple[int, int]:
    """Returns what entries are compared by."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)
