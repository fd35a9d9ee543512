"""Several processes beneath one: it starts them, again where one dies, and hands signals on."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import select
import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

log = structlog.get_logger(__name__)

# Before one that died is started again; twice as long each time, until one has lived for a while.
_AGAIN_SECONDS: Final = 1.0
_MOST_AGAIN_SECONDS: Final = 30.0
_LONG_LIFE_SECONDS: Final = 60.0
# Between two looks of `on_look`.
_LOOK_SECONDS: Final = 2.0
_PR_SET_PDEATHSIG: Final = 1
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class _Member:
    """One of the processes; `pid` is None while there is none."""

    name: str
    pid: int | None = None
    started: float = 0.0
    pause: float = _AGAIN_SECONDS
    start_at: float = 0.0
    has_lived: bool = False
    code: int = 0


class Processes:
    """Forks a process for each name, and another one for each that dies.

    Forked and not started anew: what is imported is there, and is in memory once. Nothing that a
    fork would break may run yet, no loop and no thread.

    Args:
        names: of the processes, for logs.
        serve: runs the process of that number until SIGTERM and returns its exit code; called in
            the new process.
        fatal: exit codes of what no new start mends; all the others are stopped then, unless that
            one has lived for a minute before.
        on_look: called every two seconds.
        stop_seconds: what one may take to end once it is told to; after that it is killed.
    """

    def __init__(
        self,
        names: Sequence[str],
        serve: Callable[[int], int],
        *,
        fatal: frozenset[int] = frozenset(),
        on_look: Callable[[], None] = lambda: None,
        stop_seconds: float,
    ) -> None:
        self._members = [_Member(name) for name in names]
        self._serve = serve
        self._fatal = fatal
        self._on_look = on_look
        self._stopping = False
        self._stop_seconds = stop_seconds
        self._kill_at = math.inf

    def run(self) -> int:
        """Returns an exit code once all have ended, after SIGTERM or SIGINT or a fatal end.

        It is that of the first that ended with another than 0 when it was told to stop.
        """
        look_at = 0.0
        with self._signals() as woken:
            while self._is_at_work():
                now = time.monotonic()
                if now >= look_at:
                    self._on_look()
                    look_at = now + _LOOK_SECONDS
                self._start_due(now)
                if now >= self._kill_at:
                    self._kill()
                self._wait(woken, look_at - now)
                self._reap()
        return next((each.code for each in self._members if each.code), 0)

    def _is_at_work(self) -> bool:
        return not self._stopping or any(each.pid is not None for each in self._members)

    def _start_due(self, now: float) -> None:
        for number, each in enumerate(self._members):
            if each.pid is None and now >= each.start_at and not self._stopping:
                each.started = now
                self._fork(number, each)

    def _wait(self, woken: int, seconds: float) -> None:
        """Returns after so long, or once a signal came."""
        dues = [each.start_at - time.monotonic() for each in self._members if each.pid is None]
        if not self._stopping and dues:
            seconds = min(seconds, *dues)
        with suppress(InterruptedError):
            select.select([woken], [], [], max(0.0, seconds))
        with suppress(BlockingIOError):
            os.read(woken, 512)

    def _reap(self) -> None:
        # As the first process of a container it has orphans to reap besides its own.
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for each in self._members:
                if each.pid == pid:
                    self._ended(each, os.waitstatus_to_exitcode(status))

    def _ended(self, member: _Member, code: int) -> None:
        member.pid = None
        if self._stopping:
            member.code = code if code >= 0 else 1
            return
        now = time.monotonic()
        if now - member.started >= _LONG_LIFE_SECONDS:
            member.pause = _AGAIN_SECONDS
            member.has_lived = True
        # Settings that were right once are right: what refused it may pass, and the others work.
        if code in self._fatal and not member.has_lived:
            log.error("processes.refused", process=member.name, code=code)
            member.code = code
            self._stop_all()
            return
        log.error("processes.died", process=member.name, code=code, again_seconds=member.pause)
        member.start_at = now + member.pause
        member.pause = min(2 * member.pause, _MOST_AGAIN_SECONDS)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_all()

    def _stop_all(self) -> None:
        """Hands the signal on; a second one too, which ends workers at once."""
        if not self._stopping:
            self._kill_at = time.monotonic() + self._stop_seconds
        self._stopping = True
        self._send(signal.SIGTERM)

    def _kill(self) -> None:
        """Ends what hangs: nobody else would, outside of containers and units."""
        late = [each.name for each in self._members if each.pid is not None]
        log.error("processes.killed", processes=late, after_seconds=self._stop_seconds)
        self._kill_at = math.inf
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for each in self._members:
            if each.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(each.pid, number)

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """Yields a descriptor that can be read once a signal came."""
        reads, writes = os.pipe()
        for descriptor in (reads, writes):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in _STOPS:
            signal.signal(number, self._stop)
        try:
            yield reads
        finally:
            signal.set_wakeup_fd(-1)
            os.close(reads)
            os.close(writes)

    def _fork(self, number: int, member: _Member) -> None:
        parent = os.getpid()
        # What is there already must not be copied only because a collection has looked at it.
        gc.freeze()
        # A signal between the two would run our handlers in the new process.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        if self._stopping:
            # It came just before: nobody would tell the new process.
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return
        pid = os.fork()
        if pid:
            member.pid = pid
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return
        code = 1
        try:
            _prepare(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            code = self._serve(number)
        except BaseException:
            log.exception("processes.failed", process=member.name)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _prepare(parent: int) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in _STOPS:
        signal.signal(number, _leave)
    # Ctrl-C is for the parent alone, which hands it on: two would end a worker at once.
    os.setpgid(0, 0)
    _end_with(parent)


def _leave(*_: object) -> None:
    # Until a process sets handlers of its own it has begun nothing.
    os._exit(0)


def _end_with(parent: int) -> None:
    """Has this process end in good order where its parent is killed; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            # It died just before.
            os.kill(os.getpid(), signal.SIGTERM)
