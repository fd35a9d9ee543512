"""Writes the page that shows everything: one file, relative links, nothing from elsewhere."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any, Final

import orjson
from PIL import Image

from demo.curves import curve_name, draw_curve
from demo.frames import SURE_ENOUGH
from demo.pictures import draw_item
from demo.plan import MODELS
from demo.report import SHORT_FORM, Verdict, shown_score
from schemas.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from demo.dataset import Item, Project
    from demo.report import Report
    from demo.scenario import Trained

PAGE: Final = "index.html"
EVENTS: Final = "events.jsonl"
LOGS: Final = ("worker.log", "sandbox.log", "gateway.log")
PICTURES: Final = "pictures"
CURVES: Final = "curves"

_NOTE: Final = "The mark on each bar is the floor."
_BADGES: Final = {Verdict.PASSED: "good", Verdict.FAILED: "bad", Verdict.NOT_JUDGED: "none"}


def write_page(report: Report, output: Path) -> Path:
    """Draws the curves and pictures, writes the page, and returns where it is."""
    for name in (PICTURES, CURVES):
        (output / name).mkdir(exist_ok=True)
    for trained in report.trained:
        draw_curve(trained, output / CURVES)
    template = Template((files("demo") / "page.html").read_text("utf-8"))
    command, events = _example(report)
    page = template.substitute(
        verdict="failed" if report.complaints else "passed",
        verdict_class="bad" if report.complaints else "good",
        complaints=_complaints(report),
        figures=_figures(report),
        scores_note=_NOTE if report.demo_size.floors else SHORT_FORM,
        results="".join(_result(report, trained) for trained in report.trained),
        curves="".join(_curve(trained) for trained in report.trained),
        project_titles="".join(
            f"<th>{escape(project.title)}</th>" for project in report.dataset.projects
        ),
        mappings=_mappings(report),
        projects="".join(_project(report, project, output) for project in report.dataset.projects),
        command=escape(command),
        events=escape(events),
        files="".join(
            f'<li><a href="{name}">{name}</a></li>'
            for name in (EVENTS, *LOGS)
            if (output / name).exists()
        ),
    )
    written = output / PAGE
    written.write_text(page, "utf-8")
    return written


def _complaints(report: Report) -> str:
    lines = "".join(f"<li>{escape(complaint)}</li>" for complaint in report.complaints)
    return f'<ul class="bad">{lines}</ul>' if lines else ""


def _figures(report: Report) -> str:
    figures = {
        "commands": len(report.commands),
        "events": len(report.events),
        "trainings": len(report.trained),
        "seconds in all": round(report.seconds),
    }
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items())


def _result(report: Report, trained: Trained) -> str:
    plan, verdict = trained.plan, report.verdict(trained)
    meter = ""
    if report.demo_size.floors:
        meter = (
            f'<span class="meter"><i style="width:{trained.score:.1%}"></i>'
            f'<b style="left:{plan.measure.floor:.1%}"></b></span>'
        )
    floor = plan.measure.floor if report.demo_size.floors else "–"
    images = f"{len(trained.predicted)} ({trained.frames})"
    return (
        f"<tr><th>{escape(trained.name)}<small>{plan.architecture}</small></th>"
        f"<td>{meter}{shown_score(report, trained)}<small>{escape(plan.measure.name)}</small></td>"
        f'<td><span class="badge {_BADGES[verdict]}">{verdict}</span></td>'
        f'<td class="number" data-label="floor">{floor}</td>'
        f'<td class="number" data-label="labels">{trained.labels}</td>'
        f'<td class="number" data-label="images (frames)">{images}</td>'
        f'<td class="number" data-label="trained in">{trained.seconds} s</td></tr>'
    )


def _curve(trained: Trained) -> str:
    light, dark = (f"{CURVES}/{curve_name(trained, theme)}" for theme in ("light", "dark"))
    last = trained.losses[max(trained.losses)]
    epochs = counted(len(trained.losses), "epoch")
    return (
        f"<figure><figcaption>{escape(trained.name)} <span>{epochs}, "
        f"last loss {last:.3f}</span></figcaption><picture>"
        f'<source srcset="{dark}" media="(prefers-color-scheme: dark)">'
        f'<img src="{light}" alt="Loss of {escape(trained.name)} by epoch"></picture></figure>'
    )


def _mappings(report: Report) -> str:
    rows = []
    for plan in MODELS:
        for number, name in enumerate(plan.features):
            cells = "".join(
                f'<td><span class="swatch" style="background:{feature.color}"></span>'
                f"{escape(feature.name)} <code>{escape(feature.feature_hash)}</code></td>"
                for feature in (plan.feature(name, project) for project in report.dataset.projects)
            )
            first = f'<th rowspan="{len(plan.features)}">{plan.name}</th>' if number == 0 else ""
            rows.append(f"<tr>{first}<td>{escape(name)}</td>{cells}</tr>")
    return "".join(rows)


def _project(report: Report, project: Project, output: Path) -> str:
    """Returns the section of a project, and draws its pictures."""
    items = report.demo_size.held_out(project)
    drawn = [(item, f"{PICTURES}/{project.slug}-{item.name}.jpg") for item in items]
    for item, name in drawn:
        draw_item(item, project, report.latest, output / name)
    clips = [_picture(item, name, output) for item, name in drawn if item.frames > 1]
    stills = [_picture(item, name, output) for item, name in drawn if item.frames == 1]
    return (
        f"<section><h2>{escape(project.title)}: truth and prediction</h2>"
        "<p>Boxes are found by the detector, outlines by the segmenter, and the line below a frame "
        "is the classifier’s: green where it is right. Numbers are how sure a model is, from "
        f"{SURE_ENOUGH}; less sure finds count in the score but are not drawn. In clips, #1, #2 … "
        "are the tracks, with a trail to where each came from.</p>"
        f'<h3>Clips and image groups</h3><div class="clips">{"".join(clips)}</div>'
        f'<h3>Pictures</h3><div class="pictures">{"".join(stills)}</div></section>'
    )


def _picture(item: Item, name: str, output: Path) -> str:
    with Image.open(output / name) as picture:
        width, height = picture.size
    return (
        f'<a href="{name}"><img src="{name}" alt="{escape(item.name)}: truth and prediction" '
        f'style="--wide:{width}px" width="{width}" height="{height}" loading="lazy"></a>'
    )


def _example(report: Report) -> tuple[str, str]:
    """Returns a prediction on one picture, and what was told of it, as people read JSON."""
    for command in report.commands:
        events = [each for each in report.events if each["subject"] == command["id"]]
        if "data_uuid" in command["data"] and "allocation_enabled" not in command["data"]:
            return _json(command), "\n".join(_json(event) for event in events)
    return "", ""


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
