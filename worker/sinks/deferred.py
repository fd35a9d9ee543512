"""What a sink keeps in Redis: the events that are put off, its counts, and its pause.

The hash of a sink::

    delivered, failed          deliveries; attempts that failed
    last_error, last_error_at  of the latest of these (ms)
    last_delivered_at          ms
    paused, paused_at          why it is paused, and since when (ms); empty while it runs
    resumed_at                 when it was resumed last (ms): tries count from then
    generation                 changes when events that could not be sent wait again
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from schemas.json_text import decode_json, encode_json
from trainmaster_client import Event
from trainmaster_client.events import event_of
from worker.integrations.follower_store import order_of
from worker.integrations.keys import follower_key
from worker.queue.ledger.keys import EVENT_FIELD
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.streams import before_entry, newest_entries
from worker.sinks.keys import follower_name, retries_key, sink_key, unsent_key, waiting_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

_PACKAGE: Final = "worker.sinks"
# Of those that could not be sent, so many are kept, about.
UNSENT_EVENTS: Final = 100_000
# Each may have a quarter of a megabyte.
_PAGE: Final = 100
# What an event is told by.
_TOLD_BY: Final = ("id", "type", "subject", "time")


@dataclass(slots=True)
class DeferredEvent:
    """An event that is put off, or stands behind such one.

    Attributes:
        event: all of it, or what tells which one it is.
        text: the whole; empty where only Redis has it, so that as many as there are can be known.
    """

    entry_id: str
    event: Event
    text: bytes


@dataclass(slots=True)
class CommandQueue:
    """The events of one command that wait, in their order.

    Attributes:
        tries: of the first one, that failed.
        since_ms: when its first try failed; 0 before that.
        due: when it is tried next, by `time.monotonic`.
        running: whether it is tried at this moment.
    """

    entries: deque[DeferredEvent] = field(default_factory=deque)
    tries: int = 0
    since_ms: int = 0
    due: float = 0.0
    running: bool = False


@dataclass(frozen=True, slots=True)
class UnsentEvent:
    """An event that could not be sent.

    Attributes:
        id: names it; the ms since the epoch at which its tries ended, a dash and a number.
        event: what tells which one it is.
        error: of the last try.
    """

    id: str
    event: Event
    error: str


@dataclass(frozen=True, slots=True)
class SinkState:
    """How a sink stands in Redis."""

    delivered: int = 0
    failed: int = 0
    last_error: str = ""
    last_error_at_ms: int = 0
    last_delivered_at_ms: int = 0
    paused: str = ""
    paused_at_ms: int = 0
    resumed_at_ms: int = 0
    generation: int = 0


class SinkStore:
    """The state of one sink in Redis."""

    def __init__(self, redis: Redis, keys: Keys, sink: str) -> None:
        self._redis = redis
        self._sink = sink_key(keys, sink)
        self._follower = follower_key(keys, follower_name(sink))
        self._waiting = waiting_key(keys, sink)
        self._retries = retries_key(keys, sink)
        self._unsent = unsent_key(keys, sink)
        self._defer = load_script(redis, "defer", _PACKAGE)
        self._settle = load_script(redis, "settle_deferred", _PACKAGE)
        self._recover = load_script(redis, "recover", _PACKAGE)

    async def state(self) -> SinkState:
        """Returns how the sink stands."""
        found = cast("dict[bytes, bytes]", await self._redis.hgetall(self._sink))
        told = {name.decode(): value.decode(errors="replace") for name, value in found.items()}

        def number(name: str) -> int:
            text = told.get(name, "")
            return int(text) if text.isdigit() else 0

        return SinkState(
            delivered=number("delivered"),
            failed=number("failed"),
            last_error=told.get("last_error", ""),
            last_error_at_ms=number("last_error_at"),
            last_delivered_at_ms=number("last_delivered_at"),
            paused=told.get("paused", ""),
            paused_at_ms=number("paused_at"),
            resumed_at_ms=number("resumed_at"),
            generation=number("generation"),
        )

    async def report(self, counts: dict[str, int], fields: dict[str, str | int]) -> SinkState:
        """Adds to the counts, sets fields, and returns how the sink stands then."""
        if counts or fields:
            pipe = self._redis.pipeline(transaction=False)
            for name, more in counts.items():
                pipe.hincrby(self._sink, name, more)
            for name, value in fields.items():
                pipe.hset(self._sink, name, value)
            await pipe.execute()
        return await self.state()

    async def pause(self, reason: str, now_ms: int) -> None:
        """Pauses the sink; its leader sees it within a second."""
        await self._set({"paused": reason, "paused_at": now_ms})

    async def resume(self, now_ms: int) -> None:
        """Lets a paused sink go on."""
        await self._set({"paused": "", "paused_at": "", "resumed_at": now_ms})

    async def _set(self, fields: Mapping[Any, Any]) -> None:
        await self._redis.hset(self._sink, mapping=fields)

    async def counts(self) -> tuple[int, int]:
        """Returns how many events wait after a failure, and how many could not be sent."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hlen(self._waiting)
        pipe.xlen(self._unsent)
        waiting, unsent = await pipe.execute()
        return waiting, unsent

    async def defer(self, token: int, waiting: DeferredEvent, queue: CommandQueue | None) -> bool:
        """Puts an event off; False where another process leads the sink.

        Args:
            token: of the lead.
            waiting: the event; without a text it waits already.
            queue: whose tries and times are recorded.
        """
        told = b""
        if queue is not None:
            told = encode_json({"tries": queue.tries, "since_ms": queue.since_ms})
        done = await self._defer(
            keys=[self._follower, self._waiting, self._retries],
            args=[token, waiting.entry_id, waiting.text, waiting.event.command_id, told],
        )
        return bool(done)

    async def settle(self, token: int, waiting: DeferredEvent, unsent: str = "") -> bool:
        """Ends the wait of an event; False where another process leads the sink.

        Args:
            token: of the lead.
            waiting: the event.
            unsent: why it could not be sent; empty where it was.
        """
        done = await self._settle(
            keys=[self._follower, self._waiting, self._retries, self._unsent],
            args=[token, waiting.entry_id, waiting.event.command_id, unsent, UNSENT_EVENTS],
        )
        return bool(done)

    async def load(self) -> dict[str, CommandQueue]:
        """Returns what waits, by command, without the texts."""
        while True:
            generation = await self._generation()
            found = await self._scan()
            # A scan may miss what is added meanwhile, and see what was added after that: events
            # that wait again while it goes on would overtake others of their command.
            if await self._generation() == generation:
                break
        queues: dict[str, CommandQueue] = {}
        for each in sorted(found.values(), key=lambda each: order_of(each.entry_id)):
            queues.setdefault(each.event.command_id, CommandQueue()).entries.append(each)
        told = cast("dict[bytes, bytes]", await self._redis.hgetall(self._retries))
        for subject, text in told.items():
            queue = queues.get(subject.decode())
            if queue is not None:
                queue.tries, queue.since_ms = _read(text)
        return queues

    async def _generation(self) -> bytes | None:
        found = self._redis.hget(self._sink, "generation")
        return await cast("Awaitable[bytes | None]", found)

    async def _scan(self) -> dict[str, DeferredEvent]:
        found: dict[str, DeferredEvent] = {}
        async for entry_id, text in self._redis.hscan_iter(self._waiting, count=_PAGE):
            event = event_of(entry_id, {EVENT_FIELD: text})
            if event is not None:
                # A scan may tell one twice.
                found[event.entry_id] = _without_text(event)
        return found

    async def read(self, waiting: DeferredEvent) -> DeferredEvent:
        """Returns an event that waits with its text; without one where it waits no more."""
        found = self._redis.hget(self._waiting, waiting.entry_id)
        text = await cast("Awaitable[bytes | None]", found)
        event = event_of(waiting.entry_id.encode(), {EVENT_FIELD: text or b""})
        if text is None or event is None:
            return waiting
        return DeferredEvent(waiting.entry_id, event, text)

    async def unsent(self, before: str | None = None) -> AsyncIterator[UnsentEvent]:
        """Yields the events whose tries have ended, newest first.

        Args:
            before: only those that came before the one of this id.
        """
        last = "+" if before is None else before_entry(before)
        async for page in newest_entries(self._redis, self._unsent, last=last, count=_PAGE):
            for entry_id, fields in page:
                event = event_of(
                    fields.get(b"entry", b""), {EVENT_FIELD: fields.get(b"event", b"")}
                )
                if event is not None:
                    error = fields.get(b"error", b"").decode(errors="replace")
                    yield UnsentEvent(entry_id.decode(), _without_text(event).event, error)

    async def recover(self, since_ms: int) -> int:
        """Has events wait again that could not be sent; returns how many.

        Args:
            since_ms: only of those that are not older.
        """
        start, total = "-", 0
        while start:
            moved, last = await self._recover(
                keys=[self._sink, self._waiting, self._unsent], args=[since_ms, start, _PAGE]
            )
            total += moved
            start = f"({last.decode()}" if last else ""
        return total


def _without_text(event: Event) -> DeferredEvent:
    told = {name: event.attributes[name] for name in _TOLD_BY} | {"data": {}}
    return DeferredEvent(event.entry_id, Event(event.entry_id, told), b"")


def _read(text: bytes) -> tuple[int, int]:
    try:
        told = decode_json(text)
        return int(told["tries"]), int(told["since_ms"])
    except (ValueError, KeyError, TypeError):
        return 0, 0
