"""The page of the documentation: every figure in it stands between marks and is put there by us.

::

    <!-- from the benchmarks: throughput -->
    …
    <!-- end: throughput -->

The same tables stand in a file of JSON beside the pictures, with the figures as they were measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from benchmarks.report import own_tables, plots, tables
from benchmarks.statistics import ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.contenders.contender import Contender
    from benchmarks.report.table import Table
    from benchmarks.results import Records, Results

FOLDER: Final = "benchmarks"
NOTHING: Final = "Not measured yet."

# Scenarios of rates, whose figures depend on the other core too.
RATES: Final = ("throughput", "throughput-500ms", "tls")

_REGION: Final = re.compile(
    r"(?P<begin><!-- from the benchmarks: (?P<name>[a-z0-9-]+) -->\n).*?"
    r"(?P<end><!-- end: (?P=name) -->)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn of a scenario.

    Attributes:
        draw: draws records into a file.
        words: what the picture shows.
    """

    draw: Callable[[Records, Path], None]
    words: str


class Page:
    """Renders results into a page's regions, the pictures that they show, and the tables as JSON.

    Args:
        results: what was measured.
        contenders: in the order of the table of settings.
        folder: where the page lies; pictures and JSON go to its folder `benchmarks`.
    """

    def __init__(self, results: Results, contenders: Sequence[Contender], folder: Path) -> None:
        self._results = results
        self._contenders = contenders
        self._titles = {one.name: one.title for one in contenders}
        self._folder = folder
        compared: dict[str, Callable[[Records, dict[str, str]], Table]] = {
            "throughput": tables.throughput,
            "throughput-500ms": tables.throughput,
            "tls": tables.throughput,
            "latency": tables.latency,
            "cold": tables.cold,
            "paced": tables.paced,
            "killed": tables.killed,
        }
        self._tables: dict[str, Callable[[Records], Table]] = {
            **{name: self._with_titles(make) for name, make in compared.items()},
            "intake": own_tables.intake,
            "backlog": own_tables.backlog,
            "interactive": own_tables.interactive,
            "footprint": own_tables.footprint,
            "images": own_tables.images,
            "gateway": own_tables.gateway,
            "monitoring": own_tables.monitoring,
            "endurance": own_tables.endurance,
        }
        self._pictures = {
            "throughput": Picture(self._bars, "commands per second of each contender"),
            "throughput-500ms": Picture(self._bars, "commands per second of each contender"),
            "latency": Picture(self._dots, "latency at rest of each contender"),
            "backlog": Picture(plots.backlog, "CPU seconds per 1,000 commands over the backlog"),
            "endurance": Picture(plots.endurance, "memory of the worker over its commands"),
        }

    def renew(self, text: str) -> str:
        """Returns the page with every region as the results are now.

        Raises:
            KeyError: a region's name is not one of ours.
        """

        def rendered(found: re.Match[str]) -> str:
            return f"{found['begin']}\n{self._region(found['name'])}\n\n{found['end']}"

        return _REGION.sub(rendered, text)

    def tables(self) -> dict[str, Table]:
        """Returns the tables of all that was measured, by the names of their regions."""
        found = {
            "does": tables.does(self._contenders, self._results.records("repeats")),
            "settings": tables.settings(self._contenders),
        }
        if run := self._results.runs.get("throughput"):
            found["machine"] = tables.machine(run["machine"])
        for name, make in self._tables.items():
            if records := self._results.records(name):
                found[name] = make(records)
        return found

    def json(self) -> bytes:
        """Returns the same tables as JSON, each with when it was measured and at which commit."""
        found: dict[str, Any] = {}
        for name, table in self.tables().items():
            run = self._results.runs.get(name, {})
            facts = {fact: run[fact] for fact in ("measured", "commit", "short") if run}
            found[name] = {**facts, "rows": table.rows}
        return orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"

    def _region(self, name: str) -> str:
        if name == "summary":
            return self._summary()
        if name == "intake-share":
            return self._intake_share()
        if name not in self._tables:
            made = self.tables()
            return made[name].markdown() if name in made else self._unmeasured(name)
        records = self._results.records(name)
        if not records:
            return NOTHING
        parts = [self._tables[name](records).markdown()]
        if picture := self._pictures.get(name):
            picture.draw(records, self._folder / FOLDER / f"{name}.svg")
            parts.insert(0, f"![{picture.words}]({FOLDER}/{name}.svg)")
        others = f" {tables.the_others(records)}" if name in RATES else ""
        parts.append(f"{self._measured(name)}{others}")
        return "\n\n".join(parts)

    def _intake_share(self) -> str:
        """Returns what of our cost is what no other does, in a sentence."""
        ours = tables.by_contender(self._results.records("throughput")).get(tables.OURS)
        taken_in = self._results.records("intake")
        if not ours or not taken_in:
            return NOTHING
        part, whole = (
            tables.summary(records, "cpu_seconds_per_1000").median for records in (taken_in, ours)
        )
        return (
            f"Taking a command in, which is validating it, recording it and telling that it is "
            f"accepted, is {part:.3f} of the {whole:.3f} CPU seconds that 1,000 commands take "
            f"trainmaster ({part / whole:.0%})."
        )

    def _unmeasured(self, name: str) -> str:
        if name != "machine":
            raise KeyError(name)
        return NOTHING

    def _with_titles(
        self, make: Callable[[Records, dict[str, str]], Table]
    ) -> Callable[[Records], Table]:
        return lambda records: make(records, self._titles)

    def _measured(self, scenario: str) -> str:
        run = self._results.runs[scenario]
        short = "; a short run, which shows only that it works" if run["short"] else ""
        return f"Measured {run['measured']} at commit `{run['commit']}`{short}."

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
        first = ("celery-sdk", "celery-threads")
        told = dict.fromkeys((*first, *self._best(peers), "bare-transport", "bare-aiohttp"))
        return "\n".join(self._against(name, found) for name in told if name in found)

    def _best(self, peers: Sequence[str]) -> list[str]:
        """Returns the fastest of each language, and the one that takes the least CPU time."""
        found = tables.by_contender(self._results.records("throughput"))
        languages = {one.name: one.language for one in self._contenders}

        def median(figure: str) -> Callable[[str], float]:
            return lambda name: tables.summary(found[name], figure).median

        best = []
        for language in dict.fromkeys(languages[name] for name in peers):
            of_it = [name for name in peers if languages[name] == language]
            best.append(max(of_it, key=median("per_second")))
            best.append(min(of_it, key=median("cpu_seconds_per_1000")))
        return best

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

    def _bars(self, records: Records, file: Path) -> None:
        plots.throughput(records, self._titles, file)

    def _dots(self, records: Records, file: Path) -> None:
        plots.latency(records, self._titles, file)
