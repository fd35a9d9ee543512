"""A pytest plugin for mutants: the cheap tests first, and those of one file together.

mutmut names the tests of a mutant in no order. One after the other from many files they would start
and stop a file's servers again and again, and a mutant ends with the first test that fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts those without a sandbox first, each file's in the order of its lines."""
    items.sort(key=cost)


def cost(item: pytest.Item) -> tuple[bool, str, int]:
    """Returns what a test is sorted by."""
    fixtures: list[str] = getattr(item, "fixturenames", [])
    path, line, _ = item.location
    return "sandbox" in fixtures, path, line or 0
