"""Times in milliseconds: exact, whatever floats make of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker.times import milliseconds_of

BEGUN = datetime(2026, 11, 28, 10, 8, 1, tzinfo=UTC)


@pytest.mark.parametrize("year", [2004, 2026, 2038])
def test_each_millisecond_is_itself(year: int) -> None:
    """By way of seconds a quarter of them would be one less in 2004, 2038 and 2039."""
    begun = datetime(year, 5, 1, tzinfo=UTC)
    first = milliseconds_of(begun)
    found = [milliseconds_of(begun + timedelta(milliseconds=each)) for each in range(1000)]
    assert found == list(range(first, first + 1000))
    assert milliseconds_of(begun + timedelta(microseconds=999)) == first


def test_a_time_of_any_zone_is_the_same_moment() -> None:
    there = BEGUN.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert milliseconds_of(there) == milliseconds_of(BEGUN)
    assert milliseconds_of(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    with pytest.raises(TypeError):
        milliseconds_of(BEGUN.replace(tzinfo=None))
