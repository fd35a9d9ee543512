"""Rule: what the loop counts is scraped as prometheus_client's own counters would be."""

from __future__ import annotations

import random

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from worker.monitoring.loop_metrics import LoopCounters, LoopHistograms

BOUNDS = (0.005, 0.02, 0.5, 1, 2.5, 60, 43_200)


@pytest.fixture
def theirs() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def ours() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_histogram_is_scraped_as_the_librarys(
    theirs: CollectorRegistry, ours: CollectorRegistry
) -> None:
    judge = Histogram("t_seconds", "Took.", ("lane",), buckets=BOUNDS, registry=theirs)
    tried = LoopHistograms("t_seconds", "Took.", BOUNDS, ("lane",))
    ours.register(tried)
    values = [*BOUNDS, 0, 1e9, -1, *(random.Random(1).expovariate(0.5) for _ in range(200))]
    for lane in ("bulk", "none", 'a "quoted" one'):
        series = tried.labels(lane)
        counted = judge.labels(lane)
        for value in values if lane == "bulk" else values[:3]:
            series.observe(value)
            counted.observe(value)
    judge.labels("empty")
    tried.labels("empty")
    assert without_created(generate_latest(ours)) == without_created(generate_latest(theirs))
    assert b'lane="bulk"' in generate_latest(ours)


@pytest.mark.parametrize("labels", [(), ("type", "outcome")])
def test_a_counter_is_scraped_as_the_librarys(
    theirs: CollectorRegistry, ours: CollectorRegistry, labels: tuple[str, ...]
) -> None:
    judge = Counter("ends", "Ended.", labels, registry=theirs)
    tried = LoopCounters("ends", "Ended.", labels)
    ours.register(tried)
    series, counted = tried.labels(*labels), judge.labels(*labels) if labels else judge
    assert without_created(generate_latest(ours)) == without_created(generate_latest(theirs))
    for by in (1, 3, 250):
        series.inc(by)
        counted.inc(by)
    assert without_created(generate_latest(ours)) == without_created(generate_latest(theirs))
    assert tried.labels(*labels) is series
    assert series.value == 254


def without_created(text: bytes) -> list[bytes]:
    """The lines but those of when a series began, which workers leave out."""
    return [line for line in text.splitlines() if b"_created" not in line]
