"""What a client touches in Redis, of one namespace.

All keys of a namespace begin with `{namespace}:`, braces included, so that they share one hash slot
of a Redis Cluster and one pattern of an ACL.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMAND_FIELD: Final = b"command"
EVENT_FIELD: Final = b"event"


class CommandStream(StrEnum):
    """The streams of commands, in the order in which they are read.

    Entries of both may have the same id. So each has an origin, which no other entry has: its id
    with the stream's value before it. Ids of events are made of origins.
    """

    COMMON = ""
    BULK = "b"

    def origin(self, entry_id: str) -> str:
        """Returns what names an entry of this stream among those of both."""
        return f"{self}{entry_id}"

    @classmethod
    def of(cls, priority: object) -> CommandStream:
        """Returns the stream for new commands of a priority, which may be none that there is."""
        return cls.BULK if priority == "bulk" else cls.COMMON


@dataclass(frozen=True, slots=True)
class Names:
    """The keys of one namespace that are no worker's own."""

    namespace: str

    @property
    def prefix(self) -> str:
        """What every key of the namespace begins with."""
        return f"{{{self.namespace}}}:"

    def commands(self, stream: CommandStream = CommandStream.COMMON) -> str:
        """A stream that commands are added to."""
        return f"{self.prefix}commands{':bulk' if stream is CommandStream.BULK else ''}"

    def events(self, reply_to: str | None = None) -> str:
        """The stream of all events, or that of one `replyto`."""
        return f"{self.prefix}replies:{reply_to}" if reply_to else f"{self.prefix}events"

    def command(self, command_id: str) -> str:
        """What the ledger knows of a command: a hash that only workers write."""
        return f"{self.prefix}command:{command_id}"

    def parked(self, group: str) -> str:
        """The stream of events that a group of consumers could not handle."""
        return f"{self.prefix}parked:{group}"

    def handled(self, group: str) -> str:
        """The ids of events that a group of consumers has handled, by the time (ms) of that."""
        return f"{self.prefix}handled:{group}"


def partition_of(command_id: str, namespaces: Iterable[str]) -> str:
    """Returns which of several namespaces has a command.

    That whose SHA-256 of `NAMESPACE`, a line feed and `ID`, in UTF-8, is the greatest. So the order
    does not matter, and a further namespace takes its share of the ids from all the others alike.
    """

    def weight(namespace: str) -> bytes:
        return hashlib.sha256(f"{namespace}\n{command_id}".encode()).digest()

    return max(namespaces, key=weight)
