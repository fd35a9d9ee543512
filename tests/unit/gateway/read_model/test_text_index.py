"""The index of texts follows whatever becomes of commands; SQLite itself compares the two."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stream_events import FIRST_MS, entry
from worker.gateway.read_model import writing
from worker.gateway.read_model.database import current_file, open_writer
from worker.gateway.read_model.text_index import has_trigrams
from worker.gateway.read_model.writing import Progress, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.queue.ledger.streams import StreamEntry

pytestmark = pytest.mark.skipif(not has_trigrams(), reason="this SQLite has no such index")

COMPARE: Final = "INSERT INTO commands_text (commands_text, rank) VALUES ('integrity-check', 1)"
FORGET: Final = "forget"
EVENTS: Final = ("accepted", "retrying", "succeeded", "failed", "rejected", FORGET)

Step = tuple[str, str, str, str]
"""A state or FORGET, a command, the message that it came in, what its error says."""

steps = st.tuples(
    st.sampled_from(EVENTS),
    st.sampled_from(["night", "東京-1", "a%b"]),
    st.sampled_from(["1-0", "2-0"]),
    st.sampled_from(["the API failed", "no such model", ""]),
)


def carry_out(folder: Path, batches: Sequence[Sequence[Step]]) -> sqlite3.Connection:
    """Has a writer take events in and forget commands; returns a connection to its file."""
    writer = Writer(folder)
    writer.begin(Progress())
    number = 0
    for batch in batches:
        entries: list[StreamEntry] = []
        for state, command_id, origin, message in batch:
            number += 1
            if state == FORGET:
                writer.take(entries, Progress())
                entries.clear()
                writer.forget(FIRST_MS + 10 * number - 20)
                continue
            data: dict[str, Any] = {"error": {"code": "x", "message": message}} if message else {}
            entries.append(entry(number, command_id, f"train.{state}", origin=origin, data=data))
        writer.take(entries, Progress())
    writer.close()
    file = current_file(folder)
    assert file is not None
    return open_writer(file)


@given(batches=st.lists(st.lists(steps, max_size=6), max_size=6))
def test_the_index_has_what_the_commands_have(batches: list[list[Step]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        connection = carry_out(Path(folder), batches)
        connection.execute(COMPARE)
        connection.close()


def test_the_comparison_sees_what_the_index_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the test before can fail."""
    monkeypatch.setattr(writing, "change_texts", lambda *_: None)
    connection = carry_out(tmp_path, [[("accepted", "night", "1-0", "")]])
    with pytest.raises(sqlite3.DatabaseError):
        connection.execute(COMPARE)
    connection.close()
