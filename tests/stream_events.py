"""Entries of the stream of events, as workers write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from schemas.enums import EventState
from schemas.events import EVENT_SOURCE, event_json

if TYPE_CHECKING:
    from worker.queue.ledger.streams import StreamEntry

FIRST_MS: Final = 1_700_000_000_000
DATA: Final[dict[str, dict[str, Any]]] = {
    "accepted": {},
    "retrying": {
        "error": {"code": "server_error", "message": "the API failed"},
        "attempt": 1,
        "retry_at": "2026-01-31T12:00:00Z",
    },
    "succeeded": {"result": None, "attempts": 2, "duration_seconds": 1.0},
    "failed": {"error": {"code": "not_found", "message": "no such model"}, "attempts": 3},
    "rejected": {"error": {"code": "invalid_command", "message": "no type"}, "raw": "{}"},
}


def event_text(
    command_id: str,
    event_type: str,
    *,
    at_ms: int = FIRST_MS,
    origin: str = "",
    data: dict[str, Any] | None = None,
    source: str = EVENT_SOURCE,
    **context: str,
) -> bytes:
    """Returns the JSON of an event; its data is an example of its state's."""
    command_type, _, state = event_type.rpartition(".")
    return event_json(
        event_id=f"{origin or command_id}/{state}",
        command_type=command_type,
        state=EventState(state),
        subject=command_id,
        time_ms=at_ms,
        data=DATA.get(state, {}) if data is None else data,
        context=context,
        source=source,
    )


def entry(number: int, command_id: str, event_type: str, **told: Any) -> StreamEntry:
    """Returns an entry of the stream of events; entries are ten milliseconds apart."""
    at_ms = FIRST_MS + 10 * number
    text = event_text(command_id, event_type, at_ms=at_ms, **told)
    return f"{at_ms}-0".encode(), {b"event": text}
