"""Measures trainmaster beside other queues, and renders the page of the documentation."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.contenders.registry import contenders
from benchmarks.errors import BenchmarkError
from benchmarks.plan import Plan
from benchmarks.processes import Cores
from benchmarks.report.page import FOLDER, Page
from benchmarks.results import Results
from benchmarks.scenarios.registry import SCENARIOS, Scenario
from benchmarks.testbed import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE: Final = ROOT / "docs" / "benchmarks.md"
SHORT_OUTPUT: Final = ROOT / "bench-output"
ROUNDS: Final = 3
SECONDS: Final = 6.0
SHORT_SECONDS: Final = 2.0
WRONG_USAGE: Final = 2
TERMINATED: Final = 128 + signal.SIGTERM


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for; returns the exit code."""
    # As after an interrupt, everything that was started is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    sys.unraisablehook = _exit_again
    options = _parser().parse_args(arguments)
    everyone = contenders()
    known = {one.name for one in everyone} | {one.name for one in SCENARIOS}
    if unknown := [name for name in options.only if name not in known]:
        print(f"{', '.join(unknown)}: not one of {', '.join(sorted(known))}", file=sys.stderr)
        return WRONG_USAGE
    chosen = tuple(one for one in everyone if one.name in options.only)
    if missing := [one.name for one in chosen if not one.installed]:
        print(f"{', '.join(missing)}: not installed here", file=sys.stderr)
        return WRONG_USAGE
    # Only whole runs go into the documentation.
    whole = not (options.short or chosen or options.rounds or options.seconds)
    output: Path = options.output or (PAGE.parent if whole else SHORT_OUTPUT)
    # What no scenario has come to, for all of them failed, is rendered too.
    (output / FOLDER).mkdir(parents=True, exist_ok=True)
    results = Results(output / FOLDER / "results.json")
    code = 0
    if not options.render:
        cores = Cores.of_machine()
        # Redis, the stub and everything else that is started here inherit it.
        os.sched_setaffinity(0, {cores.rest})
        plan = Plan(
            contenders=chosen or tuple(one for one in everyone if one.installed),
            cores=cores,
            short=options.short,
            long=options.long,
            rounds=options.rounds or (1 if options.short else ROUNDS),
            seconds=options.seconds or (SHORT_SECONDS if options.short else SECONDS),
        )
        for scenario in _scenarios(options.only, long=options.long):
            code = max(code, measure(scenario, plan, results))
    _render(Page(results, everyone, output), output)
    return code


def _render(page: Page, output: Path) -> None:
    """Writes the page, its pictures and its tables as JSON."""
    file = output / PAGE.name
    if file != PAGE:
        shutil.copy(PAGE, file)
    file.write_text(page.renew(file.read_text("utf-8")), "utf-8")
    # Not made by the pictures where nothing was measured that has one.
    (output / FOLDER / "tables.json").write_bytes(page.json())
    print(f"written: {file}", flush=True)


def _exit_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Exits once more where Python dropped the exit: it came in the midst of a finalizer."""
    if issubclass(unraisable.exc_type, SystemExit):
        # Not now, or this one would be dropped too.
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(TERMINATED))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    else:
        sys.__unraisablehook__(unraisable)


def measure(scenario: Scenario, plan: Plan, results: Results) -> int:
    """Measures a scenario, prints each record as it comes and keeps them; returns the exit code."""
    print(f"\n{scenario.name}", flush=True)
    begun = time.monotonic()
    records = []
    try:
        for record in scenario.run(plan):
            records.append(record)
            print(f"  {line(record)}", flush=True)
    except BenchmarkError as exc:
        print(f"{scenario.name}: {exc}", file=sys.stderr)
        return 1
    results.put(scenario.name, plan, records)
    print(f"  {time.monotonic() - begun:.0f} s", flush=True)
    return 0


def line(record: dict[str, Any]) -> str:
    """Returns a record on one line; lists are only in the raw results."""
    return "  ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in record.items()
        if not isinstance(value, list)
    )


def _scenarios(only: Sequence[str], *, long: bool) -> list[Scenario]:
    named = [scenario for scenario in SCENARIOS if scenario.name in only]
    if named:
        return named
    if only:
        # A contender alone is about its rate; that is what one tunes.
        return [scenario for scenario in SCENARIOS if scenario.name == "throughput"]
    return [scenario for scenario in SCENARIOS if long or not scenario.long]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="only show that everything works")
    parser.add_argument(
        "--long", action="store_true", help="a million commands too, and more kills"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="a scenario, or a contender; may be given more than once",
    )
    parser.add_argument("--rounds", type=int, help=f"how often each is measured; {ROUNDS}")
    parser.add_argument("--seconds", type=float, help=f"length of one measurement; {SECONDS:g}")
    parser.add_argument("--output", type=Path, help="folder of the page, docs by default")
    parser.add_argument("--render", action="store_true", help="measure nothing, render again")
    return parser


if __name__ == "__main__":
    sys.exit(main())
