"""`report.html`: the summary for people, with plots; one file that needs nothing else."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_INK: Final = "#4a5261"
_LINE: Final = "#2563c9"
_BAD: Final = "#c2362b"
_MOST_BARS: Final = 20

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1d222b; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; margin: .5rem 0 1.5rem; }}
th, td {{ text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid #d9dde4;
  vertical-align: top; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
.plots {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
svg {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def render(summary: Mapping[str, Any]) -> str:
    """Returns the page of a summary."""
    body = [_facts(summary)]
    if summary["messages"]:
        body.append("<h2>Failures</h2>")
        body.append(
            _table(
                ("code", "message", "items"),
                ((each["code"], each["message"], each["items"]) for each in summary["messages"]),
            )
        )
    plots = [plot for plot in _plots(summary) if plot]
    if plots:
        body.append(f'<h2>Plots</h2><div class="plots">{"".join(plots)}</div>')
    title = f"Backfill {summary['backfill']}"
    return _PAGE.format(title=html.escape(title), body="\n".join(body))


def _facts(summary: Mapping[str, Any]) -> str:
    latency = ", ".join(
        f"{name} {value} s" for name, value in summary["latency_seconds"].items() if value
    )
    rows = [
        ("items", summary["items"]),
        ("succeeded", summary["succeeded"]),
        ("failed", summary["failed"]),
        ("never run", summary.get("dropped", 0)),
        ("seconds", summary["seconds"]),
        ("items per second", summary["items_per_second"]),
        ("attempts", summary["attempts"]),
        ("time of the last attempt", latency),
        ("frames", summary["frames"]),
        ("predictions", summary["predictions"]),
        ("items without predictions", summary["items_without_predictions"]),
        ("results", summary["output"]),
    ]
    return _table(("", ""), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    parts = ["<table>"]
    if any(head):
        parts.append(f"<tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>")
    for row in rows:
        cells = (
            f'<td class="number">{cell:,}</td>'
            if isinstance(cell, int | float)
            else f"<td>{html.escape(str(cell))}</td>"
            for cell in row
        )
        parts.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*parts, "</table>"])


def _plots(summary: Mapping[str, Any]) -> list[str]:
    latency = {name: value for name, value in summary["latency_seconds"].items() if value}
    bins = summary["confidences"]
    share = (
        {f"{each['from']:.2f}": each["count"] for each in bins} if summary["predictions"] else {}
    )
    return [
        _bars("Classes", "predictions", summary["classes"], _LINE),
        _bars("Confidence", "predictions", share, _LINE, upright=True),
        _bars("Failures", "items", summary["failures"], _BAD),
        _bars("Time of the last attempt", "seconds", latency, _LINE, upright=True),
    ]


def _bars(
    title: str, unit: str, counts: Mapping[str, float], color: str, *, upright: bool = False
) -> str:
    """Returns a bar chart as SVG; nothing where there is nothing to show."""
    shown = dict(list(counts.items())[:_MOST_BARS])
    if not shown:
        return ""
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}):
        figure = Figure(figsize=(4.6, 2.8), layout="constrained")
        axes = figure.subplots()
        names, values = list(shown), list(shown.values())
        if upright:
            axes.bar(names, values, color=color, width=0.9)
            axes.set_ylabel(unit, color=_INK)
            if len(names) > 10:
                axes.set_xticks(range(0, len(names), 4), names[::4])
        else:
            axes.barh(names, values, color=color)
            axes.invert_yaxis()
            axes.set_xlabel(unit, color=_INK)
        axes.set_title(title, color=_INK, fontsize=10)
        axes.tick_params(colors=_INK, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True)
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]
