"""The client without an event loop: the other one's words, and nothing of its loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.blocking_client import MODULES, SOURCE, made_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("source", MODULES, ids=lambda source: source.stem)
def test_the_client_without_an_event_loop_is_what_is_made_of_the_other_one(source: Path) -> None:
    stale = "run python -m tools.blocking_client --write"
    assert made_of(source.read_text(), source.stem) == MODULES[source].read_text(), stale


@pytest.mark.parametrize(
    "left", ["import asyncio", "x: AsyncIterator[int]", "def __anext__(): ..."]
)
def test_nothing_of_an_event_loop_gets_into_the_client_without_one(left: str) -> None:
    with pytest.raises(ValueError, match="no word for"):
        made_of(f"{SOURCE.read_text()}\n{left}\n")


def test_a_word_that_the_source_no_longer_says_is_taken_off_the_list() -> None:
    with pytest.raises(ValueError, match="take it off the list"):
        made_of(SOURCE.read_text().replace("tasks may share it", "share it"))
