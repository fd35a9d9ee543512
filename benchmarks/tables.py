"""Each scenario's records as a table of the page, in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.statistics import Summary, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.contenders.contender import Contender
    from benchmarks.results import Records

OURS = "trainmaster"


def by_contender(records: Records) -> dict[str, Records]:
    """Returns the records of each contender, in the order of their first ones."""
    found: dict[str, Records] = {}
    for record in records:
        found.setdefault(record["contender"], []).append(record)
    return found


def by_round(records: Records, name: str) -> dict[int, float]:
    """Returns one figure of some records by their round."""
    return {record["round"]: record[name] for record in records}


def summary(records: Records, name: str) -> Summary:
    """Returns the summary of one figure over some records."""
    return Summary.of([record[name] for record in records])


def throughput(records: Records, titles: Mapping[str, str]) -> str:
    """Returns the rates, fastest last, each beside its CPU time and its ratio to ours."""
    found = by_contender(records)
    ours = found.get(OURS, [])
    ordered = sorted(found.items(), key=lambda item: summary(item[1], "per_second").median)
    return table(
        (
            "",
            "commands/s",
            "lowest – highest",
            "trainmaster is",
            "CPU s per 1,000",
            "trainmaster takes",
            "memory",
        ),
        (
            (
                titles.get(name, name),
                f"{summary(rounds, 'per_second').median:,.0f}",
                _range(summary(rounds, "per_second")),
                _times(ours, rounds, "per_second", name),
                f"{summary(rounds, 'cpu_seconds_per_1000').median:.2f}",
                _times(ours, rounds, "cpu_seconds_per_1000", name),
                f"{summary(rounds, 'memory_bytes').median / 1e6:,.0f} MB",
            )
            for name, rounds in ordered
        ),
    )


def the_others(records: Records) -> str:
    """Returns how busy the core of Redis and the stub was in the fastest runs, in a sentence."""
    shares = [
        (record["redis_cpu_seconds"] + record["stub_cpu_seconds"]) / record["seconds"]
        for record in records
    ]
    fastest = max(records, key=lambda record: record["per_second"])
    return (
        f"Redis and the stub took at most {max(shares):.0%} of their core; in the fastest run, of "
        f"{fastest['per_second']:,.0f} commands/s, Redis took "
        f"{fastest['redis_cpu_seconds'] / fastest['seconds']:.0%} of it and the stub "
        f"{fastest['stub_cpu_seconds'] / fastest['seconds']:.0%}."
    )


def latency(records: Records, titles: Mapping[str, str]) -> str:
    """Returns the percentiles: medians over the rounds."""
    found = by_contender(records)
    ordered = sorted(found.items(), key=lambda item: summary(item[1], "p50_ms").median)
    return table(
        ("", "p50", "p99", "p50, lowest – highest", "p99, lowest – highest"),
        (
            (
                titles.get(name, name),
                f"{summary(rounds, 'p50_ms').median:.1f} ms",
                f"{summary(rounds, 'p99_ms').median:.1f} ms",
                _range(summary(rounds, "p50_ms"), 1),
                _range(summary(rounds, "p99_ms"), 1),
            )
            for name, rounds in ordered
        ),
    )


def killed(records: Records, titles: Mapping[str, str]) -> str:
    """Returns what kills came to, all rounds together."""
    return table(
        (
            "",
            "kills",
            "commands",
            "without an event",
            "two events",
            "called twice",
            "all back after",
        ),
        (
            (
                titles.get(name, name),
                len(kills),
                *(
                    f"{sum(kill[figure] for kill in kills):,}"
                    for figure in ("commands", "lost", "told_twice", "called_twice")
                ),
                _back(kills),
            )
            for name, kills in by_contender(records).items()
        ),
    )


def intake(records: Records) -> str:
    """Returns how fast commands are accepted when none of them runs."""
    return table(
        ("commands", "accepted/s", "lowest – highest", "CPU s per 1,000", "accepted per CPU s"),
        (
            (
                f"{records[0]['commands']:,}",
                f"{summary(records, 'per_second').median:,.0f}",
                _range(summary(records, "per_second")),
                f"{summary(records, 'cpu_seconds_per_1000').median:.3f}",
                f"{1000 / summary(records, 'cpu_seconds_per_1000').median:,.0f}",
            ),
        ),
    )


def backlog(records: Records) -> str:
    """Returns what a command costs with each backlog, and how much more than with the least."""
    least = records[0]["cpu_seconds_per_1000"]
    return table(
        (
            "backlog",
            "commands/s",
            "CPU s per 1,000",
            "against the smallest",
            "Redis' CPU s per 1,000",
            "worker",
            "Redis",
        ),
        (
            (
                f"{record['backlog']:,}",
                f"{record['per_second']:,.0f}",
                f"{record['cpu_seconds_per_1000']:.3f}",
                f"{record['cpu_seconds_per_1000'] / least - 1:+.0%}",
                f"{record['redis_cpu_seconds_per_1000']:.3f}",
                f"{record['memory_bytes'] / 1e6:,.0f} MB",
                f"{record['redis_memory_bytes'] / 1e6:,.0f} MB",
            )
            for record in records
        ),
    )


def footprint(records: Records) -> str:
    """Returns what a command takes of Redis in each state."""
    return table(
        ("a command that", "takes", "and its events so far"),
        (
            (
                {"waiting": "waits", "running": "runs", "ended": "has ended"}[record["state"]],
                f"{record['bytes']:,.0f} B",
                f"{record['events_bytes']:,.0f} B",
            )
            for record in records
        ),
    )


def images(records: Records) -> str:
    """Returns what images come to, inline and by path."""
    ways: dict[str, Records] = {}
    for record in records:
        ways.setdefault(record["way"], []).append(record)
    return table(
        ("images", "commands/s", "CPU s per 1,000", "Redis for one that waits", "worker"),
        (
            (
                {"inline": "inline, base64", "path": "by path"}[way],
                f"{summary(rounds, 'per_second').median:,.0f}",
                f"{summary(rounds, 'cpu_seconds_per_1000').median:.2f}",
                f"{summary(rounds, 'waiting_bytes').median / 1000:,.1f} kB",
                f"{summary(rounds, 'memory_bytes').median / 1e6:,.0f} MB",
            )
            for way, rounds in ways.items()
        ),
    )


def gateway(records: Records) -> str:
    """Returns what commands over HTTP come to, one at a time and as lines."""
    ways: dict[str, Records] = {}
    for record in records:
        ways.setdefault(record["way"], []).append(record)
    return table(
        ("sent", "commands/s", "p50", "p99", "lost", "CPU s per 1,000", "gateway"),
        (
            (
                {"single": "one at a time, 500 a second", "lines": "as NDJSON"}[way],
                f"{summary(rounds, 'per_second').median:,.0f}",
                *(
                    f"{summary(rounds, name).median:.1f} ms" if way == "single" else ""
                    for name in ("p50_ms", "p99_ms")
                ),
                sum(record["lost"] for record in rounds),
                f"{summary(rounds, 'cpu_seconds_per_1000').median:.2f}",
                f"{summary(rounds, 'memory_bytes').median / 1e6:,.0f} MB",
            )
            for way, rounds in ways.items()
        ),
    )


def endurance(records: Records) -> str:
    """Returns the worker's memory at the tenths of the run."""
    tenths = [records[0], *records[len(records) // 10 - 1 :: max(1, len(records) // 10)]]
    return table(
        ("commands", "seconds", "worker", "Redis", "told twice"),
        (
            (
                f"{record['commands']:,}",
                f"{record['seconds']:,.0f}",
                f"{record['memory_bytes'] / 1e6:,.1f} MB",
                f"{record['redis_memory_bytes'] / 1e6:,.0f} MB",
                record["twice"],
            )
            for record in tenths
        ),
    )


def settings(contenders: Iterable[Contender]) -> str:
    """Returns how each contender was set up."""
    return table(
        ("", "concurrency", "concurrency at 500 ms", "set up"),
        ((one.title, one.concurrency, one.slow_concurrency, one.settings) for one in contenders),
    )


def machine(facts: Mapping[str, Any]) -> str:
    """Returns what the figures depend on besides the code."""
    rows = [
        ("processor", f"{facts['processor']}, {facts['cores']} cores"),
        ("the worker's core", facts["worker_core"]),
        ("core of Redis, stub and measuring", facts["other_core"]),
        ("memory", f"{facts['memory_bytes'] / 2**30:.0f} GiB"),
        ("system", facts["system"]),
        ("Python", facts["python"]),
        *([("Node", facts["node"])] if facts.get("node") else []),
        ("Redis", facts["redis_server"]),
        ("packages", ", ".join(f"{name} {number}" for name, number in facts["packages"].items())),
    ]
    return table(("", ""), rows)


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _range(found: Summary, digits: int = 0) -> str:
    return f"{found.lowest:,.{digits}f} – {found.highest:,.{digits}f}"


def _times(ours: Records, theirs: Records, figure: str, name: str) -> str:
    """Returns how many times theirs ours is, with the spread over the rounds."""
    found = ratio(by_round(ours, figure), by_round(theirs, figure))
    if found is None or name == OURS:
        return ""
    spread = f" ({found.lowest:.2f} – {found.highest:.2f})" if len(theirs) > 1 else ""
    return f"{found.median:.2f} ×{spread}"


def _back(kills: Records) -> str:
    if any(kill["lost"] for kill in kills):
        return f"not within {max(kill['waited_seconds'] for kill in kills):.0f} s"
    return f"{max(kill['seconds'] for kill in kills):.0f} s"
