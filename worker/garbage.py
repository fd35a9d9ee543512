"""How Python's collector of garbage is set in a process that does the same many times a second."""

from __future__ import annotations

import gc


def collect_again() -> None:
    """Has Python look for reference cycles, where it did not; never in what is there by now."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def collect_rarely() -> None:
    """Has Python look for reference cycles rarely, and never in what the start has made.

    Every command makes hundreds of objects and no cycle. With Python's own thresholds a busy
    worker spends a fifth of its time on looking at commands in flight.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
