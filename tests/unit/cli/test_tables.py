"""How tables fit a terminal: ids shortened, columns left out, nothing broken in two."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from worker.cli.output import Column, fit, print_json, print_pretty_json, shorten

COLUMNS = (
    Column("id", shorten=True),
    Column("type"),
    Column("lane", drop=2),
    Column("changed", drop=1),
)


@pytest.mark.parametrize(
    ("text", "cells", "shown"),
    [
        ("night/17", 8, "night/17"),
        ("night-0001-of-many-f3a2", 15, "night-0001…f3a2"),
        ("東京の夜の写真第一号", 11, "東京の夜…号"),
        ("東京", 3, "東…"),
        ("abc", 1, "a…"),
    ],
)
def test_an_id_is_shortened_in_its_middle(text: str, cells: int, shown: str) -> None:
    assert shorten(text, cells) == shown


@given(st.text(min_size=1, max_size=300), st.integers(2, 300))
def test_what_is_shortened_fits_and_what_fits_stays(text: str, cells: int) -> None:
    shown = shorten(text, cells)
    assert shown == text if cell_len(text) <= cells else cell_len(shown) <= cells


def test_columns_are_left_out_by_importance_before_an_id_loses_its_uuid() -> None:
    natural = [36, 11, 11, 10]
    assert fit(COLUMNS, natural, 74) == natural
    assert fit(COLUMNS, natural, 73) == [36, 11, 0, 10]
    assert fit(COLUMNS, natural, 60) == [36, 11, 0, 0]
    assert fit(COLUMNS, natural, 40) == [27, 11, 0, 0]


def test_an_id_takes_the_room_that_others_leave() -> None:
    assert fit(COLUMNS, [255, 11, 11, 10], 80) == [42, 11, 11, 10]
    assert fit(COLUMNS, [255, 11, 11, 10], 400) == [255, 11, 11, 10]


def test_of_two_that_may_be_shortened_the_one_that_lacks_less_is_whole_first() -> None:
    columns = (Column("id", shorten=True), Column("type", shorten=True, least=10))
    assert fit(columns, [255, 25], 80) == [53, 25]
    assert fit(columns, [255, 25], 50) == [36, 12]


@given(st.lists(st.integers(1, 255), min_size=4, max_size=4), st.integers(30, 300))
def test_a_line_is_never_wider_than_the_terminal(natural: list[int], width: int) -> None:
    widths = [each for each in fit(COLUMNS, natural, width) if each]
    assert sum(widths) + 2 * (len(widths) - 1) <= width


@given(
    st.dictionaries(
        st.text(), st.text() | st.sampled_from(["\x7f", "\x9b2J", "\u202e", "\U000e0001"])
    )
)
def test_what_others_wrote_is_the_same_in_json_and_moves_no_cursor(found: dict[str, str]) -> None:
    for print_it in (print_json, print_pretty_json):
        with redirect_stdout(io.StringIO()) as shown:
            print_it(found)
        assert json.loads(shown.getvalue()) == found
        assert shown.getvalue().replace("\n", "").isprintable()
