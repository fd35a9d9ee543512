"""What each event makes of a command's row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.stream_events import FIRST_MS, entry
from trainmaster_client.events import event_of
from worker.gateway.read_model.rows import KeptRow, fold

if TYPE_CHECKING:
    from trainmaster_client import Event


def read(number: int, event_type: str, **told: Any) -> Event:
    event = event_of(*entry(number, "night", event_type, **told))
    assert event is not None
    return event


def after(*events: Event) -> KeptRow:
    row: KeptRow | None = None
    for event in events:
        row = fold(row, event)
    assert row is not None
    return row


def test_a_row_tells_what_its_last_event_said() -> None:
    told = [
        read(0, "train.accepted", correlationid="nightly"),
        read(1, "train.retrying"),
        read(2, "train.succeeded"),
    ]
    states = [after(*told[: number + 1]).row for number in range(3)]
    assert [row.state for row in states] == ["accepted", "retrying", "succeeded"]
    assert [row.attempts for row in states] == [0, 1, 2]
    assert [row.error_code for row in states] == [None, "server_error", None]
    assert [row.changed_at_ms - FIRST_MS for row in states] == [0, 10, 20]
    last = states[-1]
    assert (last.id, last.type, last.correlation_id) == ("night", "train", "nightly")
    assert (last.accepted_at_ms, last.entry_id) == (FIRST_MS, f"{FIRST_MS + 20}-0")
    assert after(*told).first_entry == (FIRST_MS, 0)


def test_attempts_are_known_though_a_later_event_tells_none() -> None:
    told = (read(0, "train.accepted"), read(1, "train.retrying"))
    assert after(*told, read(2, "train.started")).row.attempts == 1
    assert after(*told, read(2, "train.cancelled")).row.attempts == 1


def test_an_event_that_stands_there_twice_changes_nothing() -> None:
    accepted, failed = read(0, "train.accepted"), read(1, "train.failed")
    once = after(accepted, failed)
    for repeated in (accepted, failed, read(2, "train.retrying"), read(2, "train.succeeded")):
        assert fold(once, repeated) is once
    assert after(accepted, read(1, "train.retrying"), accepted).row.state == "retrying"


def test_a_rejected_message_leaves_the_command_that_has_its_id() -> None:
    accepted = read(0, "train.accepted", origin="1-0")
    rejected = read(1, "train.rejected", origin="2-0")
    assert after(accepted, rejected).row.state == "accepted"
    alone = after(rejected).row
    assert (alone.state, alone.error_code, alone.accepted_at_ms) == (
        "rejected",
        "invalid_command",
        None,
    )
    # What was wrong was put right and sent again.
    again = after(rejected, read(2, "attach.accepted", origin="3-0"))
    assert (again.row.state, again.row.type) == ("accepted", "attach")
    assert again.row.error_code is None
    # Or was sent again, and is still wrong: what is told is the last try.
    still_wrong = after(rejected, read(2, "attach.rejected", origin="3-0"))
    assert (still_wrong.row.type, still_wrong.first_entry) == ("attach", (FIRST_MS + 20, 0))


def test_an_id_that_is_used_again_begins_anew() -> None:
    ended = after(read(0, "train.accepted", origin="1-0"), read(1, "train.failed", origin="1-0"))
    again = fold(ended, read(2, "attach.accepted", origin="2-0"))
    assert (again.row.state, again.row.type, again.row.attempts) == ("accepted", "attach", 0)
    assert again.first_entry == (FIRST_MS + 20, 0)
    assert not again.seq


def test_a_row_whose_acceptance_is_no_longer_kept_says_so() -> None:
    row = after(read(0, "train.retrying")).row
    assert (row.state, row.accepted_at_ms, row.changed_at_ms) == ("retrying", None, FIRST_MS)


@pytest.mark.parametrize(
    "data",
    [
        {"error": "no object", "attempts": "many"},
        {"error": "no object", "attempts": 2**70},
        {"error": "no object", "attempts": -1},
        {"error": {"code": None, "message": ["x"]}, "attempt": None},
        {"error": {"message": "m" * 100_000}},
    ],
)
def test_an_event_of_another_shape_is_taken_as_far_as_it_goes(data: dict[str, Any]) -> None:
    row = after(read(0, "train.failed", data=data)).row
    assert (row.state, row.attempts) == ("failed", 0)
    assert len(row.error_message or "") <= 2_000


@pytest.mark.parametrize("time", ["yesterday", "", "2026-01-01T00:00:00"])
def test_an_event_whose_time_is_none_happened_when_redis_got_it(time: str) -> None:
    """Whoever writes events by hand may write any."""
    event = read(3, "train.failed")
    odd = event_of(
        event.entry_id.encode(), {b"event": orjson.dumps({**event.attributes, "time": time})}
    )
    assert odd is not None
    assert after(odd).row.changed_at_ms == FIRST_MS + 30
