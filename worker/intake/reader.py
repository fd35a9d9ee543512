"""Reads the stream of commands in batches and hands them to the ledger.

Every worker reads as a consumer of the group `intake`. An entry is acknowledged by the script
that made its row or its rejection, never before; so what a worker had read when it died is read
again by itself (its own pending entries) or by another worker (`take_over`).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import ResponseError

from worker.intake.lists import BATCH_BYTES, Mover, PushedList
from worker.intake.pace import ReadPace, parts_of
from worker.intake.verdict import Entry, conflict, judge
from worker.ledger.connection import BLOCK_MILLISECONDS, LEDGER_TROUBLE, stop_if_cancelled
from worker.ledger.keys import GROUP
from worker.ledger.ledger import load_script
from worker.ledger.outage import ONCE
from worker.ledger.row import Acceptance, AcceptVerdict, Rejection
from worker.ledger.streams import of_one_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from worker.ledger.ledger import Ledger

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 2.0
# A message that took longer to judge lets everything else on the loop have its turn.
SLOW_SECONDS = 0.02


class Intake:
    """The consumer of one worker process.

    Args:
        redis: a client whose connections may block.
        consumer: this process' name in the group; unique, for pending entries are kept by it.
        batch: most entries in one read.
        batch_bytes: how much those of one read, and of one script, are to have.
        consumer_idle_seconds: how long entries lie with another consumer before they are
            taken over from it.
        on_accepted: called with the number of commands that now wait for a run.
    """

    def __init__(  # noqa: PLR0913 - built in one place
        self,
        redis: Redis,
        ledger: Ledger,
        *,
        consumer: str,
        batch: int,
        consumer_idle_seconds: float,
        on_accepted: Callable[[int], None],
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._redis = redis
        self._ledger = ledger
        self._keys = ledger.keys
        self._consumer = consumer
        self._batch = batch
        self._batch_bytes = batch_bytes
        self._pace = ReadPace(batch, batch_bytes)
        self._take_over_pace = ReadPace(batch, batch_bytes)
        self._idle_ms = int(consumer_idle_seconds * 1000)
        self._on_accepted = on_accepted
        self._forget_consumers = load_script(redis, "forget_consumers")
        self._resume_pending = True
        self._takes_all = False

    def take_all_over(self) -> None:
        """Takes entries over next time however long they lie with others.

        After Redis' clock went back nothing looks idle for as long as it went back. To take what
        another worker is about to accept does no harm: the first of the two counts.
        """
        self._takes_all = True

    async def read(self) -> None:
        """Reads until it is cancelled, whatever Redis does meanwhile."""
        await self._keep_on("read", self._read_once)

    async def move_inbox(self) -> None:
        """Moves the inbox into the stream until it is cancelled."""
        mover = self._mover(PushedList.inbox(self._keys))
        await self._keep_on("inbox", mover.move_once)

    async def move_celery(self) -> None:
        """Moves Celery's queue of submissions into the stream until it is cancelled."""
        mover = self._mover(PushedList.celery(self._keys))
        await self._keep_on("celery", mover.move_once)

    def _mover(self, pushed: PushedList) -> Mover:
        return Mover(self._redis, self._keys, pushed, self._batch, self._batch_bytes)

    async def take_over(self) -> None:
        """Takes entries over from consumers that are gone, until it is cancelled."""
        await self._keep_on("take-over", self._take_over_once)

    async def leave(self) -> None:
        """Removes this consumer from the group, unless entries are still pending with it."""
        await self._forget_consumers(keys=[self._keys.commands], args=[GROUP, 0, self._consumer])

    async def _keep_on(self, part: str, act: Callable[[], Any]) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            stop_if_cancelled()
            try:
                await act()
                self._ledger.outage.worked(part)
                pause = FIRST_PAUSE_SECONDS
            except LEDGER_TROUBLE as exc:
                self._resume_pending = True
                if isinstance(exc, ResponseError) and "NOGROUP" in str(exc):
                    await self._create_group()
                    continue
                self._ledger.outage.failed(part, exc)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)

    async def _create_group(self) -> None:
        try:
            await self._redis.xgroup_create(self._keys.commands, GROUP, id="0", mkstream=True)
            log.info("intake.group_created", group=GROUP)
        except LEDGER_TROUBLE as exc:
            if "BUSYGROUP" not in str(exc):
                self._ledger.outage.failed(ONCE, exc)
                await asyncio.sleep(FIRST_PAUSE_SECONDS)

    async def _read_once(self) -> None:
        start = "0" if self._resume_pending else ">"
        # No name for the reply, for that would hold its messages until all are handled.
        entries = [
            Entry(entry_id, fields or {})
            for entry_id, fields in of_one_stream(
                await self._redis.xreadgroup(
                    GROUP,
                    self._consumer,
                    {self._keys.commands: start},
                    count=self._pace.count,
                    block=None if self._resume_pending else BLOCK_MILLISECONDS,
                )
            )
        ]
        if entries:
            vanished = [entry.entry_id for entry in entries if not entry.fields]
            await self._handle_all(entries, self._pace)
            await self._drop_vanished(vanished)
        elif self._resume_pending:
            self._resume_pending = False

    async def _take_over_once(self) -> None:
        start = "0-0"
        takes_all, self._takes_all = self._takes_all, False
        pace = self._take_over_pace
        while True:
            start, entries, vanished = await self._redis.xautoclaim(
                self._keys.commands,
                GROUP,
                self._consumer,
                min_idle_time=0 if takes_all else self._idle_ms,
                start_id=start,
                count=pace.count,
            )
            # Redis has acknowledged these itself, so nothing else will ever tell of them.
            self._tell_vanished(vanished)
            if entries:
                log.info("intake.taken_over", entries=len(entries))
                taken = [Entry(entry_id, fields) for entry_id, fields in entries]
                del entries
                await self._handle_all(taken, pace)
            else:
                # So many were looked at, or more, and nothing came of it.
                pace.note(pace.count, 0)
            if start in {b"0-0", "0-0"}:
                break
        await self._forget_consumers(
            keys=[self._keys.commands], args=[GROUP, max(self._idle_ms * 10, 60_000), ""]
        )
        await asyncio.sleep(self._idle_ms / 2000)

    async def _drop_vanished(self, entry_ids: Sequence[bytes]) -> None:
        """Acknowledges entries whose content someone deleted; there is nothing left to judge."""
        if entry_ids:
            self._tell_vanished(entry_ids)
            await self._redis.xack(self._keys.commands, GROUP, *entry_ids)

    def _tell_vanished(self, entry_ids: Sequence[bytes]) -> None:
        if entry_ids:
            log.error(
                "intake.entries_vanished",
                entries=[entry.decode() for entry in entry_ids],
                advice="someone deleted or trimmed them before they were accepted: send them again",
            )

    async def _judge(self, entry: Entry) -> Acceptance | Rejection:
        begun = time.monotonic()
        verdict = judge(entry, self._keys)
        if time.monotonic() - begun > SLOW_SECONDS:
            # A message with many thousand problems takes seconds: leases have to be renewed.
            await asyncio.sleep(0)
        return verdict

    async def _handle_all(self, entries: list[Entry], pace: ReadPace) -> None:
        """Handles entries in parts of so many bytes, and lets go of each; the list ends empty."""
        size = sum(entry.size_bytes for entry in entries)
        pace.note(len(entries), size)
        if size <= self._batch_bytes:
            await self._handle([entry for entry in entries if entry.fields])
            return
        for part in parts_of(entries, self._batch_bytes):
            await self._handle(part)
            # Or it would be held while the next one is handled.
            del part

    async def _handle(self, entries: Sequence[Entry]) -> None:
        acceptances: list[tuple[Entry, Acceptance]] = []
        rejections: list[Rejection] = []
        for entry in entries:
            verdict = await self._judge(entry)
            if isinstance(verdict, Rejection):
                rejections.append(verdict)
            else:
                acceptances.append((entry, verdict))
        accepted = 0
        if acceptances:
            verdicts = await self._ledger.accept([acceptance for _, acceptance in acceptances])
            for (entry, acceptance), verdict_code in zip(acceptances, verdicts, strict=True):
                if verdict_code is AcceptVerdict.CONFLICT:
                    rejections.append(conflict(entry, acceptance, self._keys))
                elif verdict_code is AcceptVerdict.ACCEPTED:
                    accepted += 1
        if accepted:
            self._on_accepted(accepted)
        if rejections:
            count = await self._ledger.reject(rejections)
            log.warning("intake.rejected", entries=count)
        if accepted:
            log.debug("intake.accepted", commands=accepted)
