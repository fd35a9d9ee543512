"""What goes wrong while measuring."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A run that can't be counted; the message says why."""
