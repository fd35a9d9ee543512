"""Keeps a read model up with the events; of all processes that would, one does."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from worker.errors import BusyThreadsError
from worker.gateway.read_model.database import WriterLock, current_file, forget_file, is_damage
from worker.gateway.read_model.writing import Progress, Writer
from worker.queue.intake.pace import ReadPace
from worker.queue.ledger.connection import PASSING_TROUBLE, stop_if_cancelled
from worker.queue.ledger.outage import Outage
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.gateway.read_model.event_source import EventSource
    from worker.queue.ledger.streams import StreamEntry

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Events of one batch; what they weigh together is in memory at a time.
_BATCH: Final = 1_000
_BATCH_BYTES: Final = 4 * 1_048_576
# Between two batches while there is little: a transaction for each event would cost more than all
# that is done for the event otherwise. The model is behind by as much.
_GATHER_SECONDS: Final = 0.2
# Between two looks whether the stream is still the one that the model tells of.
CHECK_SECONDS: Final = 30.0
# Before one who does not write tries to, and before what failed is tried again.
_AGAIN_SECONDS: Final = 1.0
# A disk that takes longer has stopped.
_WRITE_SECONDS: Final = 120.0


class Follower:
    """Writes a model, unless another process does.

    Args:
        source: the events.
        folder: of the model.
        retention_seconds: how long a command is listed after its last event, once it has ended.
        check_seconds: between two looks whether the stream is still the one that was read.

    Attributes:
        trouble: what keeps this process from writing the model, for people; None if nothing does.
    """

    def __init__(
        self, source: EventSource, folder: Path, *, retention_seconds: float, check_seconds: float
    ) -> None:
        self._source = source
        self._folder = folder
        self._retention_seconds = retention_seconds
        self._check_seconds = check_seconds
        self._outage = Outage()
        self._writer = Writer(folder)
        self._writing = ThreadPool("model-writer", 1)
        self.trouble: str | None = None

    async def run(self) -> None:
        """Follows until it is cancelled; trouble with Redis or with the disk is waited for."""
        told = ""
        while True:
            try:
                await self._follow_if_free()
                told = ""
            except PASSING_TROUBLE as exc:
                self._outage.failed("read model", exc)
            except (OSError, sqlite3.Error, BusyThreadsError) as exc:
                # The same trouble is told once.
                if (said := f"{type(exc).__name__}: {exc}"[:200]) != told:
                    log.warning("read_model.disk_failed", folder=str(self._folder), error=said)
                told = said
                self.trouble = _told_of_disk(exc)
            except Exception:
                # It begins anew, and the log has the rest.
                self.trouble = "The lists can't be kept up: a defect, of which the log tells."
                raise
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _follow_if_free(self) -> None:
        lock = await self._write(WriterLock.take, self._folder)
        if lock is None:
            # Another process writes, so that the folder can be written.
            self.trouble = None
            return
        try:
            await self._keep_up(lock)
        except sqlite3.Error as exc:
            if is_damage(exc) and (file := current_file(self._folder)) is not None:
                forget_file(self._folder, file)
            raise
        finally:
            # Behind what the writer's thread still does, if this task was cancelled meanwhile.
            self._writing.submit(self._let_go, lock)

    async def _keep_up(self, lock: WriterLock) -> None:
        """Takes events in for as long as the file is the valid one."""
        progress = await self._write(self._writer.open)
        if progress is None or not await self._source.goes_on_from(progress):
            progress = await self._begin()
        pace = ReadPace(_BATCH, _BATCH_BYTES)
        check_at = 0.0
        while await self._write(self._may_write, lock):
            if time.monotonic() >= check_at:
                if not await self._source.goes_on_from(progress):
                    progress = await self._begin()
                progress = replace(progress, epoch=await self._source.epoch())
                await self._forget()
                check_at = time.monotonic() + self._check_seconds
            asked = pace.count
            entries = await self._source.after(progress.cursor, asked)
            self._outage.worked("read model")
            if entries:
                progress = replace(
                    progress,
                    cursor=entries[-1][0].decode(),
                    added=progress.added + len(entries),
                )
                await self._write(self._writer.take, entries, progress)
            self.trouble = None
            pace.observe(len(entries), _size_of(entries))
            if len(entries) < asked:
                await asyncio.sleep(_GATHER_SECONDS)

    async def _begin(self) -> Progress:
        extent = await self._source.extent()
        added = 0 if extent is None else extent.removed
        progress = Progress(epoch=await self._source.epoch(), added=added)
        await self._write(self._writer.begin, progress)
        log.info("read_model.begun", events=0 if extent is None else extent.length)
        return progress

    async def _forget(self) -> None:
        before_ms = int((time.time() - self._retention_seconds) * 1000)
        # Readers read between two parts; events wait.
        while await self._write(self._writer.forget, before_ms):
            stop_if_cancelled()

    async def _write(self, act: Callable[..., T], *args: Any) -> T:
        return await self._writing.run(_WRITE_SECONDS, act, *args)

    def _may_write(self, lock: WriterLock) -> bool:
        return lock.is_held() and self._writer.is_valid()

    def _let_go(self, lock: WriterLock) -> None:
        with closing(self._writer):
            lock.release()


def _told_of_disk(error: BaseException) -> str:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return (
        "Lists can't be kept up: the folder that TRAINMASTER_GATEWAY_FOLDER names can't be used "
        f"({said or type(error).__name__})."
    )


def _size_of(entries: list[StreamEntry]) -> int:
    return sum(len(value) for _, fields in entries for value in fields.values())
