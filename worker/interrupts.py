"""Ctrl-C while something is imported."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def interrupts_end_us() -> Iterator[None]:
    """Lets an interrupt end the process at once while something is imported.

    Python would raise it in the middle of an import, which reports it as an error of its own or, in
    compiled code, crashes.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        # It is ignored, as in a shell's background, or somebody else handles it.
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
