"""Reads of Redis streams in the one shape that clients without decoding give.

redis-py types its replies for every protocol and decoding at once; here they are always bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from worker.queue.ledger.connection import stop_if_cancelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

StreamEntry = tuple[bytes, dict[bytes, bytes]]

_ENTRY_ID: Final = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)


def is_entry_id(text: str) -> bool:
    """Tells whether a text can be the id of an entry: two numbers of 64 bits."""
    parts = _ENTRY_ID.fullmatch(text)
    return parts is not None and all(int(part) < 2**64 for part in parts.groups())


def since_time(since_ms: int | None) -> str:
    """Returns the beginning of a range of entries: a time, in ms since the epoch, or none."""
    # No entry is older than the epoch, and Redis refuses to look before it.
    return "-" if since_ms is None or since_ms <= 0 else str(since_ms)


def before_entry(entry_id: str) -> str:
    """Returns the end of a range of entries that ends before an entry."""
    # Redis refuses to look before 0-0; nothing is there.
    return f"({entry_id}" if entry_id.strip("0-") else "0-0"


async def entries_between(
    redis: Redis, stream: str, first: str, last: str, count: int | None = None
) -> list[StreamEntry]:
    """Returns entries from `first` to `last`, both included unless they begin with `(`."""
    return cast("list[StreamEntry]", await redis.xrange(stream, first, last, count=count) or [])


async def newest_entry(redis: Redis, stream: str) -> StreamEntry | None:
    """Returns the last entry of a stream."""
    found = cast("list[StreamEntry]", await redis.xrevrange(stream, count=1) or [])
    return found[0] if found else None


async def newest_entries(
    redis: Redis, stream: str, *, first: str = "-", last: str = "+", count: int
) -> AsyncIterator[list[StreamEntry]]:
    """Yields the entries of a stream in pages, newest first, from `last` back to `first`."""
    while True:
        page = cast(
            "list[StreamEntry]", await redis.xrevrange(stream, last, first, count=count) or []
        )
        yield page
        if len(page) < count:
            return
        last = f"({page[-1][0].decode()}"


async def entries_after(
    redis: Redis, stream: str, start: str, *, count: int, block_ms: int | None
) -> list[StreamEntry]:
    """Returns entries after `start`, waiting for them if asked to.

    Raises:
        asyncio.CancelledError: the task was cancelled, though an earlier call swallowed it.
    """
    stop_if_cancelled()
    return of_one_stream(await redis.xread({stream: start}, count=count, block=block_ms))


def of_one_stream(reply: Any) -> list[StreamEntry]:
    """Returns the entries in a reply to XREAD or XREADGROUP of one stream."""
    return next(iter(by_stream(reply).values()), [])


def by_stream(reply: Any) -> dict[str, list[StreamEntry]]:
    """Returns the entries in a reply to XREAD or XREADGROUP, by the streams' keys."""
    pairs = reply.items() if isinstance(reply, dict) else reply or ()
    return {_text(name): _flat(entries) for name, entries in pairs}


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _flat(entries: Any) -> list[StreamEntry]:
    # The RESP3 shape nests the entries once more.
    nested = len(entries) == 1 and isinstance(entries[0], list)
    return cast("list[StreamEntry]", entries[0] if nested else entries)
