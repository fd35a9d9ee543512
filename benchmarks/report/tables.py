"""The tables that compare contenders, made of each scenario's records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.report.table import (
    Column,
    Row,
    Table,
    cpu_seconds,
    megabytes,
    number,
    spread,
    times,
)
from benchmarks.statistics import Summary, percentile, ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.contenders.contender import Contender
    from benchmarks.results import Records

OURS: Final = "trainmaster"

_WHO: Final = Column("title", "")
_RATE: Final = (
    _WHO,
    Column("per_second", "commands/s", number()),
    Column("per_second", "lowest – highest", spread()),
    Column("times_the_rate", "trainmaster is", times),
    Column("cpu_seconds_per_1000", "CPU s per 1,000", cpu_seconds),
    Column("times_the_cpu", "trainmaster takes", times),
    Column("redis_cpu_seconds_per_1000", "Redis' CPU s per 1,000", cpu_seconds),
    Column("memory_bytes", "memory", megabytes()),
)
_LATENCY: Final = (
    _WHO,
    Column("p50_ms", "p50", number(1, " ms")),
    Column("p99_ms", "p99", number(1, " ms")),
    Column("p50_ms", "p50, lowest – highest", spread(1)),
    Column("p99_ms", "p99, lowest – highest", spread(1)),
)
_COLD: Final = (
    _WHO,
    Column("p50_at_rest_ms", "p50 at rest", number(1, " ms")),
    Column("p50_ms", "p50 after a rest", number(1, " ms")),
    Column("times_at_rest", "of that at rest", number(2, " ×")),
    Column("most_ms", "longest", number(1, " ms")),
    Column("commands", "commands", number()),
    Column("rest_seconds", "rest", number(0, " s")),
)
_PACED: Final = (
    _WHO,
    Column("per_second", "commands/s", number()),
    Column("cpu_seconds_per_1000", "CPU s per 1,000", cpu_seconds),
    Column("times_the_cpu", "trainmaster takes", times),
    Column("redis_cpu_seconds_per_1000", "Redis' CPU s per 1,000", cpu_seconds),
    Column("p50_ms", "p50", number(1, " ms")),
    Column("p99_ms", "p99", number(1, " ms")),
    Column("p99_ms", "p99, lowest – highest", spread(1)),
)
_KILLED: Final = (
    _WHO,
    Column("kills", "kills"),
    Column("commands", "commands", number()),
    Column("lost", "without an event", number()),
    Column("told_twice", "two events", number()),
    Column("called_twice", "called twice", number()),
    Column("back_after_seconds", "all back after", number(0, " s")),
    Column("not_within_seconds", "not all within", number(0, " s")),
)
_DOES: Final = (
    _WHO,
    Column("validates", "validates"),
    Column("record", "keeps a record"),
    Column("events", "events for a command"),
    Column("calls", "calls for one id, sent 3 times", number()),
    Column("lost_answer", "a creation whose answer is lost"),
)
_SETTINGS: Final = (
    _WHO,
    Column("concurrency", "concurrency"),
    Column("slow_concurrency", "concurrency at 500 ms"),
    Column("settings", "set up"),
)


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


def throughput(records: Records, titles: Mapping[str, str]) -> Table:
    """Returns the rates, fastest last, each beside its CPU time and its ratio to ours."""
    found = by_contender(records)
    ours = found.get(OURS, [])
    rows = [
        {
            **_named(name, titles),
            **_summaries(rounds, "per_second", "cpu_seconds_per_1000", "memory_bytes"),
            "times_the_rate": _times(ours, rounds, "per_second"),
            "times_the_cpu": _times(ours, rounds, "cpu_seconds_per_1000"),
            "redis_cpu_seconds_per_1000": Summary.of([
                record["redis_cpu_seconds"] / record["commands"] * 1000 for record in rounds
            ]),
        }
        for name, rounds in found.items()
    ]
    return Table(_RATE, sorted(rows, key=lambda row: row["per_second"].median))


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


def latency(records: Records, titles: Mapping[str, str]) -> Table:
    """Returns the percentiles: medians over the rounds, least first."""
    rows = [
        {**_named(name, titles), **_summaries(rounds, "p50_ms", "p99_ms")}
        for name, rounds in by_contender(records).items()
    ]
    return Table(_LATENCY, sorted(rows, key=lambda row: row["p50_ms"].median))


def cold(records: Records, titles: Mapping[str, str]) -> Table:
    """Returns how long the first command after a rest takes, all rounds together."""
    rows = []
    for name, rounds in by_contender(records).items():
        after, before = (
            percentile([each for record in rounds for each in record[figure]], 0.50)
            for figure in ("milliseconds", "at_rest_milliseconds")
        )
        rows.append({
            **_named(name, titles),
            "p50_at_rest_ms": before,
            "p50_ms": after,
            "times_at_rest": after / before,
            "most_ms": max(max(record["milliseconds"]) for record in rounds),
            "commands": sum(len(record["milliseconds"]) for record in rounds),
            "rest_seconds": rounds[0]["rest_seconds"],
        })
    return Table(_COLD, sorted(rows, key=lambda row: row["p50_ms"]))


def paced(records: Records, titles: Mapping[str, str]) -> Table:
    """Returns what a steady load costs, least first."""
    found = by_contender(records)
    ours = found.get(OURS, [])
    rows = [
        {
            **_named(name, titles),
            **_summaries(
                rounds,
                "per_second",
                "cpu_seconds_per_1000",
                "redis_cpu_seconds_per_1000",
                "p50_ms",
                "p99_ms",
            ),
            "times_the_cpu": _times(ours, rounds, "cpu_seconds_per_1000"),
        }
        for name, rounds in found.items()
    ]
    return Table(_PACED, sorted(rows, key=lambda row: row["cpu_seconds_per_1000"].median))


def killed(records: Records, titles: Mapping[str, str]) -> Table:
    """Returns what kills came to, all rounds together."""
    rows = [
        {
            **_named(name, titles),
            "kills": len(kills),
            **{
                figure: sum(kill[figure] for kill in kills)
                for figure in ("commands", "lost", "told_twice", "called_twice")
            },
            **_back(kills),
        }
        for name, kills in by_contender(records).items()
    ]
    return Table(_KILLED, rows)


def does(contenders: Iterable[Contender], repeats: Records) -> Table:
    """Returns what each contender does for a command besides carrying it out.

    Args:
        contenders: in their order.
        repeats: how often the API was called for one id; empty where that was not measured.
    """
    calls = {record["contender"]: record["calls"] for record in repeats}
    rows = [
        {
            "contender": one.name,
            "title": one.title,
            "validates": one.validates,
            "record": one.record,
            "events": one.events,
            "calls": calls.get(one.name),
            "lost_answer": one.lost_answer,
        }
        for one in contenders
    ]
    return Table(_DOES, rows)


def settings(contenders: Iterable[Contender]) -> Table:
    """Returns how each contender was set up."""
    rows = [
        {
            "contender": one.name,
            "title": one.title,
            "concurrency": one.concurrency,
            "slow_concurrency": one.slow_concurrency,
            "settings": one.settings,
        }
        for one in contenders
    ]
    return Table(_SETTINGS, rows)


def machine(facts: Mapping[str, Any]) -> Table:
    """Returns what the figures depend on besides the code."""
    said = {
        "processor": f"{facts['processor']}, {facts['cores']} cores",
        "the worker's core": facts["worker_core"],
        "core of Redis, stub and measuring": facts["other_core"],
        "memory": f"{facts['memory_bytes'] / 2**30:.0f} GiB",
        "system": facts["system"],
        "Python": facts["python"],
        # Results of a machine without Node, or of a time before its queues were measured.
        **({"Node": facts["node"]} if facts.get("node") else {}),
        "Redis": facts["redis_server"],
        "packages": ", ".join(f"{name} {number}" for name, number in facts["packages"].items()),
    }
    rows = [{"fact": fact, "value": value} for fact, value in said.items()]
    return Table((Column("fact", ""), Column("value", "")), rows)


def _named(name: str, titles: Mapping[str, str]) -> Row:
    return {"contender": name, "title": titles.get(name, name)}


def _summaries(rounds: Records, *figures: str) -> Row:
    return {figure: summary(rounds, figure) for figure in figures}


def _times(ours: Records, theirs: Records, figure: str) -> Summary | None:
    """Returns how many times theirs ours is, None for ours itself."""
    if ours is theirs:
        return None
    return ratio(by_round(ours, figure), by_round(theirs, figure))


def _back(kills: Records) -> Row:
    """Returns when all were back; if they were not, how long they were waited for."""
    back, waited = (max(kill[name] for kill in kills) for name in ("seconds", "waited_seconds"))
    if any(kill["lost"] for kill in kills):
        return {"back_after_seconds": None, "not_within_seconds": waited}
    return {"back_after_seconds": back, "not_within_seconds": None}
