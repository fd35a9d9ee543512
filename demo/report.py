"""What came of it: scores, what went wrong, and the table of both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table

from schemas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from demo.dataset import Dataset
    from demo.errors import CommandFailedError
    from demo.plan import DemoSize
    from demo.scenario import Trained

SHORT_FORM: Final = (
    "Scores are not judged: two epochs on a few labels show that all steps work, not how well "
    "a model learns."
)
# Narrower, the table's words would be broken.
_TABLE_WIDTH: Final = 76


class Verdict(StrEnum):
    """What is thought of a score."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the demo did.

    Attributes:
        trained: all trainings that were scored, model by model.
        failures: what stopped a model on its way.
        commands: all that were sent, in their order.
        events: all that came, in their order.
        seconds: from the start to the last score.
    """

    trained: Sequence[Trained]
    failures: Sequence[CommandFailedError]
    commands: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    demo_size: DemoSize
    dataset: Dataset
    seconds: float

    @property
    def complaints(self) -> list[str]:
        """Returns a line for everything that did not go as it must; none is success."""
        failed = [str(failure) for failure in self.failures]
        if not self.demo_size.floors:
            return failed
        return failed + [
            f"{trained.name}: {trained.plan.measure.name} is {trained.score:.3f}, "
            f"not above {trained.plan.measure.floor}"
            for trained in self.trained
            if not trained.passed
        ]

    @property
    def latest(self) -> list[Trained]:
        """The last training of each model."""
        return list({trained.plan.name: trained for trained in self.trained}.values())

    def verdict(self, trained: Trained) -> Verdict:
        """Returns what is thought of a training's score."""
        if not self.demo_size.floors:
            return Verdict.NOT_JUDGED
        return Verdict.PASSED if trained.passed else Verdict.FAILED


def print_results(report: Report, console: Console) -> None:
    """Prints the table, and what went wrong; where it would not fit, a line for each training."""
    if console.width < _TABLE_WIDTH:
        for trained in report.trained:
            score, floor, images, seconds, verdict = _cells(report, trained)
            line = (
                f"{trained.name}: {score}, floor {floor}, images (frames) {images}, {seconds} s, "
                f"{verdict}"
            )
            console.print(line, highlight=False)
    else:
        console.print(_table(report))
    if not report.demo_size.floors:
        console.print(SHORT_FORM, highlight=False)
    console.print(
        f"{counted(len(report.commands), 'command')}, {counted(len(report.events), 'event')}, "
        f"{report.seconds:.0f} s in all",
        highlight=False,
    )
    for complaint in report.complaints:
        console.print(f"demo: {complaint}", style="red", soft_wrap=True, markup=False)


def _table(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("task")
    table.add_column("held-out score")
    for name in ("floor", "images (frames)", "seconds"):
        table.add_column(name, justify="right")
    table.add_column("")
    for trained in report.trained:
        style = "red" if report.verdict(trained) is Verdict.FAILED else ""
        table.add_row(trained.name, *_cells(report, trained), style=style)
    return table


def shown_score(report: Report, trained: Trained) -> str:
    """Returns a score for people; that of the short form would only look like a defect."""
    return f"{trained.score:.3f}" if report.demo_size.floors else "–"


def _cells(report: Report, trained: Trained) -> tuple[str, ...]:
    return (
        f"{shown_score(report, trained)} {trained.plan.measure.name}",
        f"{trained.plan.measure.floor}" if report.demo_size.floors else "–",
        f"{len(trained.predicted)} ({trained.frames})",
        f"{trained.seconds}",
        report.verdict(trained),
    )
