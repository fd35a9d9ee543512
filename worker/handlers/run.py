"""One run of one command: what its handler may know and do."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from schemas.enums import Priority
from schemas.events import ErrorCode
from worker.api.client import MlModelsApi
from worker.byte_budget import ByteBudget
from worker.errors import DeadlineExceededError, FencedError, RetryableError
from worker.ledger.announcement import announce
from worker.ledger.ledger import GUARD_SECONDS, Noted
from worker.ledger.lookalikes import Lookalikes
from worker.ledger.row import RowState
from worker.ledger.testimony import Attestations
from worker.thread_pools import ThreadPools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from schemas.commands import Command
    from schemas.enums import EventState
    from schemas.referral import ReferredCommand
    from worker.api.downloads import Downloads
    from worker.api.gate import Gate
    from worker.backfill.store import BackfillStore
    from worker.byte_budget import Reservation
    from worker.handlers.files import PlainFiles
    from worker.ledger.ledger import Ledger
    from worker.ledger.row import Attested, Lease, Progress

C = TypeVar("C", bound="Command | ReferredCommand")

# Room for the labels of half a million items; each is in memory while its command runs.
DATAREF_LIMIT_BYTES = 32 * 1024 * 1024


INFLIGHT_BODY_BYTES = 48 * 1024 * 1024
# What is reserved before a file's size is known; most pictures are no larger.
FIRST_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class PollSchedule:
    """When to ask for a training again: a share of the time it has run, within bounds."""

    minimum_seconds: float = 10.0
    maximum_seconds: float = 300.0
    share: float = 0.05

    def interval_seconds(self, elapsed_seconds: float) -> float:
        """Returns the next interval, before jitter."""
        return min(self.maximum_seconds, max(self.minimum_seconds, elapsed_seconds * self.share))


class LongPolls:
    """Places for long polls, which hold a request open; where many wait, polls are short."""

    def __init__(self, places: int, seconds: float) -> None:
        self._free = places
        self._seconds = seconds

    @contextmanager
    def place(self, most_seconds: float) -> Iterator[int]:
        """Yields how many seconds a poll may stay open: 0 when no place is free.

        Args:
            most_seconds: when the wait for the training ends, a second more or less.
        """
        seconds = min(60, int(self._seconds), math.ceil(most_seconds))
        if self._free < 1 or seconds < 1:
            yield 0
            return
        self._free -= 1
        try:
            yield seconds
        finally:
            self._free += 1


@dataclass(frozen=True, slots=True)
class BackfillSurroundings:
    """What backfills that a worker leads need.

    Attributes:
        output: folder or URL below which each has a folder for its results.
        window: most items of one that wait or run.
        part_items: items in one part of the results.
    """

    store: BackfillStore
    output: str
    window: int
    part_items: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all runs of a process share.

    Attributes:
        creations: places between the intent of a creation and its end. A worker that is killed
            leaves no more commands in doubt than there are places.
        bodies: bounds the bytes of files that runs have read and not yet sent.
        threads: where what blocks is done.
        file_seconds: how long a file on a disk may take, which may be another machine's.
        source_urls: URLs below which sources and data of commands may be read.
        now: seconds since the epoch, by the clock that all commands are judged by.
        dataref_limit_bytes: most that a command's `dataref` may hold.
    """

    gate: Gate
    ledger: Ledger
    downloads: Downloads
    data_roots: tuple[Path, ...]
    polls: PollSchedule
    long_polls: LongPolls
    creations: asyncio.Semaphore
    doubt_seconds: float
    backfills: BackfillSurroundings | None = None
    bodies: ByteBudget = field(default_factory=lambda: ByteBudget(INFLIGHT_BODY_BYTES))
    threads: ThreadPools = field(default_factory=ThreadPools)
    file_seconds: float = 60.0
    source_urls: tuple[str, ...] = ()
    now: Callable[[], float] = time.time
    dataref_limit_bytes: int = DATAREF_LIMIT_BYTES

    @property
    def api(self) -> MlModelsApi:
        """The API's client, whatever the time is."""
        return MlModelsApi(self.gate)


@dataclass(slots=True)
class Run(Generic[C]):
    """A claimed command, while its handler works on it.

    Attributes:
        changing: whether a call that changes something is under way; a stop lets it finish,
            while everything else is handed back at once.
        begun: when this run began, in seconds of a clock that never goes back.
    """

    command: C
    lease: Lease
    around: Surroundings
    changing: bool = False
    reservation: Reservation | None = None
    begun: float = field(init=False, default_factory=time.monotonic)
    progress: Progress = field(init=False)
    state: RowState = field(init=False)

    def __post_init__(self) -> None:
        self.state = self.lease.state
        self.progress = dict(self.lease.progress or {})

    async def read_file(self, files: PlainFiles, path: Path, copies: int) -> bytes:
        """Returns what a file on a disk holds, once there is room for it.

        Args:
            files: which may be read.
            path: of the file.
            copies: how many times its size it takes while it is worked on.

        Raises:
            InputError: it can't be read.
            RetryableError: not now, or not in time, as from a server of files that is away.
        """
        around = self.around
        size = FIRST_BYTES
        try:
            while True:
                await self.reserve(size * copies)
                content = await around.threads.files.run(
                    around.file_seconds, files.read_within, path, size
                )
                if isinstance(content, bytes):
                    return content
                # Given back first: who holds some and waits for more is in others' way.
                self.release()
                size = content
        except TimeoutError as exc:
            message = f"{files.field}: the file did not come within {around.file_seconds:g} s"
            raise RetryableError(message, code=ErrorCode.DATA_UNAVAILABLE) from exc

    async def download(self, url: str, most_bytes: int, field: str, copies: int) -> bytes:
        """Returns what lies behind a URL, once there is room for it; as `Downloads.read` does."""

        async def make_room(size: int) -> None:
            await self.reserve(size * copies)

        return await self.around.downloads.read(url, most_bytes, field, make_room)

    async def reserve(self, size_bytes: int) -> None:
        """Waits until the run may hold so many bytes in all; they are given back at its end."""
        if self.reservation is None:
            bulk = self.lease.lane is Priority.BULK
            self.reservation = self.around.bodies.reservation(bulk=bulk)
        await self.reservation.grow(size_bytes)

    def release(self) -> None:
        """Gives back what the run has reserved."""
        if self.reservation is not None:
            self.reservation.release()

    @property
    def api(self) -> MlModelsApi:
        """The API's client; it starts no call past the command's deadline.

        Whoever is in doubt may ask later too: asking starts nothing, and not asking would leave
        the outcome unknown.
        """
        deadline = self.command.deadline
        if deadline is None or self.state is RowState.IN_DOUBT:
            return self.around.api
        return MlModelsApi(self.around.gate.until(deadline.timestamp()))

    @property
    def lookalikes(self) -> Lookalikes:
        """Who else creates what the API can't tell from what this command creates."""
        ledger = self.around.ledger
        return Lookalikes(ledger.redis, ledger.keys, ledger.retention_seconds)

    @property
    def _attestations(self) -> Attestations:
        return Attestations(self.around.ledger.redis, self.around.ledger.keys)

    def guard_key(self, name: str) -> str:
        """The key of a guard."""
        return self.around.ledger.keys.guard(name)

    def check_deadline(self) -> None:
        """Does nothing before the command's deadline.

        Raises:
            DeadlineExceededError: it has passed, or it passes before the command may start.
        """
        command = self.command
        if command.deadline is None:
            return
        never = command.notbefore is not None and command.notbefore >= command.deadline
        if never or command.deadline.timestamp() <= self.now():
            raise self.lateness()

    def lateness(self) -> DeadlineExceededError:
        """Returns the error by which the command ends once its deadline has passed."""
        message = "the deadline passed before the command was done"
        if self.state is RowState.TRAINING:
            message = "the deadline passed while the training ran; it goes on at the API"
        return DeadlineExceededError(message, code=ErrorCode.DEADLINE_EXCEEDED)

    @asynccontextmanager
    async def until_deadline(self) -> AsyncIterator[None]:
        """Ends a wait with the command's deadline.

        Raises:
            DeadlineExceededError: it has come.
        """
        deadline = self.command.deadline
        rest = None if deadline is None else deadline.timestamp() - self.now()
        try:
            async with asyncio.timeout(rest):
                yield
        except TimeoutError as exc:
            raise self.lateness() from exc

    def now(self) -> float:
        """Seconds since the epoch, by Redis' clock where that is known."""
        return self.around.now()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Marks a call that changes something at the API."""
        self.changing = True
        try:
            yield
        finally:
            self.changing = False

    def elapsed(self) -> float:
        """Returns the seconds since what the progress tells; never less than 0.

        A time that lies ahead was noted before the clock went back: it counts from now on.
        """
        now = self.now()
        self.progress["at"] = min(self.progress["at"], now)
        return float(now - self.progress["at"])

    async def testify(self, attested: Attested, *, drop_guard: str) -> None:
        """Leaves word of what was created, though the command has another holder now."""
        await self._attestations.leave(self.lease, attested, drop_guard=drop_guard)

    async def testimony(self) -> tuple[str, dict[str, Any] | None] | None:
        """Returns uuid and result of what an earlier holder created, if it left word."""
        return await self._attestations.find(self.lease)

    async def note(  # noqa: PLR0913 - what a note holds
        self,
        progress: Progress,
        *,
        state: RowState | None = None,
        event: tuple[EventState, dict[str, Any]] | None = None,
        take_guard: str = "",
        drop_guard: str = "",
        guard_lapses: bool = False,
        guard_seconds: int = GUARD_SECONDS,
    ) -> str | None:
        """Records progress, before or after a change; returns who holds a refused guard.

        Raises:
            FencedError: the command has another holder now, or was cancelled.
        """
        payload = b""
        if event is not None:
            lease = self.lease
            payload = announce(
                self.command,
                lease.entry_id,
                lease.command_id,
                *event,
                backfill=lease.backfill,
                now=self.now(),
            )
        noted, holder = await self.around.ledger.note(
            self.lease,
            progress,
            state=state,
            event=payload,
            replies=self.around.ledger.keys.replies(self.command.replyto),
            take_guard=take_guard,
            drop_guard=drop_guard,
            guard_lapses=guard_lapses,
            guard_seconds=guard_seconds,
        )
        if noted is Noted.FENCED:
            raise FencedError("another holder owns the command now")
        if noted is Noted.GUARDED:
            return holder
        self.progress = progress
        self.state = state or self.state
        return None
