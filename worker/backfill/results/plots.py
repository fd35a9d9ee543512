"""The plots of a report, as SVG whose text stays text."""

from __future__ import annotations

import io
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Legible on the light page and on the dark one.
INK: Final = "#7b8494"
LINE: Final = "#3b7de0"
BAD: Final = "#d3544a"
_WIDTH: Final = 4.8
_BAR_HEIGHT: Final = 0.27
_MOST_BARS: Final = 20
_SHOWN_NAME: Final = 32
_MOST_TICKS: Final = 5
_MARKED: Final = ("p50", "p95", "p99")


def bars(counts: Mapping[str, int], color: str) -> str:
    """Returns a bar for each name, the longest first, its number at the end."""
    shown = list(counts.items())[:_MOST_BARS]
    longest = max(count for _, count in shown)
    with _drawing(height=0.25 + _BAR_HEIGHT * len(shown)) as (axes, drawn):
        drawing = axes.barh(
            [str(number) for number in range(len(shown))],
            [count for _, count in shown],
            color=color,
            height=0.66,
        )
        axes.set_yticks(range(len(shown)), [_short(name) for name, _ in shown])
        axes.bar_label(drawing, [f"{count:,}" for _, count in shown], padding=4, color=INK)
        axes.invert_yaxis()
        axes.set_xlim(0, longest * 1.18)
        axes.set_xticks([])
    return drawn.getvalue()


def shares(bins: Sequence[Mapping[str, Any]]) -> str:
    """Returns a histogram over 0 to 1, of equal bins from `from`."""
    width = 1 / len(bins)
    with _drawing(height=2.2) as (axes, drawn):
        axes.bar(
            [each["from"] for each in bins],
            [each["count"] for each in bins],
            width=width * 0.9,
            align="edge",
            color=LINE,
        )
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
        _count_upwards(axes)
    return drawn.getvalue()


def times(bins: Sequence[Mapping[str, Any]], marks: Mapping[str, float | None]) -> str:
    """Returns a histogram of times on a logarithmic axis, with its percentiles marked."""
    with _drawing(height=2.2) as (axes, drawn):
        axes.bar(
            [each["from"] for each in bins],
            [each["count"] for each in bins],
            width=[(each["to"] - each["from"]) * 0.9 for each in bins],
            align="edge",
            color=LINE,
        )
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        _count_upwards(axes)
        # Room for what the marks are called, above the bars.
        top = axes.get_ylim()[1] * 1.3
        axes.set_ylim(0, top)
        for row, name in enumerate(name for name in _MARKED if marks.get(name)):
            seconds = float(marks[name] or 0)
            # Each line ends below the names of those before it.
            height = top * (1 - 0.09 * row)
            axes.vlines(seconds, 0, height, color=INK, linewidth=1, linestyle=(0, (2, 2)))
            axes.annotate(
                f"{name} {span(seconds)}",
                (seconds, height),
                xytext=(4, -2),
                textcoords="offset points",
                va="top",
                color=INK,
            )
        low, high = axes.get_xlim()
        # The marks are written to the right of their lines.
        axes.set_xlim(low, high * (high / low) ** 0.3)
        ticks = _round_times(low, high)
        axes.set_xticks(ticks, [span(tick) for tick in ticks])
    return drawn.getvalue()


def span(seconds: float) -> str:
    """Returns a time in the unit that suits it."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min"


def _round_times(low: float, high: float) -> list[float]:
    """Returns a few round numbers between two times, evenly spread."""
    steps = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    found = [step * 10.0**power for power in powers for step in steps]
    within = [each for each in found if low <= each <= high]
    return within[:: max(1, -(-len(within) // _MOST_TICKS))]


def _short(name: str) -> str:
    return name if len(name) <= _SHOWN_NAME else f"{name[: _SHOWN_NAME - 1]}…"


def _count_upwards(axes: Any) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


@contextmanager
def _drawing(*, height: float) -> Iterator[tuple[Any, io.StringIO]]:
    """Yields axes to draw on and the text that is their SVG afterwards."""
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "trainmaster",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.parse_math": False,
    }
    drawn = io.StringIO()
    with mpl.rc_context(style):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        axes.tick_params(colors=INK, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        yield axes, drawn
        whole = io.StringIO()
        figure.savefig(whole, format="svg", transparent=True, metadata={"Date": None})
    text = whole.getvalue()
    drawn.write(text[text.index("<svg") :])
