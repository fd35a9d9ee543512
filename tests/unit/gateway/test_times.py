"""Times in milliseconds: exact, whatever floats make of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from worker.gateway.times import milliseconds_of

BEGUN = datetime(2026, 11, 28, 10, 8, 1, tzinfo=UTC)


def test_each_millisecond_is_itself() -> None:
    first = milliseconds_of(BEGUN)
    found = [milliseconds_of(BEGUN + timedelta(milliseconds=each)) for each in range(1000)]
    assert found == list(range(first, first + 1000))
    assert milliseconds_of(BEGUN + timedelta(microseconds=999)) == first


def test_a_time_of_any_zone_is_the_same_moment() -> None:
    there = BEGUN.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert milliseconds_of(there) == milliseconds_of(BEGUN)
    assert milliseconds_of(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    with pytest.raises(TypeError):
        milliseconds_of(BEGUN.replace(tzinfo=None))
