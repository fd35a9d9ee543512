"""Events as programs read them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from trainmaster_client.json_text import decode
from trainmaster_client.names import EVENT_FIELD

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_NEEDED: Final = frozenset({"id", "type", "subject", "time", "data"})
_OF_ITEM: Final = "/backfills/"


class State(StrEnum):
    """What an event says of its command."""

    ACCEPTED = "accepted"
    STARTED = "started"
    PROGRESSED = "progressed"
    RETRYING = "retrying"
    IN_DOUBT = "in_doubt"
    RESOLVED = "resolved"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


_STATES: Final = frozenset(map(str, State))
# As `canceled` is to `cancelled`; not as a command type of a newer worker may be to a state.
_SLIP: Final = 0.85

ENDS: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.REJECTED})


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream.

    Attributes:
        entry_id: where it stands in its stream; read on from here.
        attributes: the whole CloudEvent, extensions of the command included.
        redelivered: whether a consumer of the group may have handled it before.
    """

    entry_id: str
    attributes: Mapping[str, Any]
    redelivered: bool = False

    @property
    def id(self) -> str:
        """The event's id; the same event has the same one wherever it is read."""
        return str(self.attributes["id"])

    @property
    def type(self) -> str:
        """Command type and state, like `train.succeeded`."""
        return str(self.attributes["type"])

    @property
    def command_type(self) -> str:
        """The command's type, like `train`."""
        return self.type.rpartition(".")[0]

    @property
    def state(self) -> str:
        """One of `State`, or one that a newer worker knows."""
        return self.type.rpartition(".")[2]

    @property
    def command_id(self) -> str:
        """The id of the command; of an item of a backfill, `<backfill>/<number>`."""
        return str(self.attributes["subject"])

    @property
    def time(self) -> datetime:
        """When it happened, by Redis' clock."""
        return datetime.fromisoformat(str(self.attributes["time"]))

    @property
    def data(self) -> Mapping[str, Any]:
        """What it tells, by its state."""
        data: Mapping[str, Any] = self.attributes["data"]
        return data

    @property
    def result(self) -> Any:
        """The result of a command that succeeded.

        None where it has none, and where it was too large for an event: it lies behind `dataref`.
        """
        return self.data.get("result")

    @property
    def dataref(self) -> str | None:
        """The URL of a result that is too large for an event."""
        found = self.attributes.get("dataref")
        return None if found is None else str(found)

    @property
    def error(self) -> Mapping[str, Any]:
        """`code`, `message` and what else is known of a failure; empty without one."""
        error = self.data.get("error")
        return error if isinstance(error, dict) else {}

    @property
    def correlation_id(self) -> str | None:
        """The `correlationid` of the command."""
        found = self.attributes.get("correlationid")
        return None if found is None else str(found)

    @property
    def is_end(self) -> bool:
        """Whether nothing more happens to the command."""
        return self.state in ENDS

    @property
    def is_of_item(self) -> bool:
        """Whether it tells of an item of a backfill, whose id may be a command's too."""
        return _OF_ITEM in str(self.attributes.get("source", ""))


def event_of(entry_id: bytes, fields: Mapping[bytes, bytes] | None) -> Event | None:
    """Returns the event in a stream's entry; None where others put something else there."""
    try:
        found = decode((fields or {})[EVENT_FIELD])
    except (KeyError, ValueError):
        return None
    if not isinstance(found, dict) or not found.keys() >= _NEEDED:
        return None
    return Event(entry_id.decode(), found) if isinstance(found["data"], dict) else None


def is_one_of(event: Event, types: Collection[str]) -> bool:
    """Tells whether an event is wanted.

    Args:
        event: to look at.
        types: whole types like `train.succeeded`, command types like `train`, or states like
            `failed`; none is all. A string is one of them.
    """
    if isinstance(types, str):
        types = (types,)
    return not types or not {event.type, event.command_type, event.state}.isdisjoint(types)


def check_types(types: Collection[str]) -> None:
    """Returns if events of all of these types can come.

    Raises:
        ValueError: one is a pattern, or ends in what is no state. No event would ever be it, and
            a consumer acknowledges unread what it does not want.
    """
    for each in (types,) if isinstance(types, str) else types:
        if "*" in each or not each:
            raise ValueError(
                f"types: {each!r} is no type; patterns are for sinks. Write a whole type like "
                "'train.succeeded', a command type like 'train', or a state like 'failed'"
            )
        _, dot, state = each.rpartition(".")
        meant = difflib.get_close_matches(state, _STATES, 1, _SLIP)
        # `resolve` is a command type.
        is_slip = bool(meant) and not meant[0].startswith(state)
        if state not in _STATES and (dot or is_slip):
            hint = f"did you mean {meant[0]!r}?" if meant else f"there is {', '.join(State)}"
            raise ValueError(f"types: {each!r} names no state of an event; {hint}")
