"""Pictures of the results, as SVG files that are the same for the same results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report.tables import OURS, by_contender, summary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.results import Records

OUR_COLOR: Final = "#c2410c"
PEER_COLOR: Final = "#64748b"
CEILING_COLOR: Final = "#cbd5e1"
_WIDTH = 8.0
# For the words behind the longest bar.
_ROOM = 2.1
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "trainmaster",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def throughput(records: Records, titles: Mapping[str, str], file: Path) -> None:
    """Draws a bar for each contender, with its rounds as a line, fastest at the top."""
    found = sorted(
        by_contender(records).items(), key=lambda item: summary(item[1], "per_second").median
    )
    with mpl.rc_context(_STYLE):
        figure, axes = _open(0.45 * len(found) + 1.2)
        for place, (name, rounds) in enumerate(found):
            rate = summary(rounds, "per_second")
            axes.barh(place, rate.median, color=_color(name), height=0.7)
            axes.plot([rate.lowest, rate.highest], [place, place], color="black", linewidth=1.5)
            cpu = summary(rounds, "cpu_seconds_per_1000").median
            label = f"  {rate.median:,.0f}/s, {cpu:.2f} CPU s per 1,000"
            axes.text(rate.highest, place, label, va="center")
        _name_places(axes, [titles.get(name, name) for name, _ in found])
        fastest = max(summary(rounds, "per_second").highest for _, rounds in found)
        axes.set_xlim(0, fastest * _ROOM)
        axes.set_xlabel(f"commands per second on one core, {records[0]['latency_ms']} ms latency")
        _save(figure, file)


def latency(records: Records, titles: Mapping[str, str], file: Path) -> None:
    """Draws p50 and p99 of each contender on a scale of powers of ten, least at the top."""
    found = sorted(
        by_contender(records).items(),
        key=lambda item: summary(item[1], "p50_ms").median,
        reverse=True,
    )
    with mpl.rc_context(_STYLE):
        figure, axes = _open(0.45 * len(found) + 1.2)
        for place, (name, rounds) in enumerate(found):
            low, high = summary(rounds, "p50_ms").median, summary(rounds, "p99_ms").median
            axes.plot([low, high], [place, place], color=_color(name), linewidth=5)
            axes.plot(low, place, "o", color=_color(name), markersize=9)
            axes.text(high * 1.12, place, f"p50 {low:.1f}, p99 {high:.1f} ms", va="center")
        _name_places(axes, [titles.get(name, name) for name, _ in found])
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        figures = [record[name] for record in records for name in ("p50_ms", "p99_ms")]
        axes.set_xlim(min(figures) / 2, max(figures) * 30)
        axes.set_xlabel("ms from queueing a command to its event, nothing else to do")
        _save(figure, file)


def backlog(records: Records, file: Path) -> None:
    """Draws what a command costs over the backlog."""
    with mpl.rc_context(_STYLE):
        figure, axes = _open(3.2)
        sizes = [record["backlog"] for record in records]
        cost = [record["cpu_seconds_per_1000"] for record in records]
        axes.plot(sizes, cost, "o-", color=OUR_COLOR)
        for size, value in zip(sizes, cost, strict=True):
            axes.annotate(
                f"{value:.3f}", (size, value), (0, 8), textcoords="offset points", ha="center"
            )
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlim(sizes[0] / 2, sizes[-1] * 2)
        axes.set_ylim(0, max(cost) * 1.3)
        axes.set_xlabel("commands that wait all the while")
        axes.set_ylabel("CPU s per 1,000")
        _save(figure, file)


def endurance(records: Records, file: Path) -> None:
    """Draws the worker's memory over its commands."""
    with mpl.rc_context(_STYLE):
        figure, axes = _open(3.2)
        commands = [record["commands"] for record in records]
        memory = [record["memory_bytes"] / 1e6 for record in records]
        axes.plot(commands, memory, color=OUR_COLOR)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylim(0, max(memory) * 1.3)
        axes.set_xlabel("commands carried out")
        axes.set_ylabel("MB of the worker")
        _save(figure, file)


def _open(height: float) -> tuple[Figure, Axes]:
    # Made without pyplot, which would look for a screen.

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _name_places(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)


def _color(name: str) -> str:
    if name == OURS:
        return OUR_COLOR
    return CEILING_COLOR if name.startswith("bare") else PEER_COLOR


def _save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata: dict[str, Any] = {"Date": None}
    figure.savefig(file, metadata=metadata)
