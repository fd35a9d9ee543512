"""Follows the events of a namespace, all of them or the replies of one producer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.json_text import decode_json
from worker.ledger.connection import BLOCK_MILLISECONDS
from worker.ledger.keys import EVENT_FIELD, Keys
from worker.ledger.streams import entries_after, newest_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from redis.asyncio import Redis

_PAGE = 500
_ATTRIBUTES = frozenset({"id", "type", "subject", "time", "data"})


async def last_id(redis: Redis, keys: Keys, reply_to: str | None = None) -> str:
    """Returns the id of the newest entry; following from it misses nothing that comes after."""
    newest = await newest_entry(redis, keys.replies(reply_to) or keys.events)
    return newest[0].decode() if newest else "0-0"


async def read(
    redis: Redis,
    keys: Keys,
    *,
    reply_to: str | None = None,
    types: Collection[str] = (),
    start: str = "0-0",
    follow: bool = False,
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yields stream ids and events after `start`, oldest first.

    Args:
        redis: client that returns bytes.
        keys: the namespace.
        reply_to: the stream of these replies instead of the stream of all events.
        types: only events whose type is one of these, or begins with one and a dot.
        start: id of an entry; the first event is the one after it.
        follow: waits for further events instead of ending with the newest.
    """
    stream = keys.replies(reply_to) or keys.events
    while True:
        entries = await entries_after(
            redis, stream, start, count=_PAGE, block_ms=BLOCK_MILLISECONDS if follow else None
        )
        for entry_id, fields in entries:
            start = entry_id.decode()
            event = event_of(fields)
            if event is not None and (not types or _is_one_of(event["type"], types)):
                yield start, event
        if not entries and not follow:
            return


def event_of(fields: Mapping[bytes, bytes]) -> dict[str, Any] | None:
    """Returns the event in a stream's entry; None where others put something else there."""
    try:
        event = decode_json(fields[EVENT_FIELD])
    except (KeyError, ValueError):
        return None
    return event if isinstance(event, dict) and event.keys() >= _ATTRIBUTES else None


def _is_one_of(event_type: str, types: Collection[str]) -> bool:
    return any(
        event_type == wanted
        or event_type.startswith(f"{wanted}.")
        or event_type.endswith(f".{wanted}")
        for wanted in types
    )
