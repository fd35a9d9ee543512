"""The slots of one process: how many commands may run, and how many bytes their texts may have.

Each lane has its share: bulk commands leave slots and bytes to interactive ones, and a sixteenth
of the slots is theirs whatever else is due.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from schemas.enums import Priority
from worker.queue.ledger.models import RowState
from worker.queue.pool.bulk_limit import BulkLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from worker.queue.ledger.models import Lease, NewCommand

# So many of a batch are claimed as they are accepted: what a script for them alone would cost more
# than it does. The rest of a larger one is for whoever has slots.
MOST_AT_ONCE = 32
# While the intake is behind, the bulk lane's share is filled so often, or runs that are over soon
# would keep the loop from reading.
BULK_PAUSE_SECONDS = 0.25
# A run takes about four times its text: as it came, as it was read, and as it is sent.
TEXT_BYTES = 12 * 1024 * 1024
COPIES_OF_TEXT = 4
# Of these bytes bulk commands leave a part to interactive ones.
BULK_SHARE = 0.75


class Slots:
    """Counts what runs, and tells what may run besides.

    Attributes:
        running: how many commands run.
        suspects: how many of them may be what kills their worker.
        bulk_limit: how many bulk commands may run while interactive ones come.

    Args:
        concurrency: how many commands run at the same time.
        text_bytes: nothing is claimed while the texts of runs have so many.
        intake_is_behind: tells whether unread commands wait, among which may be interactive ones:
            reading goes before bulk runs then.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        text_bytes: int = TEXT_BYTES,
        intake_is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self.concurrency = concurrency
        self.running = 0
        self.suspects = 0
        self._reserved = 0
        self._bulk_running = 0
        self._text_bytes = text_bytes
        self._running_bytes = 0
        self._bulk_bytes = 0
        self._bulk_has_turn = False
        self._intake_is_behind = intake_is_behind
        self._bulk_again_at = 0.0
        self._bulk_share = max(1, concurrency // 16)
        self.bulk_limit = BulkLimit(concurrency, max(1, concurrency // 8))

    @property
    def free(self) -> int:
        """How many slots are free."""
        return self.concurrency - self.running - self._reserved

    @property
    def bulk_most(self) -> int:
        """How many bulk commands may run."""
        if self.takes_turns:
            return 1
        return min(self.concurrency - self._bulk_share, self.bulk_limit.value)

    @property
    def is_worth_a_claim(self) -> bool:
        """Whether so many slots are free that a claim costs little for each."""
        most, room = self.concurrency, self.free
        if self._bulk_running:
            most = self.bulk_limit.value
            room = min(room, most - self._bulk_running)
        return room >= max(1, most // 4)

    @property
    def takes_turns(self) -> bool:
        """Whether there is but one slot, so that neither lane can have one of its own."""
        return self.concurrency == 1

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be claimed until a run ends."""
        return self.free <= 0 or self._running_bytes >= self._text_bytes

    @property
    def free_bytes(self) -> int:
        """How many bytes the texts of further runs may have."""
        return self._text_bytes - self._running_bytes

    @property
    def free_bulk_bytes(self) -> int:
        """How many of them those of bulk commands may have."""
        return int(self._text_bytes * BULK_SHARE) - self._bulk_bytes

    def count(self, lease: Lease, sign: int) -> None:
        """Counts a command that begins to run, by 1, or that has ended, by -1."""
        size = sign * len(lease.text)
        self.running += sign
        self._running_bytes += size
        self.suspects += sign * lease.suspect
        if lease.lane is Priority.BULK:
            self._bulk_running += sign
            self._bulk_bytes += size
            self.bulk_limit.saw_bulk(self._bulk_running)
        elif sign > 0 and lease.state is not RowState.POLLING:
            # Whoever polls waits for the API, which takes minutes.
            self.bulk_limit.saw_interactive()

    def reserve(self, commands: Sequence[NewCommand]) -> int:
        """Keeps slots for the first of those that may be claimed as they are accepted.

        Returns:
            For how many, which `release` takes.
        """
        own = 0 if self.takes_turns else self._bulk_share
        slots = min(MOST_AT_ONCE, self.free - max(0, own - self._bulk_running))
        room = self._text_bytes - self._running_bytes
        count = 0
        for command in commands:
            if not command.may_run_at_once:
                continue
            room -= len(command.text)
            if count >= slots or room < 0:
                break
            count += 1
        self.keep(count)
        return count

    def keep(self, slots: int) -> None:
        """Keeps slots for what is claimed now, until they are released."""
        self._reserved += slots

    def release(self, reserved: int) -> None:
        """Ends a reservation."""
        self._reserved -= reserved

    @property
    def bulk_pause_seconds(self) -> float:
        """After how long bulk commands have their share again, for the intake is behind; else 0."""
        if not self._intake_is_behind():
            return 0.0
        # One that is over while a claim was under way is made up for by the next one.
        rest = self._bulk_again_at - time.monotonic()
        return rest if rest > 0 else BULK_PAUSE_SECONDS

    def bulk_bounds(self) -> tuple[int, int]:
        """Returns how many bulk commands go first, and how many may run besides those that do."""
        if self._intake_is_behind():
            # A producer may keep it so for ever: a share of the lane goes on.
            if time.monotonic() < self._bulk_again_at:
                return 0, 0
            self._bulk_again_at = time.monotonic() + BULK_PAUSE_SECONDS
            share = max(0, self._bulk_share - self._bulk_running)
            return share, share
        if self.takes_turns:
            self._bulk_has_turn = not self._bulk_has_turn
            return int(self._bulk_has_turn), 1
        return (
            max(0, self._bulk_share - self._bulk_running),
            max(0, self.bulk_most - self._bulk_running),
        )
