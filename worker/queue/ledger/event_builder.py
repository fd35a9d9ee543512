"""Events about commands, ready for a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.events import EVENT_SOURCE, event_json

if TYPE_CHECKING:
    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from schemas.enums import EventState
    from schemas.partial import PartialCommand


def build_event(  # noqa: PLR0913 - what an event tells
    command: Command | ClaimCheck | PartialCommand,
    entry_id: str,
    command_id: str,
    state: EventState,
    data: dict[str, Any],
    *,
    ordinal: int | None = None,
    source: str = EVENT_SOURCE,
    dataref: str | None = None,
    now: float,
) -> bytes:
    """Returns the event that tells `state` of a command.

    The event's id is made of the command's stream entry, the state and the ordinal, so that it
    is the same however often the event is written, and unique though ids are used again.
    That of a group's member has a source of its own, for a command may have the same id.
    """
    event_id = f"{entry_id}/{state}" if ordinal is None else f"{entry_id}/{state}/{ordinal}"
    return event_json(
        event_id=event_id,
        command_type=command.type,
        state=state,
        subject=command_id,
        source=source,
        time_ms=int(now * 1000),
        data=data,
        context=command.context(),
        dataref=dataref,
    )
