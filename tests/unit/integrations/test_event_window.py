"""What was read and is not done: what is missed counts once, and what is done is forgotten."""

from __future__ import annotations

from worker.integrations.event_window import EventWindow
from worker.integrations.follower_store import LeadAnswer


def window_at(number: int) -> EventWindow:
    """Returns a window behind an entry, the `number`th of its stream."""
    entry = f"{number}-0"
    return EventWindow(LeadAnswer(1, entry, number, 0, entry, number))


def take(window: EventWindow, number: int) -> None:
    """Has an entry be read that nobody wants."""
    assert window.add((b"%d-0" % number, {b"event": b"{}"}), None) is None


def test_what_was_trimmed_a_second_time_counts_without_the_first() -> None:
    window = window_at(1)
    assert window.find_missed("5-0", 4) == 3
    assert window.find_missed("5-0", 4) == 0, "nothing more was trimmed"
    take(window, 5)
    assert window.find_missed("9-0", 8) == 3
    take(window, 9)
    assert window.advance()
    assert (window.position, window.number, window.missed) == ("9-0", 9, 6)


def test_what_is_done_is_not_remembered() -> None:
    window = window_at(0)
    for number in range(1, 4):
        take(window, number)
        assert window.advance()
    assert not window._known
    window.read_again()
    assert window.read_to == "3-0"
