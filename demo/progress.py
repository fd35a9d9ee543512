"""What people see while the demo runs: a table that keeps still, or plain lines without one.

In a terminal the table has one row a model and is drawn anew in place; where stdout is a file or
a pipe, every step is one line.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from schemas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from rich.console import Console, RenderableType

_REFRESHES_PER_SECOND = 4
# Without a terminal, a step that lasts tells how far it is so often.
_LINE_SECONDS = 10.0
_STYLES = {"done": "green", "failed": "bold red"}


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    done: str
    begun_seconds: float
    told_seconds: float


class Progress:
    """The steps of everything that runs, and how many events came."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()
        self._steps: dict[str, _Step] = {}
        self._events = 0
        self._live = Live(
            console=console,
            get_renderable=self._table,
            refresh_per_second=_REFRESHES_PER_SECOND,
            # What lasts is the table of results; this one is gone with the work.
            transient=True,
        )

    def __enter__(self) -> Self:
        """Shows the table, in a terminal."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Takes the table away."""
        self.hide()

    def hide(self) -> None:
        """Takes the table away, in a terminal; what comes after it stays."""
        self._live.stop()

    @property
    def seconds(self) -> float:
        """How long the demo has run."""
        return time.monotonic() - self._begun

    def say(self, who: str, step: str, done: str = "") -> None:
        """Shows at which step someone is, and how much of it is done."""
        known = self._steps.get(who)
        if known is None or known.name != step:
            self._steps[who] = _Step(step, done, self.seconds, self.seconds)
            self._print_line(f"{who}: {step}")
        elif done != known.done and self.seconds - known.told_seconds >= _LINE_SECONDS:
            self._steps[who] = replace(known, done=done, told_seconds=self.seconds)
            self._print_line(f"{who}: {step}, {done}")
        else:
            self._steps[who] = replace(known, done=done)

    def _print_line(self, text: str) -> None:
        if not self._console.is_terminal:
            # A line of its own each: nothing is wrapped at a width that nobody sees.
            line = f"{self.seconds:6.1f} s  {text}"
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def count(self, _event: Mapping[str, Any]) -> None:
        """Counts an event."""
        self._events += 1

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="bold", no_wrap=True, overflow="ellipsis")
        table.add_column(overflow="fold", ratio=1)
        table.add_column(justify="right", no_wrap=True)
        for who, step in self._steps.items():
            ended = step.name in _STYLES
            table.add_row(
                who,
                Text(f"{step.name} {step.done}".rstrip(), style=_STYLES.get(step.name, "")),
                "" if ended else f"{self.seconds - step.begun_seconds:.0f} s",
            )
        seen = Text(counted(self._events, "event"), style="dim")
        table.add_row("", seen, f"{self.seconds:.0f} s")
        return table
