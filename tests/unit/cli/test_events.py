"""The events of several namespaces as one: those that are there by time, then what comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from trainmaster_client import Event
from worker.cli.context import LedgerContext
from worker.cli.events import _told

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE, OTHER = (LedgerContext(None, name) for name in ("one", "other"))
THERE = {
    ONE: ["1000-0", "1000-2", "1000-10", "3000-0"],
    OTHER: ["999-5", "1000-9", "2000-0"],
}


class Stored:
    """What two namespaces have, and what comes to each."""

    def __init__(self) -> None:
        self.asked: list[tuple[LedgerContext, str, bool]] = []
        self.coming: dict[LedgerContext, list[str | Exception]] = {ONE: [], OTHER: []}

    def __call__(self, one: LedgerContext, after: str, *, follows: bool) -> Iterator[Event]:
        self.asked.append((one, after, follows))
        if not follows:
            yield from (Event(each, {}) for each in THERE[one])
            return
        for each in self.coming[one]:
            if isinstance(each, Exception):
                raise each
            yield Event(each, {})


def ids(events: Iterator[Event], most: int = 100) -> list[str]:
    return [event.entry_id for _, event in zip(range(most), events, strict=False)]


def test_the_events_of_several_namespaces_are_told_by_the_time_of_their_entries() -> None:
    read = Stored()
    assert ids(_told([ONE, OTHER], read, "0-0", follow=False)) == [
        *("999-5", "1000-0", "1000-2", "1000-9", "1000-10", "2000-0", "3000-0"),
    ]
    assert read.asked == [(ONE, "0-0", False), (OTHER, "0-0", False)]


def test_what_comes_is_read_from_where_each_namespace_had_come_to() -> None:
    read = Stored()
    read.coming = {ONE: ["4000-0", "6000-0"], OTHER: ["5000-0"]}
    found = ids(_told([ONE, OTHER], read, "0-0", follow=True), most=10)
    assert found[:7] == ids(_told([ONE, OTHER], Stored(), "0-0", follow=False))
    assert sorted(found[7:]) == ["4000-0", "5000-0", "6000-0"]
    assert sorted(read.asked[2:], key=str) == sorted(
        [(ONE, "3000-0", True), (OTHER, "2000-0", True)], key=str
    )


def test_trouble_of_one_namespace_ends_it() -> None:
    read = Stored()
    read.coming[OTHER] = [ValueError("of one")]
    with pytest.raises(ValueError, match="of one"):
        ids(_told([ONE, OTHER], read, "0-0", follow=True))


def test_the_events_of_one_namespace_are_told_as_they_are_read() -> None:
    read = Stored()
    assert ids(_told([ONE], read, "7-0", follow=False)) == THERE[ONE]
    read.coming[ONE] = cast("list[str | Exception]", ["4000-0"])
    assert ids(_told([ONE], read, "7-0", follow=True)) == ["4000-0"]
    assert read.asked == [(ONE, "7-0", False), (ONE, "7-0", True)]
