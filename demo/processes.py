"""The demo's child processes: in groups of their own, logged to files, and gone whatever happens.

An end in good order stops them one by one. For any other end of the demo, `kill -9` included,
a reaper process waits that kills and deletes what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Final, Self, cast

from demo.errors import ChildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

# A worker finishes what it runs; longer than that and it hangs.
STOP_SECONDS: Final = 10.0
READY_SECONDS: Final = 180.0
_LOOK_SECONDS: Final = 0.05
_LAST_LINES: Final = 20
_LAST_BYTES: Final = 16_384


class Reaper:
    """The process that outlives this one for a moment, to clean up."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # Where we are called, a folder may have a demo.py of its own.
            [sys.executable, "-P", "-m", "demo.reaper"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        """Returns the reaper, which listens."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Lets it clean up what was not released, and waits for that."""
        cast("IO[str]", self._process.stdin).close()
        self._process.wait()

    def guard_group(self, group: int) -> None:
        """Names a process group that must not outlive the demo."""
        self._tell(f"group {group}")

    def release_group(self, group: int) -> None:
        """Says that a group is gone; its number may soon be another's."""
        self._tell(f"released group {group}")

    def guard_folder(self, folder: Path) -> None:
        """Names a folder that must not outlive the demo."""
        self._tell(f"folder {folder}")

    @contextlib.contextmanager
    def guarding(self, process: subprocess.Popen[bytes] | None) -> Iterator[None]:
        """Guards a process that leads a group; whoever leaves the context has ended it."""
        if process is None:
            raise RuntimeError("the process was not started")
        self.guard_group(process.pid)
        try:
            yield
        finally:
            process.terminate()
            process.wait()
            self.release_group(process.pid)

    def _tell(self, line: str) -> None:
        stdin = cast("IO[str]", self._process.stdin)
        stdin.write(f"{line}\n")
        stdin.flush()


class Child:
    """One process in a group of its own; what it prints goes to a file.

    Args:
        name: for people.
        log_file: where its stdout and stderr go.
    """

    def __init__(self, name: str, log_file: Path, reaper: Reaper) -> None:
        self.name = name
        self.log_file = log_file
        self._reaper = reaper
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process' number, which is its group's too."""
        return self._started().pid

    async def start(self, arguments: Sequence[str | Path], environ: Mapping[str, str]) -> None:
        """Starts the process."""
        with self.log_file.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *arguments,
                env=environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._reaper.guard_group(self.pid)

    async def until(self, ready: Callable[[], bool]) -> None:
        """Returns once it is ready.

        Raises:
            ChildError: it ended instead, or takes too long.
        """
        process = self._started()
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not ready():
                    if process.returncode is not None:
                        raise self._ended(process.returncode)
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError as exc:
            what = f"was not ready after {READY_SECONDS:.0f} s"
            raise ChildError(self.name, what, self.last_lines()) from exc

    async def watch(self) -> None:
        """Waits for an end that nobody asked for.

        Raises:
            ChildError: it came.
        """
        raise self._ended(await self._started().wait())

    async def stop(self) -> None:
        """Ends the process, in good order if it can, and all of its group in any case."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                self.kill()
                await process.wait()
        self.kill()
        self._reaper.release_group(process.pid)
        self._process = None

    def kill(self) -> None:
        """Ends the whole group at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def last_lines(self) -> str:
        """Returns the last lines that it printed."""
        printed = self.log_file.read_bytes()[-_LAST_BYTES:].decode(errors="replace")
        return "\n".join(printed.splitlines()[-_LAST_LINES:])

    def _started(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"the {self.name} was not started")
        return self._process

    def _ended(self, code: int) -> ChildError:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return ChildError(self.name, how, self.last_lines())
