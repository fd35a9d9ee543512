"""What the tables make of records: medians within rounds or over all, ratios, what is left out."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.registry import CEILINGS, OURS
from benchmarks.report import own_tables, tables
from benchmarks.statistics import Summary

TITLES = {"bullmq": "BullMQ, Node"}


def test_after_a_rest_the_median_is_over_all_rounds_and_against_the_same_workers_at_rest() -> None:
    records: list[dict[str, Any]] = [
        {
            "round": number,
            "contender": name,
            "rest_seconds": 60,
            "milliseconds": after,
            "at_rest_milliseconds": [2.0, 4.0, 6.0],
        }
        for name, rounds in {
            "bullmq": ([9.0, 8.0], [30.0]),
            "trainmaster": ([6.0, 5.0], [4.0]),
        }.items()
        for number, after in enumerate(rounds)
    ]
    ours, theirs = tables.cold(records, TITLES).rows
    assert ours["title"] == "trainmaster"
    assert (ours["p50_at_rest_ms"], ours["p50_ms"], ours["times_at_rest"]) == (4.0, 5.0, 1.25)
    assert (theirs["p50_ms"], theirs["most_ms"], theirs["commands"]) == (9.0, 30.0, 3)
    assert (
        "| BullMQ, Node | 4.0 ms | 9.0 ms | 2.25 × | 30.0 ms | 3 | 60 s |"
        in tables.cold(records, TITLES).markdown()
    )


def test_a_steady_load_is_told_by_its_cost_least_first() -> None:
    records = [
        {
            "round": number,
            "contender": name,
            "per_second": 600.0,
            "cpu_seconds_per_1000": cpu + number / 10,
            "redis_cpu_seconds_per_1000": 0.2,
            "p50_ms": 54.0,
            "p99_ms": 60.0 + number,
        }
        for number in (0, 1)
        for name, cpu in (("trainmaster", 0.8), ("bullmq", 0.4))
    ]
    theirs, ours = tables.paced(records, TITLES).rows
    assert ours["times_the_cpu"] is None
    assert theirs["times_the_cpu"] == Summary.of([0.8 / 0.4, 0.9 / 0.5])
    shown = tables.paced(records, TITLES).markdown()
    assert "| BullMQ, Node | 600 | 0.450 | 1.90 × (1.80 – 2.00) | 0.200 | 54.0 ms |" in shown
    assert "| 60.5 ms | 60.0 – 61.0 |" in shown


def test_interactive_commands_are_told_apart_by_what_the_bulk_lane_does() -> None:
    runs = {"way": "runs", "backlog": 100_000, "commands": 400, "bulk_per_second": 2_000.0}
    waits = {"way": "waits", "backlog": 100_000, "commands": 400}
    records = [
        {"round": 0, **waits, "p50_ms": 55.0, "p99_ms": 60.0, "most_ms": 61.0},
        {"round": 0, **runs, "p50_ms": 80.0, "p99_ms": 110.0, "most_ms": 130.0},
        {"round": 1, **waits, "p50_ms": 55.0, "p99_ms": 60.0, "most_ms": 61.0},
        {"round": 1, **runs, "p50_ms": 90.0, "p99_ms": 150.0, "most_ms": 200.0},
    ]
    shown = own_tables.interactive(records).markdown()
    assert "| 100,000 wait, for their lane is paused |  | 800 | 55 ms | 60 ms |" in shown
    assert "| 100,000 are worked off | 2,000 | 800 | 85 ms | 130 ms | 110 – 150 | 200 ms |" in shown


def test_what_metrics_cost_is_told_by_ratios_within_rounds() -> None:
    cpu = {"without": (0.2, 0.4), "with": (0.21, 0.4)}
    records: list[dict[str, Any]] = [
        {
            "round": number,
            "way": way,
            "per_second": 1_000.0 + number,
            "cpu_seconds_per_1000": spent,
            "memory_bytes": 100_000_000,
        }
        | ({"scrapes": 7} if way == "with" else {})
        for way, rounds in cpu.items()
        for number, spent in enumerate(rounds)
    ]
    without, with_metrics = own_tables.monitoring(records).rows
    assert without["times_the_cpu"] is None
    assert with_metrics["times_the_cpu"] == Summary.of([0.21 / 0.2, 1.0])
    shown = own_tables.monitoring(records).markdown()
    assert "| scraped each second, 14 times in all | 1,000 | 1.00 × | 0.305 |" in shown


def test_commands_that_did_not_come_back_are_told_with_how_long_they_were_waited_for() -> None:
    kill = {"contender": "bullmq", "commands": 10, "told_twice": 0, "called_twice": 1}
    records = [
        {"round": 0, **kill, "lost": 2, "seconds": 5.0, "waited_seconds": 38.0},
        {"round": 1, **kill, "lost": 0, "seconds": 9.0, "waited_seconds": 10.0},
    ]
    (row,) = tables.killed(records, TITLES).rows
    assert (row["kills"], row["lost"], row["called_twice"]) == (2, 2, 2)
    assert (row["back_after_seconds"], row["not_within_seconds"]) == (None, 38.0)
    (row,) = tables.killed(records[1:], TITLES).rows
    assert (row["back_after_seconds"], row["not_within_seconds"]) == (9.0, None)


def test_what_was_not_measured_of_a_contender_is_left_blank() -> None:
    table = tables.does([OURS, *CEILINGS], [{"contender": "trainmaster", "calls": 1}])
    assert [row["calls"] for row in table.rows] == [1, None, None]
    assert "| 2 | 1 | looked for at the API, never sent again |" in table.markdown()
    assert "| 1 |  | lost |" in table.markdown()
