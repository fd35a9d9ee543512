"""What happened in each minute, and what of it a quantile says."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stream_events import FIRST_MS, entry
from worker.gateway.read_model.database import current_file, open_reader
from worker.gateway.read_model.minutes import MINUTE_MS, Minute, bucket_of, quantile, read_minutes
from worker.gateway.read_model.state_counts import count_of, count_states
from worker.gateway.read_model.writing import Progress, Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from worker.queue.ledger.streams import StreamEntry

BEGIN_MS = FIRST_MS // MINUTE_MS * MINUTE_MS
STATES = ("accepted", "started", "retrying", "succeeded", "failed", "cancelled", "rejected")
SAID: dict[str, dict[str, Any]] = {
    "started": {"attempt": 1},
    "cancelled": {"attempts": 1, "by": "x"},
}
HOUR = 60
LAST_MS = FIRST_MS + 50 * MINUTE_MS


def told(number: int, command_id: str, event_type: str, **more: Any) -> StreamEntry:
    """An entry of an example event; entries are ten milliseconds apart."""
    state = event_type.rpartition(".")[2]
    return entry(number, command_id, event_type, data=SAID.get(state), **more)


def taken(folder: Path, *batches: Sequence[StreamEntry]) -> tuple[Writer, sqlite3.Connection]:
    writer = Writer(folder)
    writer.begin(Progress())
    for each in batches:
        writer.take(each, Progress())
    file = current_file(folder)
    assert file is not None
    return writer, open_reader(file)


def test_a_minute_tells_what_began_and_ended_in_it_and_how_long_that_took(tmp_path: Path) -> None:
    of_next = MINUTE_MS // 10
    events = [told(each, f"c{each}", "train.accepted") for each in range(100)]
    events += [told(of_next + each, f"c{each}", "train.started") for each in range(100)]
    events += [told(2 * of_next + each, f"c{each}", "train.succeeded") for each in range(98)]
    events.append(told(2 * of_next + 98, "c98", "train.cancelled"))
    events.append(told(2 * of_next + 3000, "c99", "train.failed"))
    events.append(told(2 * of_next + 3001, "bad", "train.rejected"))
    _, connection = taken(tmp_path, events)
    first, second, third = read_minutes(connection, FIRST_MS + 2 * MINUTE_MS, 3)
    assert first == Minute(BEGIN_MS, accepted=100)
    assert second == Minute(BEGIN_MS + MINUTE_MS)
    assert (third.succeeded, third.failed, third.cancelled, third.rejected) == (98, 1, 1, 1)
    assert third.p50_seconds == pytest.approx(120, rel=0.05)
    assert third.p99_seconds == pytest.approx(120, rel=0.05)
    (nothing,) = read_minutes(connection, FIRST_MS - MINUTE_MS, 1)
    assert nothing == Minute(BEGIN_MS - MINUTE_MS)


def test_minutes_that_were_read_before_are_read_anew_where_more_has_happened(
    tmp_path: Path,
) -> None:
    of_next = MINUTE_MS // 10
    writer, connection = taken(
        tmp_path,
        [
            *(told(each, f"c{each}", "train.accepted") for each in range(4)),
            told(100, "c0", "train.succeeded"),
            told(of_next, "c1", "train.succeeded"),
        ],
    )
    last_ms = FIRST_MS + 2 * MINUTE_MS
    before = read_minutes(connection, last_ms, 3)
    known = {each.begin_ms: each for each in before}
    again = read_minutes(connection, last_ms, 3, known)
    assert again == before
    assert again[0] is before[0]
    late = [told(of_next + 1000, "c2", "train.failed"), told(2 * of_next, "c3", "train.failed")]
    writer.take(late, Progress())
    found = read_minutes(connection, last_ms, 3, known)
    assert found == read_minutes(connection, last_ms, 3) != before
    assert found[0] is before[0]
    writer.close()
    connection.close()


def test_an_end_whose_acceptance_is_not_known_has_no_duration(tmp_path: Path) -> None:
    _, connection = taken(tmp_path, [told(0, "a", "train.succeeded"), told(1, "b", "a.rejected")])
    (minute,) = read_minutes(connection, FIRST_MS, 1)
    assert minute == Minute(BEGIN_MS, succeeded=1, rejected=1)


@given(st.lists(st.integers(0, 2**41), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_quantile_is_within_five_percent(durations: list[int], share: float) -> None:
    counts: dict[int, int] = {}
    for each in durations:
        counts[bucket_of(each)] = counts.get(bucket_of(each), 0) + 1
    found = quantile(sorted(counts.items()), share)
    exact = sorted(durations)[math.ceil(share * len(durations)) - 1]
    assert found == pytest.approx(min(exact, 2**40) / 1000, rel=0.05)
    assert len(counts) <= 321


def test_without_durations_there_is_no_quantile() -> None:
    assert quantile([], 0.5) is None


EVENTS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.sampled_from(STATES), st.sampled_from("xy"), st.booleans()
    ),
    max_size=40,
)


@given(events=EVENTS, size=st.integers(1, 7))
def test_the_counts_are_those_of_the_rows_however_the_events_come(
    events: list[tuple[str, str, str, bool]], size: int
) -> None:
    """In batches or at once, some twice, some of an id that is used again, of another type too."""
    entries: list[StreamEntry] = []
    runs: dict[str, str] = {}
    for number, (command_id, state, run, twice) in enumerate(events):
        # Any message may be rejected; else what was accepted last goes on alone.
        if state == "accepted":
            runs[command_id] = run
        elif state != "rejected" and runs.setdefault(command_id, run) != run:
            continue
        kind = "train" if run == "x" else "attach"
        # Half a minute apart.
        each = told(3_000 * number, command_id, f"{kind}.{state}", origin=f"{command_id}{run}-0")
        entries += [each] * (1 + twice)
    once = [each for at, each in enumerate(entries) if not at or entries[at - 1] is not each]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        batches = [entries[start : start + size] for start in range(0, len(entries), size)]
        writer, pieces = taken(Path(one), *batches)
        again, whole = taken(Path(other), once)
        rows = pieces.execute("SELECT type, state, count(*) FROM commands GROUP BY type, state")
        for command_type, state, number in rows:
            assert count_of(pieces, {"type": command_type, "state": state}) == number
        (all_rows,) = pieces.execute("SELECT count(*) FROM commands").fetchone()
        assert count_of(pieces, {}) == all_rows == sum(count_states(pieces).values())
        assert read_minutes(pieces, LAST_MS, HOUR) == read_minutes(whole, LAST_MS, HOUR)
        writer.forget(LAST_MS + 3_000_000)
        for state, number in count_states(pieces).items():
            (left,) = pieces.execute("SELECT count(*) FROM commands WHERE state = ?", (state,))
            assert number == left[0] > 0
        assert pieces.execute("SELECT count(*) FROM minutes").fetchone() == (0,)
        assert pieces.execute("SELECT count(*) FROM durations").fetchone() == (0,)
        for opened in (writer, again, pieces, whole):
            opened.close()


def test_a_rejection_under_the_id_of_another_command_is_counted_once_however_often_it_is_told(
    tmp_path: Path,
) -> None:
    """In one batch and in a later one, beside a command that goes on and beside one that ended."""
    beside = told(1, "a", "train.rejected", origin="2-0")
    other = told(2, "a", "train.rejected", origin="3-0")
    writer, connection = taken(
        tmp_path,
        [told(0, "a", "train.accepted", origin="1-0"), beside, beside],
        [beside, other, told(3, "a", "train.succeeded", origin="1-0")],
        [beside, other],
    )
    (minute,) = read_minutes(connection, FIRST_MS, 1)
    assert minute.rejected == 2
    assert count_states(connection) == {"succeeded": 1}
    writer.forget(FIRST_MS + 5 * MINUTE_MS)
    assert connection.execute("SELECT count(*) FROM rejected_beside").fetchone() == (0,)
    writer.close()
    connection.close()


def test_minutes_are_forgotten_with_the_commands_that_ended_in_them(tmp_path: Path) -> None:
    writer, connection = taken(
        tmp_path,
        [
            told(0, "a", "train.accepted"),
            told(1, "a", "train.succeeded"),
            told(60_000, "b", "train.accepted"),
            told(60_001, "b", "train.failed"),
        ],
    )
    assert writer.forget(FIRST_MS + 5 * MINUTE_MS) == 1
    assert count_states(connection) == {"failed": 1}
    minutes = read_minutes(connection, FIRST_MS + 10 * MINUTE_MS, 11)
    assert [each.accepted for each in minutes] == [*[0] * 10, 1]
    assert [each.p50_seconds for each in minutes[:10]] == [None] * 10
    writer.close()
    connection.close()
