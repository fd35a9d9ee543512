"""The page of the documentation: every figure in it stands between marks and is put there by us.

::

    <!-- from the benchmarks: throughput -->
    …
    <!-- end: throughput -->
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from benchmarks import plots, tables
from benchmarks.statistics import ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.contenders.contender import Contender
    from benchmarks.results import Results

FOLDER: Final = "benchmarks"
NOTHING: Final = "Not measured yet."

_REGION: Final = re.compile(
    r"(?P<begin><!-- from the benchmarks: (?P<name>[a-z0-9-]+) -->\n).*?"
    r"(?P<end><!-- end: (?P=name) -->)",
    re.DOTALL,
)


class Page:
    """Renders results into a page's regions, and the pictures that they show.

    Args:
        results: what was measured.
        contenders: in the order of the table of settings.
        folder: where the page lies; pictures go to its folder `benchmarks`.
    """

    def __init__(self, results: Results, contenders: Sequence[Contender], folder: Path) -> None:
        self._results = results
        self._contenders = contenders
        self._titles = {one.name: one.title for one in contenders}
        self._folder = folder
        self._regions: dict[str, Callable[[], str]] = {
            "machine": self._machine,
            "settings": lambda: tables.settings(contenders),
            "summary": self._summary,
            "throughput": lambda: self._throughput("throughput"),
            "throughput-500ms": lambda: self._throughput("throughput-500ms"),
            "latency": self._latency,
            "killed": lambda: tables.killed(results.records("killed"), self._titles),
            "intake": lambda: tables.intake(results.records("intake")),
            "backlog": self._backlog,
            "footprint": lambda: tables.footprint(results.records("footprint")),
            "images": lambda: tables.images(results.records("images")),
            "gateway": lambda: tables.gateway(results.records("gateway")),
            "endurance": self._endurance,
        }

    def renew(self, text: str) -> str:
        """Returns the page with every region as the results are now.

        Raises:
            KeyError: a region's name is not one of ours.
        """

        def rendered(found: re.Match[str]) -> str:
            name = found["name"]
            render = self._regions[name]
            measured = name == "settings" or self._results.records(self._scenario(name))
            return f"{found['begin']}\n{render() if measured else NOTHING}\n\n{found['end']}"

        return _REGION.sub(rendered, text)

    def _scenario(self, region: str) -> str:
        return "throughput" if region in {"machine", "summary"} else region

    def _measured(self, scenario: str) -> str:
        run = self._results.runs[scenario]
        short = "; a short run, which shows only that it works" if run["short"] else ""
        return f"Measured {run['measured']} at commit `{run['commit']}`{short}."

    def _machine(self) -> str:
        return tables.machine(self._results.runs["throughput"]["machine"])

    def _summary(self) -> str:
        found = tables.by_contender(self._results.records("throughput"))
        ours = found.get(tables.OURS, [])
        peers = [
            one.name
            for one in self._contenders
            if one.queued and one.name in found.keys() - {tables.OURS}
        ]
        if not ours or not peers:
            return NOTHING
        fastest = max(peers, key=lambda name: tables.summary(found[name], "per_second").median)
        told = dict.fromkeys(("celery-sdk", "celery-threads", fastest, "bare-httpx"))
        return "\n".join(self._against(name, found) for name in told if name in found)

    def _against(self, name: str, found: dict[str, list[dict[str, object]]]) -> str:
        figures = {
            figure: ratio(
                tables.by_round(found[tables.OURS], figure), tables.by_round(found[name], figure)
            )
            for figure in ("per_second", "cpu_seconds_per_1000")
        }
        rate, cpu = figures["per_second"], figures["cpu_seconds_per_1000"]
        if rate is None or cpu is None:
            return f"- {self._titles[name]}: no common round"
        return (
            f"- {rate.median:.2f} times the rate of {self._titles[name]}, "
            f"at {cpu.median:.2f} times its CPU seconds per 1,000 commands"
        )

    def _throughput(self, scenario: str) -> str:
        records = self._results.records(scenario)
        plots.throughput(records, self._titles, self._picture(scenario))
        table = tables.throughput(records, self._titles)
        parts = (
            self._shown(scenario, "commands per second of each contender"),
            table,
            f"{self._measured(scenario)} {tables.the_others(records)}",
        )
        return "\n\n".join(parts)

    def _latency(self) -> str:
        records = self._results.records("latency")
        plots.latency(records, self._titles, self._picture("latency"))
        table = tables.latency(records, self._titles)
        shown = self._shown("latency", "latency at rest of each contender")
        return f"{shown}\n\n{table}\n\n{self._measured('latency')}"

    def _backlog(self) -> str:
        records = self._results.records("backlog")
        plots.backlog(records, self._picture("backlog"))
        shown = self._shown("backlog", "CPU seconds per 1,000 commands over the backlog")
        return f"{shown}\n\n{tables.backlog(records)}\n\n{self._measured('backlog')}"

    def _endurance(self) -> str:
        records = self._results.records("endurance")
        plots.endurance(records, self._picture("endurance"))
        shown = self._shown("endurance", "memory of the worker over its commands")
        return f"{shown}\n\n{tables.endurance(records)}\n\n{self._measured('endurance')}"

    def _picture(self, name: str) -> Path:
        return self._folder / FOLDER / f"{name}.svg"

    def _shown(self, name: str, words: str) -> str:
        return f"![{words}]({FOLDER}/{name}.svg)"
