"""The console script's first lines: a service can be stopped before it has been imported.

Importing takes seconds on a small machine. The kernel gives the first process of a container no
default for a signal, so that an orchestrator's SIGTERM was lost meanwhile, and the pod was killed
after its whole grace.

Nor does Python look for garbage among what imports make: all of it stays, and looking took a third
of the time. `worker.garbage.collect_again` ends that once a command's module is there.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from importlib import import_module
from typing import Final

from worker.interrupts import interrupts_end_us

# What an orchestrator starts and stops. Each sets handlers of its own once it can be interrupted.
SERVICES: Final = frozenset({"worker", "gateway", "sandbox"})


def main() -> None:
    """Runs the console script; of a service SIGTERM ends it with 0 until it has begun."""
    gc.disable()
    open_closed_streams()
    with interrupts_end_us():
        if sys.argv[1:2] and sys.argv[1] in SERVICES:
            signal.signal(signal.SIGTERM, _leave)
        console = import_module("worker.cli")
    console.main()


def open_closed_streams() -> None:
    """Opens the null device for each standard stream that whoever starts us has closed.

    To Python such a stream is None, on which everything that asks it something ends; and the next
    connection would get its number, into which a child process would write.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            # The lowest number that is free is the stream's own; children have it too.
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            mode = "r" if name == "stdin" else "w"
            stream = open(number, mode, encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115 - a number; until we end
            setattr(sys, name, stream)


def _leave(*_: object) -> None:
    # Nothing was begun yet, and an exception would come in the middle of an import.
    os._exit(0)
