"""What Linux tells of the processes that run; a bare machine has no `ps`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def command_lines() -> list[str]:
    """Returns the command line of every process, its arguments with blanks between them."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        # It may end while it is read.
        with suppress(OSError):
            found.append(process.read_text("utf-8", "replace").replace("\0", " "))
    return found
