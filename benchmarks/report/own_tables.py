"""The tables of trainmaster alone, made of each scenario's records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.report.table import Column, Table, cpu_seconds, megabytes, number, spread, times
from benchmarks.report.tables import summary
from benchmarks.statistics import ratio

if TYPE_CHECKING:
    from benchmarks.results import Records
    from benchmarks.statistics import Summary

_INTAKE: Final = (
    Column("commands", "commands", number()),
    Column("per_second", "accepted/s", number()),
    Column("per_second", "lowest – highest", spread()),
    Column("cpu_seconds_per_1000", "CPU s per 1,000", cpu_seconds),
    Column("accepted_per_cpu_second", "accepted per CPU s", number()),
)
_BACKLOG: Final = (
    Column("backlog", "backlog", number()),
    Column("per_second", "commands/s", number()),
    Column("cpu_seconds_per_1000", "CPU s per 1,000", cpu_seconds),
    Column("more_than_smallest", "against the smallest", "{:+.0%}".format),
    Column("redis_cpu_seconds_per_1000", "Redis' CPU s per 1,000", cpu_seconds),
    Column("memory_bytes", "worker", megabytes()),
    Column("redis_memory_bytes", "Redis", megabytes()),
)
_INTERACTIVE: Final = (
    Column("bulk", "bulk commands that are due"),
    Column("bulk_per_second", "bulk commands/s", number()),
    Column("commands", "interactive ones", number()),
    Column("p50_ms", "p50", number(0, " ms")),
    Column("p99_ms", "p99", number(0, " ms")),
    Column("p99_ms", "p99, lowest – highest", spread()),
    Column("most_ms", "longest", number(0, " ms")),
)
_FOOTPRINT: Final = (
    Column("does", "a command that"),
    Column("bytes", "takes", number(0, " B")),
    Column("events_bytes", "and its events so far", number(0, " B")),
)
_IMAGES: Final = (
    Column("images", "images"),
    Column("per_second", "commands/s", number()),
    Column("cpu_seconds_per_1000", "CPU s per 1,000", cpu_seconds),
    Column("waiting_kilobytes", "Redis for one that waits", number(1, " kB")),
    Column("memory_bytes", "worker", megabytes()),
)
_GATEWAY: Final = (
    Column("sent", "sent"),
    Column("per_second", "commands/s", number()),
    Column("p50_ms", "p50", number(1, " ms")),
    Column("p99_ms", "p99", number(1, " ms")),
    Column("lost", "lost", number()),
    Column("cpu_seconds_per_1000", "CPU s per 1,000", cpu_seconds),
    Column("memory_bytes", "gateway", megabytes()),
)
_MONITORING: Final = (
    Column("metrics", "`/metrics`"),
    Column("per_second", "commands/s", number()),
    Column("times_the_rate", "times the rate", times),
    Column("cpu_seconds_per_1000", "CPU s per 1,000", cpu_seconds),
    Column("times_the_cpu", "times the CPU", times),
    Column("memory_bytes", "worker", megabytes()),
    Column("rounds", "runs", number()),
)
_ENDURANCE: Final = (
    Column("commands", "commands", number()),
    Column("seconds", "seconds", number()),
    Column("memory_bytes", "worker", megabytes(1)),
    Column("redis_memory_bytes", "Redis", megabytes()),
    Column("twice", "told twice", number()),
)


def intake(records: Records) -> Table:
    """Returns how fast commands are accepted when none of them runs."""
    cost = summary(records, "cpu_seconds_per_1000")
    row = {
        "commands": records[0]["commands"],
        "per_second": summary(records, "per_second"),
        "cpu_seconds_per_1000": cost,
        "accepted_per_cpu_second": 1000 / cost.median,
    }
    return Table(_INTAKE, [row])


def backlog(records: Records) -> Table:
    """Returns what a command costs with each backlog, and how much more than with the least."""
    least = records[0]["cpu_seconds_per_1000"]
    rows = [
        record | {"more_than_smallest": record["cpu_seconds_per_1000"] / least - 1}
        for record in records
    ]
    return Table(_BACKLOG, rows)


def interactive(records: Records) -> Table:
    """Returns how long interactive commands take while the bulk lane rests, and while it runs."""
    words = {"waits": "wait, for their lane is paused", "runs": "are worked off"}
    figures = ("p50_ms", "p99_ms")
    rows = [
        {
            "bulk": f"{rounds[0]['backlog']:,} {words[way]}",
            "bulk_per_second": summary(rounds, "bulk_per_second") if way == "runs" else None,
            "commands": sum(record["commands"] for record in rounds),
            **{figure: summary(rounds, figure) for figure in figures},
            "most_ms": max(record["most_ms"] for record in rounds),
        }
        for way, rounds in _by_way(records).items()
    ]
    return Table(_INTERACTIVE, rows)


def footprint(records: Records) -> Table:
    """Returns what a command takes of Redis in each state."""
    words = {"waiting": "waits", "running": "runs", "ended": "has ended"}
    return Table(_FOOTPRINT, [record | {"does": words[record["state"]]} for record in records])


def images(records: Records) -> Table:
    """Returns what images come to, inline and by path."""
    words = {"inline": "inline, base64", "path": "by path"}
    figures = ("per_second", "cpu_seconds_per_1000", "memory_bytes")
    rows = [
        {
            "images": words[way],
            **{figure: summary(rounds, figure) for figure in figures},
            "waiting_kilobytes": summary(rounds, "waiting_bytes").median / 1000,
        }
        for way, rounds in _by_way(records).items()
    ]
    return Table(_IMAGES, rows)


def gateway(records: Records) -> Table:
    """Returns what commands over HTTP come to, one at a time and as lines."""
    words = {"single": "one at a time, 500 a second", "lines": "as NDJSON"}
    figures = ("per_second", "cpu_seconds_per_1000", "memory_bytes")
    rows = [
        {
            "sent": words[way],
            **{figure: summary(rounds, figure) for figure in figures},
            **{
                figure: summary(rounds, figure) if way == "single" else None
                for figure in ("p50_ms", "p99_ms")
            },
            "lost": sum(record["lost"] for record in rounds),
        }
        for way, rounds in _by_way(records).items()
    ]
    return Table(_GATEWAY, rows)


def monitoring(records: Records) -> Table:
    """Returns what a worker comes to without metrics and with them, compared within each round."""
    by_way = _by_way(records)
    scrapes = sum(record["scrapes"] for record in by_way["with"])
    words = {"without": "off", "with": f"scraped each second, {scrapes} times in all"}
    figures = ("per_second", "cpu_seconds_per_1000", "memory_bytes")
    rows = [
        {
            "metrics": words[way],
            **{figure: summary(rounds, figure) for figure in figures},
            **{
                name: _against(rounds, by_way["without"], figure) if way == "with" else None
                for name, figure in zip(("times_the_rate", "times_the_cpu"), figures, strict=False)
            },
            "rounds": len(rounds),
        }
        for way, rounds in ((way, by_way[way]) for way in words)
    ]
    return Table(_MONITORING, rows)


def _against(records: Records, others: Records, figure: str) -> Summary | None:
    ours, theirs = ({each["round"]: each[figure] for each in some} for some in (records, others))
    return ratio(ours, theirs)


def endurance(records: Records) -> Table:
    """Returns the worker's memory at the tenths of the run."""
    tenths = [records[0], *records[len(records) // 10 - 1 :: max(1, len(records) // 10)]]
    return Table(_ENDURANCE, tenths)


def _by_way(records: Records) -> dict[str, Records]:
    found: dict[str, Records] = {}
    for record in records:
        found.setdefault(record["way"], []).append(record)
    return found
