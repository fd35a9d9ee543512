"""`report.html`: the summary for people, with plots; one file that needs nothing else."""

from __future__ import annotations

import shlex
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any, Final

from worker.backfill.results import plots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FILES: Final = {
    "parts": "the result of each item",
    "failures.jsonl": "what failed, as rows that can be a source again",
    "coco-results.json": "boxes and outlines in COCO's results format",
    "coco-images.json": "the pictures and categories that they name",
    "summary.json": "the figures of this page",
}


def render(summary: Mapping[str, Any], names: Sequence[str]) -> str:
    """Returns the page of a summary.

    Args:
        summary: of the backfill.
        names: files that lie beside the page.
    """
    failed = summary["failed"]
    template = Template((files("worker.backfill.results") / "report.html").read_text("utf-8"))
    return template.substitute(
        title=escape(summary["backfill"]),
        verdict=f"{failed:,} failed" if failed else "all succeeded",
        verdict_class="bad" if failed else "good",
        about=_about(summary),
        figures=_figures(summary),
        failures=_failures(summary),
        plots=_plots(summary),
        facts=_facts(summary),
        files="".join(
            f'<li><a href="{name}">{name}</a>: {told}</li>'
            for name, told in _FILES.items()
            if name in names
        ),
    )


def _about(summary: Mapping[str, Any]) -> str:
    asked = summary["asked"]
    task = escape(str(asked["task"]).replace("_", " "))
    return f"{task} on the items of <code>{escape(summary['source'])}</code>"


def _figures(summary: Mapping[str, Any]) -> str:
    latency = summary["latency_seconds"]["p50"]
    rate = summary["items_per_second"]
    figures = {
        "items": f"{summary['items']:,}",
        "failed": f"{summary['failed']:,}",
        "predictions": f"{summary['predictions']:,}",
        "time": plots.span(summary["seconds"]),
        "items a second": "" if rate is None else f"{rate:,.3g}" if rate < 100 else f"{rate:,.0f}",
        "one item, median": "" if latency is None else plots.span(latency),
    }
    return "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items() if value
    )


def _failures(summary: Mapping[str, Any]) -> str:
    if not summary["messages"]:
        return ""
    rows = []
    for reason in summary["messages"]:
        first = reason["first"]
        where = ": ".join(part for part in (first["place"], first["named"]) if part)
        label = "" if reason["items"] == 1 else "the first: "
        rows.append(
            f'<tr><td class="number">{reason["items"]:,}</td>'
            f"<td><code>{escape(reason['code'])}</code></td>"
            f"<td>{escape(reason['message'])}<small>{label}{escape(where)}</small></td></tr>"
        )
    again = f"trainmaster backfill retry-failed {shlex.quote(summary['backfill'])}"
    return (
        "<h2>What failed</h2>"
        '<div class="card"><table><thead><tr><th class="number">items</th><th>code</th>'
        f"<th>why</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"<p style='margin-top:10px'>To run them again, once the cause is mended: "
        f"<code>{escape(again)}</code></p>"
    )


def _plots(summary: Mapping[str, Any]) -> str:
    drawn = []
    if summary["classes"]:
        drawn.append(_plot("Classes", "predictions", plots.bars(summary["classes"], plots.LINE)))
    if summary["predictions"]:
        drawn.append(
            _plot("Confidence", "predictions, by confidence", plots.shares(summary["confidences"]))
        )
    if summary["latencies"]:
        times = plots.times(summary["latencies"], summary["latency_seconds"])
        drawn.append(_plot("Time of an item", "items, by their last attempt", times))
    if summary["failures"]:
        drawn.append(
            _plot("Failures", "items, by code", plots.bars(summary["failures"], plots.BAD))
        )
    return f'<h2>What was found</h2><div class="plots">{"".join(drawn)}</div>' if drawn else ""


def _plot(title: str, what: str, drawn: str) -> str:
    return f"<figure><figcaption>{title}<span>{what}</span></figcaption>{drawn}</figure>"


def _facts(summary: Mapping[str, Any]) -> str:
    asked = summary["asked"]
    latency = ", ".join(
        f"{'longest' if name == 'p100' else name} {plots.span(value)}"
        for name, value in summary["latency_seconds"].items()
        if value
    )
    facts = {
        "project": asked["project_uuid"],
        "attachment": asked["project_model_uuid"],
        "training": asked["training_uuid"],
        "thresholds": ", ".join(
            f"{name} {value}" for name, value in asked.items() if name.endswith("_thresh")
        ),
        "attempts": f"{summary['attempts']:,}",
        "time of the last attempt": latency,
        "frames": f"{summary['frames']:,}",
        "items in which nothing was found": f"{summary['items_without_predictions']:,}",
        "never run": f"{summary['dropped']:,}" if summary.get("dropped") else "",
        "results": summary["output"],
    }
    return "".join(
        f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value
    )
