"""The read model of one namespace: one process of all gateways writes it, each of them reads it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, cast

import structlog
from redis.exceptions import NoPermissionError, ResponseError

from worker.errors import BusyThreadsError
from worker.gateway.read_model.counting import count
from worker.gateway.read_model.database import (
    WriterLock,
    current_file,
    forget_file,
    is_damage,
    open_reader,
)
from worker.gateway.read_model.minutes import read_minutes
from worker.gateway.read_model.queries import find, find_types
from worker.gateway.read_model.state_counts import count_states, count_types
from worker.gateway.read_model.timeline import entry_numbers, read_timeline
from worker.gateway.read_model.writing import FIRST, Progress, Writer, read_progress
from worker.queue.intake.pace import ReadPace
from worker.queue.ledger.connection import (
    BLOCK_MILLISECONDS,
    PASSING_TROUBLE,
    stop_if_cancelled,
)
from worker.queue.ledger.outage import Outage
from worker.queue.ledger.streams import entries_after, entries_between
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.gateway.read_model.counting import Count
    from worker.gateway.read_model.minutes import Minute
    from worker.gateway.read_model.queries import CommandFilter, Page
    from worker.gateway.read_model.state_counts import TypeAndState
    from worker.gateway.read_model.timeline import Timeline
    from worker.queue.ledger.keys import Keys
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
_CHECK_SECONDS: Final = 30.0
# Before one who does not write tries to, and before what failed is tried again.
_AGAIN_SECONDS: Final = 1.0
_READERS: Final = 4
_QUERY_SECONDS: Final = 5.0
# A disk that takes longer has stopped.
_WRITE_SECONDS: Final = 120.0


class ModelUnavailableError(Exception):
    """Lists can't be answered now; the ledger is not touched by it. Try again."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the model is behind the stream of events.

    Attributes:
        events: that it has not taken in.
        seconds: between its last event and the stream's; 0 where it has them all.
    """

    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Pulse:
    """What there is, and what happened lately.

    Attributes:
        states: how many commands are in each state; in those that are not named, none.
        minutes: oldest first.
    """

    states: dict[str, int]
    minutes: list[Minute]


@dataclass(frozen=True, slots=True)
class _Stream:
    """What Redis says of the stream of events; entries as numbers."""

    first: tuple[int, int]
    last: tuple[int, int]
    length: int
    added: int


class ReadModel:
    """Answers lists and searches of commands, and follows the events while `follow` runs.

    Args:
        redis: of the ledger.
        keys: of the namespace.
        folder: of this model alone; see `model_folder`.
        retention_seconds: how long a command is listed after its last event, once it has ended.
        check_seconds: between two looks whether the stream is still the one that was read.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        folder: Path,
        *,
        retention_seconds: float,
        check_seconds: float = _CHECK_SECONDS,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._folder = folder
        self._retention_seconds = retention_seconds
        self._check_seconds = check_seconds
        self._minutes: dict[int, Minute] = {}
        self._outage = Outage()
        self._trouble: str | None = None
        self._writer = Writer(folder)
        self._writing = ThreadPool("model-writer", 1)
        self._reading = ThreadPool("model-reader", _READERS)
        self._connections: SimpleQueue[tuple[Path, sqlite3.Connection]] = SimpleQueue()

    @property
    def trouble(self) -> str | None:
        """What keeps this process from writing the model, if its disk does; for people."""
        return self._trouble

    async def query(
        self, wanted: CommandFilter, cursor: str | None = None, limit: int = 100
    ) -> Page:
        """Returns a page of commands, newest first.

        Args:
            wanted: which commands.
            cursor: `next_cursor` of the page before; None for the first page.
            limit: rows of the page; `MOST_ROWS` at most.

        Raises:
            CursorError: the cursor is not one that a page gave.
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """
        return await self._read(lambda connection: find(connection, wanted, cursor, limit))

    async def query_types(
        self,
        types: Sequence[str],
        state: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Returns a page of the commands of some types, newest first; raises as `query` does."""
        return await self._read(
            lambda connection: find_types(connection, types, state, cursor, limit)
        )

    async def count(self, wanted: CommandFilter) -> Count:
        """Returns how many commands are wanted.

        Raises:
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """
        return await self._read(lambda connection: count(connection, wanted))

    async def timeline(self, command_id: str) -> Timeline | None:
        """Returns where the events of a command stand; None where the model does not know it.

        Raises:
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """
        return await self._read(lambda connection: read_timeline(connection, command_id))

    async def pulse(self, now_ms: int, minutes: int) -> Pulse:
        """Returns what there is, and what happened in so many minutes up to now.

        Raises:
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """

        def read(connection: sqlite3.Connection) -> Pulse:
            found = read_minutes(connection, now_ms, minutes, self._minutes)
            # Put there as a whole, for readers are threads.
            self._minutes = {each.begin_ms: each for each in found}
            return Pulse(count_states(connection), found)

        return await self._read(read)

    async def type_states(self) -> dict[TypeAndState, int]:
        """Returns how many commands there are of each type in each state.

        Raises:
            ModelUnavailableError: there is no model yet, or its disk is in trouble.
        """
        return await self._read(count_types)

    async def lag(self) -> Lag:
        """Returns how far the model is behind; without a model, by the whole stream.

        Raises:
            RedisError: Redis is away.
        """
        stream = await self._stream()
        try:
            progress = await self._read(read_progress) or Progress()
        except ModelUnavailableError:
            progress = Progress()
        if stream is None:
            return Lag(0, 0.0)
        cursor = max(entry_numbers(progress.cursor), _before(stream.first))
        if cursor >= stream.last:
            return Lag(0, 0.0)
        known = progress.added if progress.cursor != FIRST else stream.added - stream.length
        behind = max(1, min(stream.added - known, stream.length))
        return Lag(behind, max(0.0, (stream.last[0] - cursor[0]) / 1000))

    async def follow(self) -> None:
        """Keeps the model up with the events until it is cancelled.

        Of all processes that do, one writes; another takes over when that one ends. Trouble with
        Redis or with the disk is waited for.
        """
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
                self._trouble = _told_of_disk(exc)
            except Exception:
                # It begins anew, and the log has the rest.
                self._trouble = "The lists can't be kept up: a defect, of which the log tells."
                raise
            await asyncio.sleep(_AGAIN_SECONDS)

    def close(self) -> None:
        """Closes the readers' connections; nothing of the model is used any more."""
        while True:
            try:
                _, connection = self._connections.get_nowait()
            except Empty:
                return
            connection.close()

    async def _follow_if_free(self) -> None:
        lock = await self._write(WriterLock.take, self._folder)
        if lock is None:
            # Another process writes, so that the folder can be written.
            self._trouble = None
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
        if progress is None or not await self._tells_of_stream(progress):
            progress = await self._begin()
        pace = ReadPace(_BATCH, _BATCH_BYTES)
        check_at = 0.0
        while await self._write(self._may_write, lock):
            if time.monotonic() >= check_at:
                if not await self._tells_of_stream(progress):
                    progress = await self._begin()
                progress = replace(progress, epoch=await self._epoch())
                await self._forget()
                check_at = time.monotonic() + self._check_seconds
            asked = pace.count
            entries = await entries_after(
                self._redis,
                self._keys.events,
                progress.cursor,
                count=asked,
                block_ms=BLOCK_MILLISECONDS,
            )
            self._outage.worked("read model")
            if entries:
                progress = replace(
                    progress,
                    cursor=entries[-1][0].decode(),
                    added=progress.added + len(entries),
                )
                await self._write(self._writer.take, entries, progress)
            self._trouble = None
            pace.observe(len(entries), _size_of(entries))
            if len(entries) < asked:
                await asyncio.sleep(_GATHER_SECONDS)

    async def _begin(self) -> Progress:
        stream = await self._stream()
        added = 0 if stream is None else stream.added - stream.length
        progress = Progress(epoch=await self._epoch(), added=added)
        await self._write(self._writer.begin, progress)
        log.info("read_model.begun", events=0 if stream is None else stream.length)
        return progress

    async def _tells_of_stream(self, progress: Progress) -> bool:
        """Returns whether the stream goes on from where the model has come.

        Someone may have emptied Redis, or an older copy of it may have taken over; and workers
        remove events that are older than their retention, read or not.
        """
        if progress.epoch and progress.epoch != await self._epoch():
            return False
        if progress.cursor == FIRST:
            return True
        stream = await self._stream()
        cursor = entry_numbers(progress.cursor)
        if stream is None or cursor > stream.last:
            return False
        if cursor == stream.last:
            return progress.added == stream.added
        if cursor < stream.first:
            return progress.added >= stream.added - stream.length
        at = progress.cursor
        return bool(await entries_between(self._redis, self._keys.events, at, at))

    async def _forget(self) -> None:
        before_ms = int((time.time() - self._retention_seconds) * 1000)
        # Readers read between two parts; events wait.
        while await self._write(self._writer.forget, before_ms):
            stop_if_cancelled()

    async def _epoch(self) -> str:
        found = cast("bytes | None", await self._redis.get(self._keys.epoch))
        return "" if found is None else found.decode(errors="replace")

    async def _stream(self) -> _Stream | None:
        """Returns what there is of the stream, None where there is none or it holds nothing."""
        try:
            told = await self._redis.xinfo_stream(self._keys.events)
        except NoPermissionError:
            raise
        except ResponseError:
            return None
        first = told["first-entry"]
        last = entry_numbers(_text(told["last-generated-id"]))
        return _Stream(
            first=entry_numbers(_text(first[0])) if first else (last[0], last[1] + 1),
            last=last,
            length=int(told["length"]),
            added=int(told["entries-added"]),
        )

    async def _read(self, act: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._reading.run(_QUERY_SECONDS, self._with_reader, act)
        except BusyThreadsError as exc:
            raise ModelUnavailableError("too many lists are asked for at a time") from exc
        except TimeoutError as exc:
            raise ModelUnavailableError("the disk of the read model does not answer") from exc

    def _with_reader(self, act: Callable[[sqlite3.Connection], T]) -> T:
        file = current_file(self._folder)
        if file is None:
            raise ModelUnavailableError(self._trouble or "the read model is being made")
        try:
            connection = self._reader(file)
        except sqlite3.Error as exc:
            self._give_up(file, exc)
        try:
            found = act(connection)
        except sqlite3.Error as exc:
            connection.close()
            self._give_up(file, exc)
        except BaseException:
            connection.close()
            raise
        self._connections.put((file, connection))
        return found

    def _reader(self, file: Path) -> sqlite3.Connection:
        """Returns a connection to the valid file; those to others are closed."""
        while True:
            try:
                opened, connection = self._connections.get_nowait()
            except Empty:
                return open_reader(file)
            if opened == file:
                return connection
            connection.close()

    def _give_up(self, file: Path, error: sqlite3.Error) -> NoReturn:
        if is_damage(error):
            forget_file(self._folder, file)
            log.warning("read_model.damaged", file=file.name, error=str(error)[:200])
            raise ModelUnavailableError("the read model was damaged and is made anew") from error
        raise ModelUnavailableError("the disk of the read model is in trouble") from error

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


def _before(entry: tuple[int, int]) -> tuple[int, int]:
    return (entry[0], entry[1] - 1)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
