"""One run of one command: what its handler may know and do."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from schemas.enums import Priority
from schemas.events import ErrorCode
from worker.byte_budget import ByteBudget
from worker.errors import DeadlineExceededError, FencedError, RetryableError
from worker.queue.groups import event_source
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.ledger import LOCK_SECONDS, CheckpointStatus
from worker.queue.ledger.models import Phase, RowState
from worker.thread_pools import ThreadPools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from schemas.enums import EventState
    from worker.byte_budget import Reservation
    from worker.files.downloads import Downloads
    from worker.files.file_access import AllowedFiles
    from worker.queue.groups import GroupOwner
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease, Progress
    from worker.queue.telemetry import Listener

C = TypeVar("C", bound="Command | ClaimCheck")
S = TypeVar("S")

# Room for the labels of half a million items; each is in memory while its command runs.
DATAREF_LIMIT_BYTES = 32 * 1024 * 1024


INFLIGHT_BODY_BYTES = 48 * 1024 * 1024
# What is reserved before a file's size is known; most pictures are no larger.
FIRST_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What all runs of a process share.

    Attributes:
        bodies: bounds the bytes of files that runs have read and not yet sent.
        threads: where what blocks is done.
        groups: whoever makes groups.
        file_seconds: how long a file on a disk may take, which may be another machine's.
        source_urls: URLs below which sources and data of commands may be read.
        now: seconds since the epoch, by the clock that all commands are judged by.
        dataref_limit_bytes: most that a command's `dataref` may hold.
        services: see `service`.
        hears_success: whether anybody wants to know of each run that succeeds.
    """

    ledger: Ledger
    downloads: Downloads
    data_roots: tuple[Path, ...]
    groups: GroupOwner
    bodies: ByteBudget = field(default_factory=lambda: ByteBudget(INFLIGHT_BODY_BYTES))
    threads: ThreadPools = field(default_factory=ThreadPools)
    file_seconds: float = 60.0
    source_urls: tuple[str, ...] = ()
    now: Callable[[], float] = time.time
    dataref_limit_bytes: int = DATAREF_LIMIT_BYTES
    services: Mapping[type, object] = field(default_factory=dict)
    hears_success: bool = field(init=False)

    def __post_init__(self) -> None:
        hears = self.telemetry.hears
        object.__setattr__(self, "hears_success", hears("succeeded") or hears("settled"))

    @property
    def telemetry(self) -> Listener:
        """Whoever is told what happens."""
        return self.ledger.telemetry

    def service(self, kind: type[S]) -> S:
        """Returns what handlers of some commands need beside all this; one object of each class.

        Raises:
            LookupError: whoever built this worker gave it none.
        """
        try:
            return cast("S", self.services[kind])
        except KeyError as exc:
            raise LookupError(f"this worker has no {kind.__name__}") from exc


@dataclass(slots=True)
class RunContext(Generic[C]):
    """A claimed command, while its handler works on it.

    Attributes:
        changing: whether a call that changes something is under way; a stop lets it finish,
            while everything else is handed back at once.
        waits_for_turn: whether that call waits for the fleet's limits: nothing is sent yet.
        unsent: whether a stop, or the loss of the lease, has ended that wait.
        begun: when this run began, in seconds of a clock that never goes back.
    """

    command: C
    lease: Lease
    dependencies: Dependencies
    changing: bool = False
    waits_for_turn: bool = False
    unsent: bool = False
    reservation: Reservation | None = None
    begun: float = field(init=False, default_factory=time.monotonic)
    progress: Progress = field(init=False)
    phase: Phase = field(init=False)
    state: RowState = field(init=False)

    def __post_init__(self) -> None:
        self.state = self.lease.state
        self.phase = self.lease.phase
        self.progress = dict(self.lease.progress or {})

    async def read_file(self, files: AllowedFiles, path: Path, copies: int) -> bytes:
        """Returns what a file on a disk holds, once there is room for it.

        Args:
            files: which may be read.
            path: of the file.
            copies: how many times its size it takes while it is worked on.

        Raises:
            InputError: it can't be read.
            RetryableError: not now, or not in time, as from a server of files that is away.
        """
        dependencies = self.dependencies
        size = FIRST_BYTES
        try:
            while True:
                await self.reserve(size * copies)
                content = await dependencies.threads.files.run(
                    dependencies.file_seconds, files.read_within, path, size
                )
                if isinstance(content, bytes):
                    return content
                # Given back first: who holds some and waits for more is in others' way.
                self.release()
                size = content
        except TimeoutError as exc:
            message = f"{files.field}: the file did not come within {dependencies.file_seconds:g} s"
            raise RetryableError(message, code=ErrorCode.DATA_UNAVAILABLE) from exc

    async def download(self, url: str, most_bytes: int, field: str, copies: int) -> bytes:
        """Returns what lies behind a URL, once there is room for it; as `Downloads.read` does."""

        async def make_room(size: int) -> None:
            await self.reserve(size * copies)

        return await self.dependencies.downloads.read(url, most_bytes, field, make_room)

    async def reserve(self, size_bytes: int) -> None:
        """Waits until the run may hold so many bytes in all; they are given back at its end."""
        if self.reservation is None:
            bulk = self.lease.lane is Priority.BULK
            self.reservation = self.dependencies.bodies.reservation(bulk=bulk)
        await self.reservation.grow(size_bytes)

    def release(self) -> None:
        """Gives back what the run has reserved."""
        if self.reservation is not None:
            self.reservation.release()

    def lock_key(self, name: str) -> str:
        """The key of a lock."""
        return self.dependencies.ledger.keys.lock(name)

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
        if self.state is RowState.POLLING:
            message = "the deadline passed while what it waits for went on; that goes on at the API"
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
        return self.dependencies.now()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Marks a call that changes something at the API."""
        self.changing = True
        try:
            yield
        finally:
            self.changing = False

    @property
    def can_be_stopped(self) -> bool:
        """Whether nothing is under way whose outcome would stay unknown."""
        return not self.changing or self.waits_for_turn

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Marks the wait of a call for the fleet's limits, which may take minutes at a low rate."""
        self.waits_for_turn = True
        try:
            yield
        except asyncio.CancelledError:
            self.unsent = True
            raise
        finally:
            self.waits_for_turn = False

    def elapsed(self) -> float:
        """Returns the seconds since what the progress tells; never less than 0.

        A time that lies ahead was recorded before the clock went back: it counts from now on.
        """
        now = self.now()
        self.progress["at"] = min(self.progress["at"], now)
        return float(now - self.progress["at"])

    async def elapsed_surely(self) -> float:
        """Returns the same by what Redis' clock shows right now.

        Between two looks at a clock that someone set back this process takes what was recorded by
        the new time for old. Whoever gives something up for its age asks first.
        """
        seconds, microseconds = await self.dependencies.ledger.redis.time()
        now = int(seconds) + int(microseconds) / 1_000_000
        self.progress["at"] = min(self.progress["at"], now)
        return float(now - self.progress["at"])

    async def checkpoint(  # noqa: PLR0913 - what it holds
        self,
        progress: Progress,
        *,
        phase: Phase | None = None,
        state: RowState | None = None,
        leaves: dict[str, Any] | None = None,
        event: tuple[EventState, dict[str, Any]] | None = None,
        take_lock: str = "",
        drop_lock: str = "",
        lock_lapses: bool = False,
        lock_seconds: int = LOCK_SECONDS,
        unless: str = "",
    ) -> str | None:
        """Records progress, before or after a change; returns who holds a refused lock.

        Without a phase the change has come as far as before. What it `leaves` is told by the event
        of a cancellation. While the key `unless` exists nothing is recorded either.

        Raises:
            FencedError: the command has another holder now, or was cancelled.
        """
        payload = b""
        phase = phase or self.phase
        if event is not None:
            lease = self.lease
            payload = build_event(
                self.command,
                lease.entry_id,
                lease.command_id,
                *event,
                source=event_source(self.dependencies.groups, lease),
                now=self.now(),
            )
        status, holder = await self.dependencies.ledger.checkpoint(
            self.lease,
            progress,
            phase=phase,
            leaves=leaves,
            state=state,
            event=payload,
            replies=self.dependencies.ledger.keys.replies(self.command.replyto),
            take_lock=take_lock,
            drop_lock=drop_lock,
            lock_lapses=lock_lapses,
            lock_seconds=lock_seconds,
            unless=unless,
        )
        if status is CheckpointStatus.FENCED:
            raise FencedError("another holder owns the command now")
        if status is CheckpointStatus.LOCKED:
            return holder
        self.progress = progress
        self.phase = phase
        self.state = state or self.state
        return None
