"""A reader's view of the ledger: one row, many rows, counts. It changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from schemas.json_text import decode_json
from worker.ledger.keys import GROUP, Keys, item_row_id, shown_id
from worker.ledger.row import LANES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from worker.ledger.row import RowState

_PAGE = 500


@dataclass(frozen=True, slots=True)
class RowView:
    """A row, for people.

    Attributes:
        backfill: whose item it is, None for a command.
        state: of `RowState`, or as it stands: a newer version may have written one of its own.
        lane: of `Priority`, or likewise.
        due_at_ms: when someone looks at it again; the lease's end while it runs.
        last_event_id: stream id of the terminal event.
        last_error: of the latest failed attempt, while the command has not ended.
    """

    id: str
    backfill: str | None
    type: str
    state: str
    lane: str
    attempts: int
    claims: int
    accepted_at_ms: int
    due_at_ms: int | None
    ended_at_ms: int | None
    last_error: dict[str, Any] | None
    progress: dict[str, Any] | None
    last_event_id: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the command, whatever its state is called."""
        return self.ended_at_ms is not None


class Inspector:
    """Reads the rows of a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def status(self, command_id: str) -> RowView | None:
        """Returns the row of a command, or None where the id is not known."""
        views = await self._read([command_id])
        return views[0] if views else None

    async def item(self, item_id: str) -> RowView | None:
        """Returns the row of a backfill's item that has not ended, by an id like `night/17`."""
        backfill_id, _, number = item_id.rpartition("/")
        if not number.isdigit():
            return None
        views = await self._read([item_row_id(backfill_id, number)])
        return views[0] if views else None

    async def rows(self, state: RowState | None = None, limit: int = 100) -> AsyncIterator[RowView]:
        """Yields rows: what has not ended first, by due time, then what has ended.

        Ended rows come in no order, for they stand in no index.
        """
        found = 0
        if state is None or not state.ended:
            keys = self._keys
            for due in (keys.due_interactive, keys.due_bulk, keys.due_suspect):
                start = 0
                while ids := cast(
                    "list[bytes]", await self._redis.zrange(due, start, start + _PAGE - 1)
                ):
                    start += len(ids)
                    for view in await self._read([row_id.decode() for row_id in ids]):
                        if state in {None, view.state}:
                            yield view
                            found += 1
                            if found >= limit:
                                return
        if state is None or state.ended:
            async for view in self._ended(state):
                yield view
                found += 1
                if found >= limit:
                    return

    async def counts(self) -> dict[str, int]:
        """Returns the lengths of everything that can grow.

        What has not ended stands in one of three due sets: of its lane, or of the suspects.
        """
        seconds, microseconds = await self._redis.time()
        now = seconds * 1000 + microseconds // 1000
        keys = self._keys
        pipe = self._redis.pipeline(transaction=False)
        pipe.xlen(keys.commands)
        pipe.llen(keys.inbox)
        pipe.zcard(keys.due_interactive)
        pipe.zcard(keys.due_bulk)
        pipe.zcard(keys.due_suspect)
        pipe.zcount(keys.due_interactive, "-inf", now)
        pipe.zcount(keys.due_bulk, "-inf", now)
        pipe.zcount(keys.due_suspect, "-inf", now)
        pipe.xlen(keys.events)
        pipe.xlen(keys.dead_letters)
        names = (
            "unread",
            "inbox",
            "open_interactive",
            "open_bulk",
            "open_suspect",
            "due_interactive",
            "due_bulk",
            "due_suspect",
            "events",
            "dead_letters",
        )
        return dict(zip(names, await pipe.execute(), strict=True))

    async def consumers(self) -> list[dict[str, Any]]:
        """Returns name, pending entries and idle time (ms) of each consumer of the group."""
        found = await self._redis.xinfo_consumers(self._keys.commands, GROUP)
        return [
            {
                "name": consumer["name"].decode(),
                "pending": consumer["pending"],
                "idle_ms": consumer["idle"],
            }
            for consumer in found
        ]

    async def _ended(self, state: RowState | None) -> AsyncIterator[RowView]:
        prefix = self._keys.row("")
        page: list[str] = []
        async for key in self._redis.scan_iter(match=f"{_escape(prefix)}*", count=_PAGE):
            page.append(key.decode()[len(prefix) :])
            if len(page) == _PAGE:
                for view in await self._read(page):
                    if view.ended and state in {None, view.state}:
                        yield view
                page = []
        for view in await self._read(page):
            if view.ended and state in {None, view.state}:
                yield view

    async def _read(self, row_ids: list[str]) -> list[RowView]:
        pipe = self._redis.pipeline(transaction=False)
        for row_id in row_ids:
            pipe.hgetall(self._keys.row(row_id))
            pipe.zscore(self._keys.due_interactive, row_id)
            pipe.zscore(self._keys.due_bulk, row_id)
            pipe.zscore(self._keys.due_suspect, row_id)
        replies = await pipe.execute()
        views = []
        for index, row_id in enumerate(row_ids):
            fields, *scores = replies[index * 4 : index * 4 + 4]
            if fields:
                due = next((score for score in scores if score is not None), None)
                views.append(_view(row_id, fields, due))
        return views


def _view(row_id: str, fields: dict[bytes, bytes], due: float | None) -> RowView:
    errors = decode_json(fields[b"x"]) if b"x" in fields else []
    return RowView(
        id=shown_id(row_id),
        backfill=fields[b"b"].decode() if b"b" in fields else None,
        type=fields[b"t"].decode(),
        state=fields[b"s"].decode(),
        lane=LANES.get(fields[b"l"], fields[b"l"].decode()),
        attempts=int(fields[b"a"]),
        claims=int(fields.get(b"c", b"0")),
        accepted_at_ms=int(fields[b"m"]),
        due_at_ms=None if due is None else int(due),
        ended_at_ms=int(fields[b"e"]) if b"e" in fields else None,
        last_error=errors[-1] if errors else None,
        progress=decode_json(fields[b"p"]) if b"p" in fields else None,
        last_event_id=fields[b"v"].decode() if b"v" in fields else None,
    )


def _escape(pattern: str) -> str:
    return "".join(
        f"\\{character}" if character in r"*?[]\{}" else character for character in pattern
    )
