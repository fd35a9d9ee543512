"""Rules of the page on the sandbox: its fault rules are ones that the sandbox takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import orjson
import pytest

from sandbox.faults import Faults, Operation, Rule, TrainingFault

PAGE = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text("utf-8")
EXAMPLES = [
    *re.findall(r"--data '(\[.*?\])'", PAGE, re.DOTALL),
    *(f"[{rule}]" for rule in re.findall(r'`(\{"operation".*?\})`[;,.]', PAGE, re.DOTALL)),
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_taken_whole(example: str) -> None:
    faults = Faults()
    faults.replace(example.encode())
    told = [
        {key: rule[key] for key in rule if key not in {"matched", "fired"}}
        for rule in faults.described()
    ]
    given = orjson.loads(example)
    assert [rule["effect"] for rule in told] == [rule["effect"] for rule in given]
    for operation in Operation:
        faults.judge(operation)
    assert all(rule["matched"] for rule in faults.described())


def test_there_are_as_many_examples_as_the_page_shows() -> None:
    assert len(EXAMPLES) == 4


def test_the_table_has_every_effect_with_all_its_fields() -> None:
    rules = get_args(get_args(Rule)[0])
    always = {"operation", "after", "count", "probability", "seed", "effect"}
    for rule in rules:
        (effect,) = get_args(rule.model_fields["effect"].annotation)
        (row,) = re.findall(rf"^\| `{effect}` \|.*$", PAGE, re.MULTILINE)
        assert all(f"`{name}`" in row for name in set(rule.model_fields) - always), effect
    for name in always:
        assert f"`{name}`" in PAGE


def test_the_page_names_every_way_of_a_training() -> None:
    for way in get_args(TrainingFault.model_fields["training"].annotation):
        assert f"`{way}`" in PAGE
