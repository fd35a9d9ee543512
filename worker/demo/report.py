"""What came of it: scores, what went wrong, and the table of both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from worker.demo.course import Course, Trained
    from worker.demo.exchange import Exchange
    from worker.demo.plan import Extent
    from worker.demo.world import World


class Verdict(StrEnum):
    """What is thought of a score."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the demo did; `seconds` from start to the end of the servers."""

    courses: Sequence[Course]
    exchange: Exchange
    extent: Extent
    world: World
    seconds: float

    @property
    def trained(self) -> list[Trained]:
        """All trainings that were scored, model by model."""
        return [trained for course in self.courses for trained in course.trained]

    @property
    def complaints(self) -> list[str]:
        """Returns a line for everything that did not go as it must; none is success."""
        failed = [str(course.failure) for course in self.courses if course.failure is not None]
        if not self.extent.floors:
            return failed
        return failed + [
            f"{trained.name}: {trained.plan.measure.name} is {trained.score:.3f}, "
            f"not above {trained.plan.measure.floor}"
            for trained in self.trained
            if not trained.passed
        ]

    def verdict(self, trained: Trained) -> Verdict:
        """Returns what is thought of a training's score."""
        if not self.extent.floors:
            return Verdict.NOT_JUDGED
        return Verdict.PASSED if trained.passed else Verdict.FAILED


def print_results(report: Report, console: Console) -> None:
    """Prints the table, and what went wrong."""
    table = Table()
    table.add_column("task")
    table.add_column("held-out score")
    table.add_column("floor", justify="right")
    table.add_column("images (frames)", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("")
    for trained in report.trained:
        table.add_row(
            trained.name,
            f"{trained.score:.3f} {trained.plan.measure.name}",
            f"{trained.plan.measure.floor}",
            f"{len(trained.predicted)} ({trained.frames})",
            f"{trained.seconds}",
            report.verdict(trained),
            style="red" if report.verdict(trained) is Verdict.FAILED else "",
        )
    console.print(table)
    console.print(
        f"{len(report.exchange.commands)} commands, {len(report.exchange.events)} events, "
        f"{report.seconds:.0f} s in all",
        highlight=False,
    )
    for complaint in report.complaints:
        console.print(f"demo: {complaint}", style="red", soft_wrap=True, markup=False)
