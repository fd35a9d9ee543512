"""Processes that are measured: pinned to a core, with all their children counted, killed as one.

Linux tells all of it in `/proc`. A worker leads a session of its own, so whatever it forks is
found by the session's number.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STOP_SECONDS = 10.0
LOOK_SECONDS = 1.0

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_PSS = re.compile(r"^Pss: +(\d+) kB", re.MULTILINE)
# Of `/proc/<pid>/stat` after the name, counted from 0: session, and the four times.
_STATE, _SESSION, _TIMES = 0, 3, slice(11, 15)


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core does what.

    Attributes:
        worker: of the worker that is measured.
        rest: of Redis, the stub and whoever measures; the same core where there is only one.
    """

    worker: int
    rest: int

    @classmethod
    def of_machine(cls) -> Cores:
        """Returns the first and the last core that this process may use."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(allowed[0], allowed[-1])


class Measured:
    """One command in a session of its own, on one core.

    Args:
        arguments: the program and its arguments.
        environment: all of it.
        log: gets what the process prints; what is in it stays.
        core: where it and its children run.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, core: int
    ) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a contender's own command
                arguments,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - one call of prctl, which is safe
            )
        # The interpreter has only begun: every thread and child is still to come.
        os.sched_setaffinity(self._process.pid, {core})

    @property
    def alive(self) -> bool:
        """Whether the process that was started still runs."""
        return self._process.poll() is None

    def cpu_seconds(self) -> float:
        """Returns the time of the whole tree so far, of children that have ended too."""
        return session_cpu_seconds(self._process.pid)

    def memory_bytes(self) -> int:
        """Returns what the whole tree holds, each shared page once (the sum of PSS)."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
                total += int(found[1]) * 1024 if found else 0
        return total

    def pids(self) -> list[int]:
        """Returns all processes of the session that live."""
        return [int(pid) for pid, stat in _sessions(self._process.pid) if stat[_STATE] != "Z"]

    def kill(self) -> None:
        """Kills the whole tree at once and waits until it is gone."""
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.poll()
            time.sleep(0.01)
        self._process.wait()

    def stop(self) -> None:
        """Ends the process in good order if it can, and the whole tree in any case."""
        if self.alive:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()


class MemoryPeak:
    """The most memory that a process held, looked at once a second at most.

    A look stops the process for a moment and takes milliseconds, so more would change what is
    measured.

    Attributes:
        bytes: so far.
    """

    def __init__(self, process: Measured) -> None:
        self._process = process
        self._next = 0.0
        self.bytes = 0

    def look(self) -> None:
        """Looks, if it is time to."""
        if time.monotonic() >= self._next:
            self.bytes = max(self.bytes, self._process.memory_bytes())
            self._next = time.monotonic() + LOOK_SECONDS


def session_cpu_seconds(session: int) -> float:
    """Returns the time of all processes of a session so far, of children that have ended too."""
    return sum(int(ticks) for _, stat in _sessions(session) for ticks in stat[_TIMES]) / _TICKS


def _end_with_parent() -> None:
    """Has a child told to stop when its parent is gone, even by a kill -9."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _sessions(session: int) -> Iterator[tuple[str, list[str]]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # A program's name may hold blanks and parentheses.
                after = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                if int(after[_SESSION]) == session:
                    yield entry.name, after
