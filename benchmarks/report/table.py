"""A table of the page: rows of values, shown in Markdown by columns, and as they are in JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.statistics import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Show = Callable[[Any], str]

Row = dict[str, Any]
"""Values by name: texts, numbers, summaries, or None for what there is not."""

# A smaller figure gets one more digit.
_FINE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: of its values in the rows; two columns may show the same ones.
        title: for people.
        show: makes the text of a value that is not None.
    """

    name: str
    title: str
    show: Show = str

    def text(self, row: Row) -> str:
        """Returns the text of a row's cell."""
        value = row[self.name]
        return "" if value is None else self.show(value)


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows."""

    columns: Sequence[Column]
    rows: Sequence[Row]

    def markdown(self) -> str:
        """Returns the table as the page has it."""
        titles = [column.title for column in self.columns]
        cells = [[column.text(row) for column in self.columns] for row in self.rows]
        lines = [titles, ["---"] * len(titles), *cells]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(digits: int = 0, unit: str = "") -> Show:
    """Shows a number, or the median of some."""
    return lambda value: f"{_middle(value):,.{digits}f}{unit}"


def megabytes(digits: int = 0) -> Show:
    """Shows bytes."""
    return lambda value: f"{_middle(value) / 1e6:,.{digits}f} MB"


def cpu_seconds(value: Summary | float) -> str:
    """Shows seconds of a CPU per 1,000 commands."""
    middle = _middle(value)
    return f"{middle:.3f}" if middle < _FINE else f"{middle:.2f}"


def spread(digits: int = 0) -> Show:
    """Shows the least and the most."""
    return lambda value: f"{value.lowest:,.{digits}f} – {value.highest:,.{digits}f}"


def times(value: Summary) -> str:
    """Shows a ratio, with the spread over the rounds where there were some."""
    around = f" ({value.lowest:.2f} – {value.highest:.2f})" if value.spread else ""
    return f"{value.median:.2f} ×{around}"


def _middle(value: Summary | float) -> float:
    return value.median if isinstance(value, Summary) else value
