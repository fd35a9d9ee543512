"""Rule: what README.md says of speed is what the benchmarks wrote into their page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.contenders.registry import NODE_QUEUES, OURS
from benchmarks.report.page import Page
from benchmarks.report.tables import by_contender, by_round, summary
from benchmarks.results import Records, Results
from benchmarks.statistics import ratio
from tests.benchmark_tables import markdown_of

ROOT = Path(__file__).resolve().parents[3]
BENCHMARKS = ROOT / "docs" / "benchmarks"


@pytest.fixture(scope="module")
def readme() -> str:
    """What README.md says of speed, on one line."""
    text = (ROOT / "README.md").read_text("utf-8")
    return " ".join(text.split("## Fast")[1].split("\n## ")[0].split())


@pytest.fixture(scope="module")
def page() -> str:
    """The benchmarks' page."""
    return (ROOT / "docs" / "benchmarks.md").read_text("utf-8")


def found(pattern: str, page: str) -> str:
    """Returns the figure that `pattern` finds on the page."""
    match = re.search(pattern, page, re.MULTILINE)
    assert match, pattern
    return match[1]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"^- ([\d.]+) times the rate of Celery, SDK", "{:.0f} times Celery with the SDK's"),
        (r"^- ([\d.]+) times the rate of Celery, threads", "{:.1f} times Celery with threads"),
    ],
)
def test_ratios_are_those_of_the_page(readme: str, page: str, pattern: str, said: str) -> None:
    # A little more, so that 6.65 is told as 6.7 whatever the float is.
    assert said.format(float(found(pattern, page)) + 1e-9) in readme


def test_the_rate_the_ceiling_and_the_latencies_are_those_of_the_page(
    readme: str, page: str
) -> None:
    rate = found(r"^. trainmaster . ([\d,]+) . [\d,]+ – ", page)
    assert f"{rate} commands a second" in readme
    share = float(found(r"^- ([\d.]+) times the rate of bare loop, our transport", page))
    assert f"{share * 100:.0f} % of a bare loop over the same transport" in readme
    ours = found(r"^. trainmaster . ([\d.]+ ms) .", page)
    theirs = found(r"^. Celery, SDK pattern . ([\d.]+ ms) .", page)
    assert f"a command took {ours} from the queue to its event" in readme
    assert f"(Celery with the SDK: {theirs})" in readme


@pytest.fixture(scope="module")
def queues() -> dict[str, Records]:
    """What was measured of the rate of each queue."""
    found = by_contender(Results(BENCHMARKS / "results.json").records("throughput"))
    return {name: rounds for name, rounds in found.items() if not name.startswith("bare-")}


def ours_to(other: str, figure: str, queues: dict[str, Records]) -> float:
    """Returns how many times another queue's figure ours is, by the rounds of one run."""
    found = ratio(by_round(queues[OURS.name], figure), by_round(queues[other], figure))
    assert found
    return found.median


def test_the_claim_names_its_field_and_is_what_the_results_show(
    readme: str, queues: dict[str, Records]
) -> None:
    others = [name for name in queues if name != OURS.name]
    fastest = max(others, key=lambda name: summary(queues[name], "per_second").median)
    cost = "cpu_seconds_per_1000"
    thriftiest = min(others, key=lambda name: summary(queues[name], cost).median)
    languages = "Python and Node" if {one.name for one in NODE_QUEUES} & set(others) else "Python"
    rate = ours_to(fastest, "per_second", queues) + 1e-9
    cpu = ours_to(thriftiest, cost, queues) + 1e-9
    assert (
        f"{rate:.2f} times the fastest other queue measured, in {languages}, "
        f"at {cpu:.2f} times the CPU time of the thriftiest"
    ) in readme
    # Ahead of all of them is only who is.
    assert rate > 1 > cpu or "of any queue" not in readme


def test_the_tables_as_json_are_those_of_the_page(page: str) -> None:
    written = orjson.loads((BENCHMARKS / "tables.json").read_bytes())
    made = Page(Results(BENCHMARKS / "results.json"), [OURS], ROOT / "docs").tables()
    assert written.keys() == made.keys()
    for name, table in made.items():
        rows = written[name]["rows"]
        assert markdown_of(table, rows) in page
        if name not in {"settings", "does"}:
            measured = orjson.loads(orjson.dumps(table.rows))
            # Here only the contenders that are installed have titles.
            assert rows == [
                row | titled(theirs) for row, theirs in zip(measured, rows, strict=True)
            ]


def titled(row: dict[str, Any]) -> dict[str, Any]:
    """Returns the title of a row, if it has one."""
    return {name: value for name, value in row.items() if name == "title"}
