"""Measures: `python3 dev.py bench [--short] [--only NAME]`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import throughput
from benchmarks.contenders.registry import contenders
from benchmarks.plan import Plan
from benchmarks.processes import Cores

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="only show that everything works")
    parser.add_argument("--only", action="append", default=[], help="of this name; again for more")
    parser.add_argument("--rounds", type=int, help="how often each is measured")
    parser.add_argument("--seconds", type=float, help="about how long one measurement takes")
    options = parser.parse_args(arguments)
    cores = Cores.of_machine()
    # Redis, the stub and everything else that is started here inherit it.
    os.sched_setaffinity(0, {cores.rest})
    plan = Plan(
        contenders=tuple(c for c in contenders() if not options.only or c.name in options.only),
        cores=cores,
        short=options.short,
        rounds=options.rounds or (1 if options.short else 3),
        seconds=options.seconds or (2 if options.short else 8),
    )
    for record in throughput.run(plan):
        print(line(record), flush=True)
    return 0


def line(record: dict[str, Any]) -> str:
    """Returns one run for people."""
    return (
        f"{record['contender']:16} {record['per_second']:8.0f}/s "
        f"{record['cpu_seconds_per_1000']:6.3f} CPU s per 1,000 "
        f"{record['memory_bytes'] / 1e6:6.0f} MB {record['commands']:7} commands"
    )


if __name__ == "__main__":
    sys.exit(main())
