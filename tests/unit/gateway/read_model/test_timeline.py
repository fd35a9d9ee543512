"""Which entries tell of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.stream_events import FIRST_MS, entry
from worker.gateway.read_model.database import current_file, open_reader
from worker.gateway.read_model.timeline import MOST_LATER, Timeline, read_timeline
from worker.gateway.read_model.writing import Progress, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.queue.ledger.streams import StreamEntry

RETRY = "train.retrying"


def timeline(folder: Path, command_id: str, *batches: Sequence[StreamEntry]) -> Timeline | None:
    writer = Writer(folder)
    writer.begin(Progress())
    for each in batches:
        writer.take(each, Progress(cursor=each[-1][0].decode()))
    file = current_file(folder)
    assert file is not None
    connection = open_reader(file)
    try:
        return read_timeline(connection, command_id)
    finally:
        connection.close()
        writer.close()


def test_the_entries_of_a_command_are_known_in_their_order(tmp_path: Path) -> None:
    """Whether they came in one batch or in many, with a number or without."""
    begun = entry(0, "a", "train.accepted")
    other = entry(1, "b", "train.accepted")
    tried = entry(2, "a", RETRY)
    again = (tried[0].replace(b"-0", b"-7"), tried[1])
    ended = entry(4, "a", "train.succeeded")
    found = timeline(tmp_path, "a", [begun, other, tried], [again], [ended])
    ids = [each[0].decode() for each in (begun, tried, again, ended)]
    assert found == Timeline("train", ids, is_cut=False, cursor=ids[-1])
    assert timeline(tmp_path, "c", [begun]) is None


def test_what_is_not_of_the_command_is_not_in_its_timeline(tmp_path: Path) -> None:
    """A message that was rejected for its id, the end that was told twice, an earlier use."""
    first = entry(0, "a", "train.accepted", origin="1-0")
    end = entry(1, "a", "train.failed", origin="1-0")
    found = timeline(
        tmp_path,
        "a",
        [first, end],
        [
            entry(2, "a", "train.accepted", origin="2-0"),
            entry(3, "a", "train.rejected", origin="3-0"),
            entry(4, "a", "train.succeeded", origin="2-0"),
            entry(5, "a", "train.succeeded", origin="2-0"),
        ],
    )
    assert found is not None
    assert found.entries == [f"{FIRST_MS + 20}-0", f"{FIRST_MS + 40}-0"]


def test_of_a_command_with_very_many_events_the_newest_are_known(tmp_path: Path) -> None:
    events = [
        entry(0, "a", "train.accepted"),
        *(entry(each, "a", RETRY) for each in range(1, 4000)),
    ]
    batches = [events[start : start + 500] for start in range(0, len(events), 500)]
    found = timeline(tmp_path, "a", *batches)
    assert found is not None
    assert found.is_cut
    assert 1_000 <= len(found.entries) <= MOST_LATER
    first, *newest = found.entries
    assert first == f"{FIRST_MS}-0"
    assert newest == [f"{FIRST_MS + 10 * each}-0" for each in range(4000 - len(newest), 4000)]
