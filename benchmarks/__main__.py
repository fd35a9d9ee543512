"""Measures trainmaster beside other queues, and writes `docs/benchmarks.md`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.registry import contenders
from benchmarks.plan import Plan
from benchmarks.processes import Cores
from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for; returns the exit code."""
    options = _parser().parse_args(arguments)
    cores = Cores.of_machine()
    # Redis, the stub and everything else that is started here inherit it.
    os.sched_setaffinity(0, {cores.rest})
    everyone = contenders()
    plan = Plan(
        contenders=tuple(one for one in everyone if one.name in options.only) or everyone,
        cores=cores,
        short=options.short,
        rounds=options.rounds or (1 if options.short else 3),
        seconds=options.seconds or (2 if options.short else 8),
    )
    named = [scenario for scenario in SCENARIOS if scenario.name in options.only]
    for scenario in named or [one for one in SCENARIOS if options.long or not one.long]:
        print(f"# {scenario.name}", flush=True)
        for record in scenario.run(plan):
            print(line(record), flush=True)
    return 0


def line(record: dict[str, Any]) -> str:
    """Returns one run for people."""
    return "  ".join(
        f"{k}={round(v, 3) if isinstance(v, float) else v}"
        for k, v in record.items()
        if not isinstance(v, list)
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="only show that everything works")
    parser.add_argument("--long", action="store_true", help="a million commands too")
    parser.add_argument("--only", action="append", default=[], help="a scenario or a contender")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--seconds", type=float, help="about how long one measurement takes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
