"""A backfill's progress: a bar on a terminal, a line now and then without one."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from schemas.wording import counted
from worker.cli.formatting import show_duration
from worker.cli.output import open_console, safe_text, shell_word, shorten
from worker.queue.ledger.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from redis.asyncio import Redis
    from rich.console import RenderableType

    from worker.backfill.status import BackfillStatus
    from worker.queue.ledger.keys import Keys

LINE_SECONDS: Final = 10.0
# The rate is that of so long: shorter jumps about, longer lies after a pause.
_RATE_SECONDS: Final = 30.0
# Of 80 cells, what the counts beside it leave.
_ID_CELLS: Final = 20


async def limits_at_work(redis: Redis, keys: Keys) -> list[str]:
    """Returns what holds all bulk commands back at the moment, in words."""
    held_ms, rated, permits = await _read_limits(redis, keys)
    found = []
    if held_ms > 0:
        found.append(f"the API asked to wait {held_ms / 1000:.0f} s")
    found += [f"lane {pause.lane} paused: {pause.reason}" for pause in await _pauses(redis, keys)]
    if rated:
        found.append("requests per second")
    if permits:
        found.append("concurrent requests")
    return found


async def _read_limits(redis: Redis, keys: Keys) -> tuple[int, int, int]:
    pipe = redis.pipeline(transaction=False)
    pipe.pttl(keys.hold)
    pipe.exists(keys.rate)
    pipe.exists(keys.inflight)
    held_ms, rated, permits = await pipe.execute()
    return held_ms, rated, permits


async def _pauses(redis: Redis, keys: Keys) -> list[Any]:
    return await Lanes(redis, keys).paused()


class Pace:
    """The rate of the last seconds, and the time that is left at it."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, ended: int, now: float) -> None:
        """Takes how many items have ended by now, in seconds of a clock."""
        self._seen.append((now, ended))
        while len(self._seen) > 2 and now - self._seen[1][0] > _RATE_SECONDS:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        """Items a second; 0 where nothing is known."""
        if len(self._seen) < 2:
            return 0.0
        (begun, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - begun) if now > begun else 0.0

    def rest_seconds(self, left: int | None) -> float | None:
        """Returns how long so many items take; None where that can't be told."""
        return left / self.per_second if left is not None and self.per_second > 0 else None


class _Bar(Progress):
    """A bar, and below it what takes more room than a line has left.

    Attributes:
        note: what stands there.
    """

    note = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yields the bar and the note."""
        yield from super().get_renderables()
        if self.note:
            yield Text(self.note)


class Display:
    """Shows the progress on standard error while it is entered.

    Attributes:
        limits: what holds the backfill back, in words.
    """

    def __init__(self, backfill_id: str, *, quiet: bool) -> None:
        self.limits: list[str] = []
        self._id = safe_text(backfill_id)
        self._quiet = quiet
        self._pace = Pace()
        self._line_at = time.monotonic()
        self._bar: _Bar | None = None
        if not quiet and sys.stderr.isatty():
            self._bar = _Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[said]}"),
                console=open_console(stderr=True),
            )

    def __enter__(self) -> Self:
        """Shows the bar, or says how to go on after a kill."""
        if not self._quiet:
            self.say(
                f"backfill {self._id}; to resume it after a kill: "
                f"trainmaster backfill resume {shell_word(self._id)}"
            )
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(shorten(self._id, _ID_CELLS), total=None, said="")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the last state of the bar behind."""
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """Prints a line, above the bar where there is one."""
        if self._quiet:
            return
        if self._bar is not None and self._bar.live.is_started:
            self._bar.console.print(text)
        else:
            click.echo(text, err=True)

    def show(self, status: BackfillStatus) -> None:
        """Shows the progress by now."""
        now = time.monotonic()
        self._pace.see(status.ended, now)
        if self._bar is not None:
            self._bar.note = self._note(status)
            self._bar.update(
                self._task,
                completed=status.ended,
                total=status.total,
                said=self._said(status),
            )
        elif not self._quiet and now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            total = "" if status.total is None else f" of {status.total}"
            parts = (f"{status.ended}{total} done", self._said(status), self._note(status))
            click.echo(", ".join(filter(None, parts)), err=True)

    def _said(self, status: BackfillStatus) -> str:
        left = None if status.total is None else max(0, status.total - status.ended)
        rest = self._pace.rest_seconds(left)
        parts = [
            f"{self._pace.per_second:.1f}/s",
            f"{show_duration(rest)} left" if rest is not None else "",
            f"{status.failed} failed",
            f"{status.open} in flight",
        ]
        return ", ".join(part for part in parts if part)

    def _note(self, status: BackfillStatus) -> str:
        parts = [
            "writing the last files" if _is_concluding(status) else "",
            f"paused: {status.reason}" if status.state == "paused" else "",
            f"held back: {'; '.join(self.limits)}" if self.limits else "",
        ]
        return safe_text(", ".join(part for part in parts if part))


@contextmanager
def drawing_shown(status: BackfillStatus, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Shows on standard error how far the pictures are; yields what is told how many are done."""
    if quiet or not sys.stderr.isatty():
        if not quiet:
            items = counted(status.succeeded, "item")
            click.echo(safe_text(f"drawing {items} into {status.render}"), err=True)
        yield lambda _done: None
        return
    bar = _Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed} of {task.total} drawn"),
        console=open_console(stderr=True),
    )
    with bar:
        task = bar.add_task("pictures", total=status.succeeded)
        yield lambda done: bar.update(task, completed=done)


def _is_concluding(status: BackfillStatus) -> bool:
    """Returns whether only summary, report and the like are left: minutes, of a million items."""
    is_written = status.exhausted and status.collected == status.read > 0
    return is_written and not status.state.ended
