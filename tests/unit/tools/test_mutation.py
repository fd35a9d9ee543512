"""Rules of `dev.py mutate`: a sample that a seed repeats, a score that hides nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools.mutation import draw, report, within

ROOT = Path(__file__).parents[3]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]
NAMES = [f"worker.{folder}.module.x_act__mutmut_{n}" for folder in "ab" for n in range(20)]


def test_the_list_of_commands_tells_of_mutate() -> None:
    told = subprocess.run(
        [sys.executable, ROOT / "dev.py", "--help"], capture_output=True, check=True
    )
    assert b"\n  mutate " in told.stdout


@pytest.mark.parametrize("named", SETTINGS["pytest_add_cli_args_test_selection"])
def test_the_tests_that_judge_mutants_exist(named: str) -> None:
    assert (ROOT / named).is_file()


@pytest.mark.parametrize("named", [*SETTINGS["source_paths"], *SETTINGS["also_copy"]])
def test_the_folders_that_mutants_need_exist(named: str) -> None:
    assert (ROOT / named).is_dir()


def test_what_is_mutated_has_modules() -> None:
    for pattern in SETTINGS["only_mutate"]:
        assert any((ROOT / pattern.removesuffix("*")).rglob("*.py"))


def test_a_seed_draws_the_same_sample_again_and_another_seed_another() -> None:
    assert draw(NAMES, 10, 1) == draw(NAMES, 10, 1) != draw(NAMES, 10, 2)
    assert len(set(draw(NAMES, 10, 1))) == 10


@pytest.mark.parametrize("sample", [0, 40, 41])
def test_no_sample_or_a_large_one_is_all_of_them(sample: int) -> None:
    assert draw(NAMES, sample, 1) == NAMES


@pytest.mark.parametrize("module", ["worker/b", "worker/b/", "worker/b/module.py"])
def test_mutants_are_chosen_by_file_or_folder(module: str) -> None:
    assert within(NAMES, (module,)) == NAMES[20:]
    assert within(NAMES, ("worker/a", module)) == within(NAMES, ()) == NAMES


def test_the_score_counts_what_no_test_calls_and_what_broke_as_unseen() -> None:
    ended = dict(zip(NAMES, (1, 36, 0, 33, -11, *[None] * 35), strict=True))
    *unseen, score = report(NAMES[:5], ended, 7).splitlines()
    assert unseen == [
        f"survived  {NAMES[2]}",
        f"no test  {NAMES[3]}",
        f"broken  {NAMES[4]}",
    ]
    assert score.startswith("5 of 40 mutants, seed 7: 1 killed, 1 timed out, 1 survived, ")
    assert score.endswith("; 40.0% seen")
