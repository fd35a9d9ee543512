"""Which dead letters are meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.events import ErrorCode
from worker.gateway.views.dead_letters import (
    LetterChoice,
    correlation_id_of,
    milliseconds,
    state_of,
)
from worker.queue.ledger.dead_letters import DeadLetter

TEXT = b'{"type": "train", "correlationid": "c-1"}'


def letter(reason: str = "not_found", text: bytes = TEXT) -> DeadLetter:
    return DeadLetter("7-0", "night", "train", reason, {"code": reason}, text, 1, [], 7)


def test_a_time_is_counted_in_milliseconds_since_1970_and_never_before() -> None:
    assert milliseconds(None) is None
    assert milliseconds(datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)) == 1500
    assert milliseconds(datetime(1969, 12, 31, tzinfo=UTC)) == 0
    assert milliseconds(datetime(1, 1, 1, tzinfo=UTC) + timedelta(days=1)) == 0


@pytest.mark.parametrize("code", list(ErrorCode))
def test_what_was_never_accepted_is_rejected_and_all_else_failed(code: ErrorCode) -> None:
    expected = "rejected" if code.fate == "rejected" else "failed"
    assert state_of(letter(code)) == expected
    assert state_of(letter("of_tomorrow")) == "failed"


def test_there_are_letters_of_both_kinds() -> None:
    assert {state_of(letter(code)) for code in ErrorCode} == {"rejected", "failed"}


@pytest.mark.parametrize(
    ("choice", "fits"),
    [
        ({}, True),
        ({"names": frozenset({"night"})}, True),
        ({"names": frozenset({"7-0", "x"})}, True),
        ({"names": frozenset({"nigh"})}, False),
        ({"names": frozenset()}, False),
        ({"state": "failed"}, True),
        ({"state": "rejected"}, False),
        ({"correlation_id": "c-1"}, True),
        ({"correlation_id": "c-2"}, False),
        ({"names": frozenset({"night"}), "correlation_id": "c-2"}, False),
        ({"names": frozenset({"night"}), "state": "rejected"}, False),
    ],
)
def test_a_letter_is_meant_where_all_that_is_said_fits(
    choice: dict[str, Any], *, fits: bool
) -> None:
    assert LetterChoice(**choice)._fits(letter()) == fits


def test_a_message_that_is_no_command_may_name_what_it_belongs_to() -> None:
    assert correlation_id_of(TEXT) == "c-1"
    for odd in (b"", b"\xff", b"[]", b'{"correlationid": 7}', b'{"type": "x"}'):
        assert correlation_id_of(odd) is None
