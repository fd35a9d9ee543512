"""Where a delivery stands in a list, and how a list goes on behind it."""

from __future__ import annotations

import pytest

from worker.webhooks.deliveries import Position


@pytest.mark.parametrize(
    "text",
    ["0/a", "1700000000000/door/uid-1", "999999999999999/a/b/c"],
)
def test_a_position_is_read_as_it_was_handed_out(text: str) -> None:
    assert str(Position.read(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "/", "1", "1/", "/a", "x/a", "-1/a", "1.5/a", "１/a", "9999999999999999/a"],
)
def test_what_nobody_handed_out_is_no_position(text: str) -> None:
    with pytest.raises(ValueError, match="no position"):
        Position.read(text)


@pytest.mark.parametrize(
    ("one", "other", "is_behind"),
    [
        ((999, "z"), (1000, "a"), True),
        ((1001, "a"), (1000, "z"), False),
        ((1000, "a"), (1000, "b"), True),
        ((1000, "b"), (1000, "a"), False),
        ((1000, "a"), (1000, "a"), False),
        # By their bytes, as Redis has it: as texts of other languages they stand the other way.
        ((1000, "\uffff"), (1000, "\U00010000"), True),
    ],
)
def test_a_list_goes_on_with_what_is_older_and_of_the_same_moment_by_name(
    one: tuple[int, str], other: tuple[int, str], is_behind: bool
) -> None:
    assert Position(*one).is_behind(Position(*other)) is is_behind
