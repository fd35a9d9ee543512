"""Entries of streams that have a field more than once: a dict would keep the last value alone.

What a producer added by `XADD … command A command B` would be lost but for B, without a word.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from redis.asyncio import Redis

# Behind a field's name where an earlier field of the entry has it, too.
AGAIN: Final = b" (again)"

# A name and a value.
_ONE_FIELD: Final = 2


def keep_doubled_fields(redis: Redis) -> None:
    """Has a client give each further value of a field under a name of its own."""
    callbacks: Any = redis.response_callbacks
    for command, lists_of in _REPLIES.items():
        callbacks[command] = partial(_parsed, callbacks[command], lists_of)


def _parsed(
    parse: Callable[..., Any],
    lists_of: Callable[[Any], Iterable[Any]],
    reply: Any,
    **options: Any,
) -> Any:
    for entries in lists_of(reply):
        for entry in entries or ():
            # One that was deleted has none, and of some calls no more than ids are told.
            if isinstance(entry, list) and entry[1] and len(entry[1]) > _ONE_FIELD:
                _name_apart(entry[1])
    return parse(reply, **options)


def _name_apart(fields: list[bytes]) -> None:
    names: set[bytes] = set()
    for at in range(0, len(fields), 2):
        while fields[at] in names:
            fields[at] += AGAIN
        names.add(fields[at])


def _of_streams(reply: Any) -> Iterable[Any]:
    return reply.values() if isinstance(reply, dict) else [each[1] for each in reply or ()]


def _of_claim(reply: Any) -> Iterable[Any]:
    return (reply[1],)


def _of_range(reply: Any) -> Iterable[Any]:
    return (reply,)


_REPLIES: Final[dict[str, Callable[[Any], Iterable[Any]]]] = {
    "XREADGROUP": _of_streams,
    "XAUTOCLAIM": _of_claim,
    "XRANGE": _of_range,
}
