"""Changes to a command before it is sent again."""

from __future__ import annotations

from worker.queue.ledger.replay import merge


def test_a_change_replaces_values_and_completes_objects() -> None:
    base = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge(base, {"a": {"c": 3}, "d": [2]}) == {"a": {"b": 1, "c": 3}, "d": [2]}
    assert base == {"a": {"b": 1, "c": 2}, "d": [1]}
