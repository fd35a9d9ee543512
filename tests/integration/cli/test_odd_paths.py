"""Arguments that are paths, or that someone took for one."""

from __future__ import annotations

import json

import pytest

from tests.console import Console

# Nothing listens there: whoever asked it would say so, and end with another status.
console = Console("redis://127.0.0.1:1/0", "odd-paths")
UUID = "00000000-0000-4000-8000-000000000000"
OPTIONS = ("--project", UUID, "--attachment", UUID, "--training", UUID, "--task", "classification")
LONG = "x" * 300


@pytest.mark.parametrize("source", ["", " "])
def test_an_empty_source_is_not_the_folder_that_one_stands_in(source: str) -> None:
    """As of a variable that is not set: all pictures below would be sent."""
    said = console.run("backfill", "run", source, *OPTIONS)
    assert (said.code, said.out) == (2, "")
    assert "Invalid value for SOURCE: is empty" in said.err


def test_a_source_with_a_name_that_is_too_long_is_told_in_a_line() -> None:
    said = console.run("backfill", "run", LONG, *OPTIONS)
    assert (said.code, said.out) == (1, "")
    assert said.err.endswith(f"/{LONG}: can't be read: File name too long\n")


@pytest.mark.parametrize("option", ["conf-thresh", "iou-thresh", "rdp-thresh", "max-failure-share"])
@pytest.mark.parametrize("value", ["NaN", "0_1"])
def test_a_share_is_a_number_in_its_range(option: str, value: str) -> None:
    """NaN is in none: a backfill was begun that equals no plan, not even its own."""
    said = console.run("backfill", "run", __file__, *OPTIONS, f"--{option}={value}")
    assert (said.code, said.out) == (2, "")
    assert f"Invalid value for '--{option}'" in said.err


def test_json_in_place_of_a_file_is_told_where_it_belongs() -> None:
    command = {"type": "list_models", "data": {"query": LONG}}
    said = console.run("submit", json.dumps(command))
    assert (said.code, said.out) == (2, "")
    assert "JSON is read from a file, or with - from standard input" in said.err
