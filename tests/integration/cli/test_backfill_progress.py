"""What a person sees of a backfill that runs, on a terminal of eighty columns."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.text import Text

from tests.integration.backfilling import begin
from worker.backfill.status import BackfillState
from worker.cli.backfill.lead import end_backfill
from worker.cli.backfill.progress import Display
from worker.cli.context import LedgerContext

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.backfill.status import BackfillStatus
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

COLUMNS = 80
LONG = "night-of-the-long-names-2026-11-26"
WHY = "lane predict paused: 60 of 100 commands failed with upstream_error within 5 minutes"


class Terminal(io.StringIO):
    """Keeps what is written to it, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


@pytest.fixture
async def standing(redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path) -> BackfillStatus:
    """Of a backfill with as wide numbers as are usual."""
    night = await begin(redis, keys, ledger, tmp_path)
    begun = await night.standing()
    return replace(begun, read=1_000_000, exhausted=True, succeeded=980_000, failed=12_345)


def seen(standing: BackfillStatus, *limits: str) -> list[str]:
    """Returns the lines that a person sees while the display is open, the last ones last."""
    terminal = Terminal()
    # Here, for pytest takes back what a fixture puts in place of standard error.
    with redirect_stderr(terminal), Display(LONG, quiet=False) as display:
        display.limits = list(limits)
        display.show(standing)
    text = terminal.getvalue()
    lines = [Text.from_ansi(line).plain.rstrip() for line in text.replace("\r", "\n").split("\n")]
    return [line for line in lines if line]


def test_the_counts_stand_whole_beside_a_long_id(standing: BackfillStatus) -> None:
    bar = seen(replace(standing, open=2_000))[-1]
    assert bar.startswith("night-of-the-…"), bar
    assert " 99% " in bar
    assert bar.endswith("0.0/s, 12345 failed, 2000 in flight")
    assert len(bar) <= COLUMNS


def test_once_all_items_are_read_their_number_counts_and_not_what_was_expected(
    standing: BackfillStatus,
) -> None:
    assert " 99% " in seen(replace(standing, expected=2_000_000, open=2_000))[-1]
    reading = replace(standing, expected=2_000_000, exhausted=False, open=2_000)
    assert " 50% " in seen(reading)[-1]


def test_that_the_last_files_are_written_stands_on_a_line_of_its_own(
    standing: BackfillStatus,
) -> None:
    ended = replace(standing, succeeded=987_655, collected=1_000_000)
    bar, note = seen(ended)[-2:]
    assert "100% " in bar
    assert bar.endswith("12345 failed, 0 in flight")
    assert note == "writing the last files"


def test_what_holds_it_back_is_told_whole(standing: BackfillStatus) -> None:
    lines = seen(replace(standing, open=2_000), WHY)
    assert f"held back: {WHY}" in " ".join(lines)
    paused = replace(standing, state=BackfillState.PAUSED, reason=WHY)
    assert f"paused: {WHY}" in " ".join(seen(paused))


@pytest.mark.parametrize(
    ("state", "failed", "code"),
    [
        (BackfillState.SUCCEEDED, 0, 0),
        (BackfillState.SUCCEEDED, 1, 1),
        (BackfillState.PAUSED, 0, 1),
        (BackfillState.CANCELLED, 0, 1),
    ],
)
def test_the_exit_code_of_a_run_says_whether_every_item_succeeded(
    standing: BackfillStatus, state: BackfillState, failed: int, code: int
) -> None:
    left = 0
    try:
        ended = replace(standing, state=state, failed=failed)
        end_backfill(LedgerContext(None, None), ended, as_json=True)
    except SystemExit as exc:
        left = int(exc.code or 0)
    assert left == code
