"""Accepts what was read, or has it rejected; where there are slots, claims it as well."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog
from redis.exceptions import ResponseError

from worker.queue.intake.pace import parts_of
from worker.queue.intake.received import tell_received
from worker.queue.intake.validation import Entry, conflict, validate, with_next_id
from worker.queue.ledger.keys import CommandStream
from worker.queue.ledger.models import Accepted, AcceptStatus, NewCommand, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.queue.intake.rejecting import Rejector
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease

log = structlog.get_logger(__name__)

# A message that took longer to validate lets everything else on the loop have its turn.
SLOW_SECONDS = 0.02
# So many ids are made for a command without one before it is rejected: who took them all meant to.
MOST_MADE_IDS = 8

# So many runs begin before the intake reads on. More would keep it from what they leave free.
_FEW_RUNS = 4


class Slots(Protocol):
    """Where commands may run that are claimed as they are accepted."""

    @property
    def takes_turns(self) -> bool:
        """Whether both lanes share one slot, so that what is due of the bulk lane may go first."""
        ...

    def reserve(self, commands: Sequence[NewCommand]) -> int:
        """Keeps slots, until `take`, for those of these that may be claimed; returns how many."""
        ...

    def take(self, reserved: int, leases: Iterable[Lease], regained: Iterable[Lease] = ()) -> None:
        """Ends a reservation, and runs what was claimed."""
        ...


class Acceptor:
    """Accepts for one consumer.

    Args:
        rejector: of the same consumer.
        consumer: its name, under which commands are claimed.
        batch_bytes: how much the entries of one script are to have.
        on_accepted: called with the number of commands that now wait for a run.
        now: seconds since 1970, for the time of events.
    """

    def __init__(
        self,
        ledger: Ledger,
        rejector: Rejector,
        *,
        consumer: str,
        batch_bytes: int,
        on_accepted: Callable[[int], None],
        now: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._keys = ledger.keys
        self._rejector = rejector
        self._consumer = consumer
        self._batch_bytes = batch_bytes
        self._on_accepted = on_accepted
        self._now = now
        self._slots: Slots | None = None
        # Two calls for one entry, as one taken over and read again by then, have the same lease:
        # replies that cross would have it run twice at the same time.
        self._claiming = asyncio.Lock()
        # Of which it is not known what came of it, nor whether it was claimed.
        self._unanswered: list[tuple[list[NewCommand], CommandStream]] = []

    def claim_for(self, slots: Slots) -> None:
        """Claims commands at once, as they are accepted, where these have room."""
        self._slots = slots

    async def ask_again(self) -> None:
        """Asks what came of calls whose replies were lost; the same call tells it."""
        asked = len(self._unanswered)
        for _ in range(asked):
            batch, stream = self._unanswered[0]
            async with self._claiming:
                try:
                    told = await self._ledger.accept_and_claim(batch, stream, holder=self._consumer)
                except ResponseError:
                    # It may be this stream alone that is in trouble: the other one is read on.
                    self._unanswered.append(self._unanswered.pop(0))
                    continue
                del self._unanswered[0]
                if self._slots is not None:
                    self._slots.take(0, told.leases, told.regained)
            if accepted := told.statuses.count(AcceptStatus.ACCEPTED):
                self._on_accepted(accepted)
            if new := accepted + len(told.regained):
                self._ledger.telemetry.accepted(new)

    async def handle_all(self, entries: list[Entry], size_bytes: int) -> None:
        """Handles entries in parts of so many bytes, and lets go of each; the list ends empty.

        Args:
            entries: of one stream.
            size_bytes: how many they have together, or more.
        """
        if size_bytes <= self._batch_bytes:
            await self._handle([entry for entry in entries if entry.fields])
            return
        for part in parts_of(entries, self._batch_bytes):
            await self._handle(part)
            # Or it would be held while the next one is handled.
            del part

    async def handle_ahead(self, entries: list[Entry]) -> None:
        """Accepts what can be; what is to be rejected or needs another id waits for its turn."""
        for part in parts_of(entries, self._batch_bytes):
            begun = time.monotonic()
            validated = [await self._validate(entry) for entry in part]
            pairs = [
                (entry, each)
                for entry, each in zip(part, validated, strict=True)
                if not isinstance(each, Rejection)
            ]
            statuses = await self._ledger.accept([each for _, each in pairs]) if pairs else []
            told = Accepted(statuses, [], [])
            if accepted := self._tell(pairs, told, CommandStream.COMMON, begun):
                log.debug("intake.accepted_ahead", commands=accepted)

    async def _handle(self, entries: Sequence[Entry]) -> None:
        """Accepts or rejects entries of one stream."""
        if not entries:
            return
        begun = time.monotonic()
        stream = entries[0].stream
        new_commands: list[tuple[Entry, NewCommand]] = []
        rejections: list[Rejection] = []
        for entry in entries:
            validated = await self._validate(entry)
            if isinstance(validated, Rejection):
                rejections.append(validated)
            else:
                new_commands.append((entry, validated))
        rejections += await self._accept(new_commands, stream, begun)
        if rejections:
            await self._rejector.reject(rejections, stream)

    async def _validate(self, entry: Entry) -> NewCommand | Rejection:
        begun = time.monotonic()
        validated = validate(entry, self._keys, self._now())
        if time.monotonic() - begun > SLOW_SECONDS:
            # A message with many thousand problems takes seconds: leases have to be renewed.
            await asyncio.sleep(0)
        return validated

    async def _accept(
        self, batch: Sequence[tuple[Entry, NewCommand]], stream: CommandStream, begun: float
    ) -> list[Rejection]:
        """Returns the rejections of conflicts."""
        number = 0
        conflicts = []
        while batch:
            number += 1
            told = await self._accept_once([new for _, new in batch], stream)
            # Before Redis is asked again: read once more, what it took now is known already.
            self._tell(batch, told, stream, begun)
            if 0 < len(told.leases) <= _FEW_RUNS:
                # They ask the API first, and then the intake asks Redis for more.
                await asyncio.sleep(0)
            again = []
            for (entry, new), status in zip(batch, told.statuses, strict=True):
                if status is AcceptStatus.TAKEN and number < MOST_MADE_IDS:
                    log.warning("intake.id_taken", id=new.command_id, entry=entry.origin)
                    again.append((entry, with_next_id(entry, new, number, self._now())))
                elif status not in {AcceptStatus.ACCEPTED, AcceptStatus.DUPLICATE}:
                    conflicts.append(conflict(entry, new, self._keys, self._now()))
            batch = again
        return conflicts

    def _tell(
        self,
        batch: Sequence[tuple[Entry, NewCommand]],
        told: Accepted,
        stream: CommandStream,
        begun: float,
    ) -> int:
        """Tells what was accepted; returns how many commands."""
        new = [
            pair
            for pair, status in zip(batch, told.statuses, strict=True)
            if status is AcceptStatus.ACCEPTED
        ]
        tell_received(self._ledger.telemetry, new, self._keys.stream(stream), begun)
        if waiting := len(new) - len(told.leases):
            self._on_accepted(waiting)
        if new:
            self._ledger.telemetry.accepted(len(new))
        return len(new)

    async def _accept_once(self, batch: list[NewCommand], stream: CommandStream) -> Accepted:
        """Accepts commands, and has those run that were claimed with it."""
        if self._slots is None:
            return await self._ledger.accept_and_claim(batch, stream)
        async with self._claiming:
            return await self._claim_once(batch, stream, self._slots)

    async def _claim_once(
        self, batch: list[NewCommand], stream: CommandStream, slots: Slots
    ) -> Accepted:
        reserved = slots.reserve(batch)
        told = Accepted([], [], [])
        try:
            told = await self._ledger.accept_and_claim(
                batch,
                stream,
                most=reserved,
                holder=self._consumer,
                takes_turns=slots.takes_turns,
            )
        except ResponseError:
            # Nothing is acknowledged: what is pending with us will be read again.
            raise
        except BaseException:
            if reserved:
                # What was claimed is ours until the lease ends, and not pending any more.
                self._unanswered.append((batch, stream))
            raise
        finally:
            slots.take(reserved, told.leases, told.regained)
        return told
