"""What `submit --wait` shows while it waits: lines for people, or the events as they are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from schemas.wording import counted
from trainmaster_client import Observer, State
from worker.cli.formatting import narrate, show_duration
from worker.cli.output import open_console, print_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from trainmaster_client import Event

LINE_SECONDS: Final = 60.0


class LineWatcher(Observer):
    """Tells on stderr what happens, and for how long one has waited.

    On a terminal the time ticks; in a log it is a line now and then.

    Args:
        commands: how many there are; one needs no name on every line.
        trouble: puts Redis' trouble into words.
        line_seconds: the time between two such lines.
    """

    def __init__(
        self,
        commands: int,
        trouble: Callable[[BaseException], str],
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        self._line_seconds = line_seconds
        self._commands = commands
        self._trouble = trouble
        self._console = open_console(stderr=True)
        self._status = self._console.status("")
        self._begun = self._line_at = time.monotonic()
        self._training_since: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Shows the time on a terminal."""
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Takes the time away."""
        self._status.stop()

    def on_event(self, event: Event) -> None:
        """Prints the event's line."""
        if event.state == State.STARTED:
            self._training_since[event.command_id] = time.monotonic()
        elif event.is_end:
            self._training_since.pop(event.command_id, None)
        line = narrate(event.attributes, with_subject=self._commands > 1)
        self._console.print(line, soft_wrap=True)

    def on_untaken(self, commands: int) -> None:
        """Says that no worker has come."""
        self._console.print(
            f"no worker has taken {counted(commands, 'command')} yet; "
            "is one running? See: trainmaster doctor",
            soft_wrap=True,
        )

    def on_trouble(self, error: BaseException) -> None:
        """Says what is wrong with Redis."""
        self._console.print(f"{self._trouble(error)}; still waiting", soft_wrap=True)

    def on_tick(self, waiting: int) -> None:
        """Shows how long one has waited, for trainings since they started."""
        now = time.monotonic()
        said = f"waiting for {counted(waiting, 'command')}, {show_duration(now - self._begun)}"
        if self._training_since:
            longest = show_duration(now - min(self._training_since.values()))
            said += f"; {counted(len(self._training_since), 'training')} for up to {longest}"
        self._status.update(said)
        if not self._console.is_terminal and now - self._line_at >= self._line_seconds:
            self._line_at = now
            self._console.print(said, soft_wrap=True)


class JsonWatcher(LineWatcher):
    """Prints every event as it is on stdout; all else goes to stderr as for people."""

    def on_event(self, event: Event) -> None:
        """Prints the event."""
        print_json(event.attributes)
