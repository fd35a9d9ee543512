"""What runs on this machine, and a process that may open no more files."""

from __future__ import annotations

import resource
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def command_lines() -> list[str]:
    """Returns the command line of every process, its arguments with blanks between them.

    A bare machine has no `ps`.
    """
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        # It may end while it is read.
        with suppress(OSError):
            found.append(process.read_text("utf-8", "replace").replace("\0", " "))
    return found


@contextmanager
def no_more_files() -> Iterator[None]:
    """Leaves this process without a single file that it may still open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # What is open stays so. Each new one would have a number above those of the standard streams,
    # whatever another thread closes meanwhile.
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
