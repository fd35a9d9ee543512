"""Changes the queue and Encord's code on purpose, and counts which changes the tests see.

Run by `dev.py mutate`. mutmut makes the mutants and finds out which tests call which function; this
draws a sample that a seed repeats, runs it, and says what survived. The settings, with the tests
that take part, are under `[tool.mutmut]` in pyproject.toml.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import click

ROOT: Final = Path(__file__).resolve().parents[1]
MUTANTS: Final = ROOT / "mutants"
MUTMUT: Final = Path(sys.executable).with_name("mutmut")
# Small, and run first: with it mutmut makes all mutants and maps all tests.
FIRST: Final = "worker.queue.groups.*"
# mutmut notes how pytest ended; these are its codes, all others are a test that failed.
SURVIVED: Final = 0
UNTESTED: Final = (5, 33)
TIMED_OUT: Final = (-24, 24, 36, 152, 255)
KILLED: Final = (1, 3)


@click.command()
@click.argument("modules", nargs=-1)
@click.option(
    "--sample", default=200, show_default=True, help="How many mutants; 0 is all of them."
)
@click.option("--seed", default=1, show_default=True, help="Which ones: the same seed, the same.")
@click.option("--processes", default=2, show_default=True, help="How many run at once.")
@click.option("--again", is_flag=True, help="Keep mutants/, with its map of the tests.")
def main(modules: tuple[str, ...], sample: int, seed: int, processes: int, again: bool) -> None:
    """Runs mutants of MODULES, files or folders below worker/, or of all that are mutated."""
    if not again:
        shutil.rmtree(MUTANTS, ignore_errors=True)
    mutmut(processes, FIRST)
    chosen = draw(within(sorted(results()), modules), sample, seed)
    if not chosen:
        raise click.UsageError(f"There are no mutants in {', '.join(modules) or 'the worker'}.")
    mutmut(processes, *chosen)
    click.echo(report(chosen, results(), seed))


def mutmut(processes: int, *names: str) -> None:
    """Runs mutants; mutmut has said why where it fails."""
    arguments = (str(MUTMUT), "run", "--max-children", str(processes), *names)
    code = subprocess.run(arguments, cwd=ROOT, check=False).returncode
    if code:
        sys.exit(code)


def results() -> dict[str, int | None]:
    """Returns how each mutant ended, None where it has not run."""
    ended: dict[str, int | None] = {}
    for meta in MUTANTS.rglob("*.py.meta"):
        ended |= json.loads(meta.read_bytes())["exit_code_by_key"]
    return ended


def within(names: list[str], modules: tuple[str, ...]) -> list[str]:
    """Returns the mutants of some files or folders, all of them where none is named."""
    prefixes = tuple(
        f"{module.removesuffix('.py').strip('/').replace('/', '.')}." for module in modules
    )
    return [name for name in names if name.startswith(prefixes)] if prefixes else names


def draw(names: list[str], sample: int, seed: int) -> list[str]:
    """Returns `sample` of the names, the same ones for the same seed; all of them for 0."""
    if not sample or sample >= len(names):
        return names
    return sorted(random.Random(seed).sample(names, sample))


def fate(code: int | None) -> str:
    """Returns what an exit code says of a mutant."""
    if code == SURVIVED:
        return "survived"
    if code in UNTESTED:
        return "no test"
    if code in TIMED_OUT:
        return "timed out"
    return "killed" if code in KILLED else "broken"


def report(chosen: list[str], ended: dict[str, int | None], seed: int) -> str:
    """Returns the score, and the names of those that no test saw."""
    fates = {name: fate(ended[name]) for name in chosen}
    counts = Counter(fates.values())
    seen = counts["killed"] + counts["timed out"]
    told = ", ".join(f"{count} {word}" for word, count in counts.most_common())
    lines = [
        f"{word}  {name}" for name, word in fates.items() if word not in {"killed", "timed out"}
    ]
    score = (
        f"{len(chosen)} of {len(ended)} mutants, seed {seed}: {told}; {seen / len(chosen):.1%} seen"
    )
    return "\n".join((*lines, score))


if __name__ == "__main__":
    main()
