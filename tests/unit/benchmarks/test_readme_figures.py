"""Rule: what README.md says of speed is what the benchmarks wrote into their page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


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
    share = float(found(r"^- ([\d.]+) times the rate of bare loop, httpx", page))
    assert f"{share * 100:.0f} % of a bare loop over the same HTTP client" in readme
    ours = found(r"^. trainmaster . ([\d.]+ ms) .", page)
    theirs = found(r"^. Celery, SDK pattern . ([\d.]+ ms) .", page)
    assert f"a command took {ours} from the queue to its event" in readme
    assert f"(Celery with the SDK: {theirs})" in readme
