"""Rule: what README.md says of speed is what the benchmarks wrote into their page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.contenders.registry import OURS
from benchmarks.page import Page
from benchmarks.results import Results
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
        (r"^- ([\d.]+) times the rate of taskiq", "{:.2f} times the fastest other queue"),
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
    assert f"{share * 100:.0f} % of a bare loop over the same HTTP client" in readme
    ours = found(r"^. trainmaster . ([\d.]+ ms) .", page)
    theirs = found(r"^. Celery, SDK pattern . ([\d.]+ ms) .", page)
    assert f"a command took {ours} from the queue to its event" in readme
    assert f"(Celery with the SDK: {theirs})" in readme


def test_the_tables_as_json_are_those_of_the_page(page: str) -> None:
    written = orjson.loads((BENCHMARKS / "tables.json").read_bytes())
    made = Page(Results(BENCHMARKS / "results.json"), [OURS], ROOT / "docs").tables()
    assert written.keys() == made.keys()
    for name, table in made.items():
        rows = written[name]["rows"]
        assert markdown_of(table, rows) in page
        if name != "settings":
            measured = orjson.loads(orjson.dumps(table.rows))
            # Here only the contenders that are installed have titles.
            assert rows == [
                row | titled(theirs) for row, theirs in zip(measured, rows, strict=True)
            ]


def titled(row: dict[str, Any]) -> dict[str, Any]:
    """Returns the title of a row, if it has one."""
    return {name: value for name, value in row.items() if name == "title"}
