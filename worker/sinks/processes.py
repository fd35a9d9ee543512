"""Several processes of sinks beneath one: a burst to one endpoint takes no time from another."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

log = structlog.get_logger(__name__)

AGAIN_SECONDS: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1


class Processes:
    """Forks a process for each share of the sinks, and another one for each that dies.

    Forked and not started anew: what is imported is there, and is in memory once. Nothing that a
    fork would break runs yet, no loop and no thread.

    Args:
        shares: the names of the sinks of each process.
        serve: runs sinks until SIGTERM; called in the new process.
    """

    def __init__(
        self, shares: Sequence[Sequence[str]], serve: Callable[[Sequence[str]], None]
    ) -> None:
        self._shares = shares
        self._serve = serve
        self._running: dict[int, Sequence[str]] = {}
        self._stopping = False

    def run(self) -> None:
        """Returns once all processes have ended after SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for share in self._shares:
            self._fork(share)
        while self._running:
            process, status = os.wait()
            share = self._running.pop(process)
            if self._stopping:
                continue
            log.error("sinks.process_died", sinks=list(share), status=status)
            time.sleep(AGAIN_SECONDS)
            if not self._stopping:
                self._fork(share)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        for process in self._running:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    def _fork(self, share: Sequence[str]) -> None:
        parent = os.getpid()
        process = os.fork()
        if process:
            self._running[process] = share
            if self._stopping:
                os.kill(process, signal.SIGTERM)
            return
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            _end_with(parent)
            self._serve(share)
            code = 0
        except BaseException:
            log.exception("sinks.process_failed", sinks=list(share))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _end_with(parent: int) -> None:
    """Has this process end in good order where its parent is killed; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            # It died just before.
            os.kill(os.getpid(), signal.SIGTERM)
