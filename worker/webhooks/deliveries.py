"""Deliveries in Redis: recorded once with all that their rules make of them, found and listed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, cast

from schemas.json_text import encode_json
from worker.queue.ledger.lua import load_script
from worker.webhooks.keys import deliveries_key, delivery_key, windows_key
from worker.webhooks.records import (
    Delivery,
    Effects,
    RecordedDelivery,
    RuleRecord,
    RuleResult,
    fields_of,
    read_delivery,
    read_records,
    summary,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from redis.asyncio import Redis

    from trainmaster_client import Message
    from worker.queue.ledger.keys import Keys

PACKAGE: Final = "worker.webhooks"
# More wait for nobody: the window is due at once, and what comes next opens another one.
MOST_IN_WINDOW: Final = 1_000
MOST_WINDOW_BYTES: Final = 4 * 1024 * 1024
_PAGE: Final = 200
# What a list shows of a delivery: all but its headers and its body.
_HEAD: Final = (b"source", b"id", b"type", b"received_at", b"outcome", b"windows")
_WITHOUT_BODY: Final = {b"headers": b"{}", b"body": b""}
_END: Final = b"window:"
# Of a time in ms: more are none that Redis' sorted sets can hold exactly.
_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class Position:
    """Where a delivery stands among all, by which a list goes on.

    Attributes:
        recorded_at_ms: ms since the epoch, by Redis' clock.
        name: of the delivery.
    """

    recorded_at_ms: int
    name: str

    def __str__(self) -> str:
        """As it is handed to whoever lists."""
        return f"{self.recorded_at_ms}/{self.name}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Returns a position that was handed out.

        Raises:
            ValueError: it was not.
        """
        at, slash, name = text.partition("/")
        if not slash or not name or not (at.isascii() and at.isdigit() and len(at) <= _DIGITS):
            raise ValueError("no position of a delivery")
        return cls(int(at), name)

    def is_behind(self, other: Position) -> bool:
        """Whether it comes later in a list, newest first; Redis orders equal times by name."""
        if self.recorded_at_ms != other.recorded_at_ms:
            return self.recorded_at_ms < other.recorded_at_ms
        return self.name.encode() < other.name.encode()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is recorded of a delivery.

    Attributes:
        is_new: whether it was recorded by this very call.
    """

    is_new: bool
    outcomes: Sequence[RuleRecord]


class Deliveries:
    """The deliveries of a namespace.

    Args:
        redis: client that returns bytes.
        keys: the namespace.
        retention_seconds: how long a delivery is kept, and told from a repeat.
    """

    def __init__(self, redis: Redis, keys: Keys, *, retention_seconds: int) -> None:
        self._redis = redis
        self._keys = keys
        self._retention_seconds = retention_seconds
        self._receive = load_script(redis, "receive", PACKAGE)

    async def record(
        self, delivery: Delivery, effects: Effects, *, replayed: RecordedDelivery | None = None
    ) -> Receipt:
        """Records a delivery and carries its effects out: all of them, or none and raises.

        Of a delivery that is known it does nothing and returns what was recorded.

        Args:
            delivery: to record.
            effects: of its rules.
            replayed: the delivery as it was read, where its rules run again.
        """
        keys = self._keys
        outcome = encode_json([each.as_json() for each in effects.outcomes])
        fields = () if replayed is not None else fields_of(delivery)
        entries = stream_entries(effects.commands, effects.dead_letters)
        items: list[str | bytes | int] = []
        for item in effects.window_items:
            items += [item.window, item.new_id, item.milliseconds, item.head, item.text]
        is_new, stored, _ = await self._receive(
            keys=[
                delivery_key(keys, delivery.name),
                deliveries_key(keys),
                keys.commands,
                keys.bulk_commands,
                keys.dead_letters,
                windows_key(keys),
            ],
            args=[
                keys.prefix,
                self._retention_seconds,
                delivery.name,
                b"" if replayed is None else replayed.outcome_text,
                outcome,
                MOST_IN_WINDOW,
                MOST_WINDOW_BYTES,
                len(fields),
                len(entries),
                *fields,
                *entries,
                *items,
            ],
        )
        if is_new:
            return Receipt(True, effects.outcomes)
        # Nothing where it has expired since it was looked at.
        return Receipt(False, read_records(stored) if stored else [])

    async def get(self, name: str) -> RecordedDelivery | None:
        """Returns a delivery by its name, `<source>/<id>`."""
        stored = await cast(
            "Awaitable[dict[bytes, bytes]]", self._redis.hgetall(delivery_key(self._keys, name))
        )
        return read_delivery(stored)

    async def find(self, wanted: str) -> list[RecordedDelivery]:
        """Returns the delivery of this name, else those of this id, whichever source they have."""
        if found := await self.get(wanted):
            return [found]
        return [
            delivery
            async for page in self._positions()
            for each in page
            if each.name.partition("/")[2] == wanted and (delivery := await self.get(each.name))
        ]

    async def newest(
        self,
        source: str | None = None,
        outcome: RuleResult | None = None,
        after: Position | None = None,
    ) -> AsyncIterator[tuple[Position, RecordedDelivery]]:
        """Yields what is kept, newest first, without headers and bodies.

        Args:
            source: only the deliveries of this one.
            outcome: only those of which a rule made this.
            after: only those behind this one.
        """
        async for page in self._positions(after):
            wanted = {
                each.name: each
                for each in page
                if source is None or each.name.partition("/")[0] == source
            }
            for found in await self._heads(list(wanted)):
                # Others may have written a hash that says it is another one.
                position = wanted.get(found.delivery.name)
                said = summary(found.outcomes).split(", ")
                if position is not None and (outcome is None or outcome in said):
                    yield position, found

    async def _heads(self, names: Sequence[str]) -> list[RecordedDelivery]:
        """Returns deliveries without headers and bodies, which may have 25 MB each."""
        heads = await self._fields([(name, _HEAD) for name in names])
        ends = await self._fields([
            (name, [_END + each for each in head.get(b"windows", b"").splitlines()])
            for name, head in zip(names, heads, strict=True)
        ])
        stored = (_WITHOUT_BODY | head | end for head, end in zip(heads, ends, strict=True))
        return [found for each in stored if (found := read_delivery(each))]

    async def _fields(
        self, wanted: Sequence[tuple[str, Sequence[bytes]]]
    ) -> list[dict[bytes, bytes]]:
        """Returns some fields of deliveries, as far as they are there."""
        pipe = self._redis.pipeline(transaction=False)
        for name, fields in wanted:
            # Of no field at all Redis can't be asked.
            pipe.hmget(delivery_key(self._keys, name), fields or _HEAD[:1])
        return [
            {
                field: value
                for field, value in zip(fields, values, strict=False)
                if value is not None
            }
            for (_, fields), values in zip(wanted, await pipe.execute(), strict=True)
        ]

    async def _positions(self, after: Position | None = None) -> AsyncIterator[list[Position]]:
        """Yields where what is kept stands, newest first, in pages."""
        last: str | float = "+inf" if after is None else after.recorded_at_ms
        skip = 0
        while True:
            page = cast(
                "list[tuple[bytes, float]]",
                await self._redis.zrange(
                    deliveries_key(self._keys),
                    cast("int", last),
                    cast("int", "-inf"),
                    desc=True,
                    byscore=True,
                    withscores=True,
                    offset=skip,
                    num=_PAGE,
                ),
            )
            found = [Position(int(at), name.decode(errors="replace")) for name, at in page]
            yield [each for each in found if after is None or each.is_behind(after)]
            if len(page) < _PAGE:
                return
            lowest = page[-1][1]
            level = sum(score == lowest for _, score in page)
            skip = skip + level if lowest == last else level
            last = lowest


def stream_entries(commands: Sequence[Message], dead_letters: Sequence[bytes]) -> list[str | bytes]:
    """Returns what the scripts add to streams: the index of each stream's key, and the text."""
    entries: list[str | bytes] = []
    for message in commands:
        entries += ["4" if message.stream else "3", message.text]
    for letter in dead_letters:
        entries += ["5", letter]
    return entries
