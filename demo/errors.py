"""What ends a demo early; the message is all that people need to see.

::

    DemoError
    ├── ChildError            a process did not start, or ended before it was told to
    ├── CommandFailedError    a command ended in another way than `succeeded`
    └── OverdueError          the demo takes so much longer than it should that something hangs
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class DemoError(Exception):
    """The demo can't go on, or has not shown what it should."""


class ChildError(DemoError):
    """A child process did not start, or ended before it was told to; with its last lines."""

    def __init__(self, name: str, what: str, last_lines: str) -> None:
        super().__init__(f"the {name} {what}; its last lines:\n{last_lines or '(none)'}")
        self.name = name


class CommandFailedError(DemoError):
    """A command ended in another way than `succeeded`."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        error = event["data"].get("error") or {}
        told = ": ".join(str(error[key]) for key in ("code", "message") if key in error)
        problems = "; ".join(f"{p['path']} {p['message']}" for p in error.get("problems") or ())
        more = f" ({problems})" if problems else ""
        super().__init__(f"{event['subject']}: {event['type']}, {told}{more}")
        self.command_id = str(event["subject"])


class OverdueError(DemoError):
    """The demo takes far too long."""
