"""What people see of the demo, in a terminal of any width and without one."""

from __future__ import annotations

import re
from io import StringIO
from itertools import count
from typing import TYPE_CHECKING

from rich.console import Console

from demo.errors import CommandFailedError
from demo.progress import Progress

if TYPE_CHECKING:
    import pytest

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def test_without_a_terminal_each_step_is_one_line_and_counts_are_none() -> None:
    printed = StringIO()
    with Progress(Console(file=printed, width=20)) as progress:
        progress.say("detection", "training again, on labels that are new to it")
        for done in range(3):
            progress.say("detection", "predicting", f"{done} of 3")
    lines = printed.getvalue().splitlines()
    assert [line.partition("s  ")[2] for line in lines] == [
        "detection: training again, on labels that are new to it",
        "detection: predicting",
    ]


def test_without_a_terminal_a_step_that_lasts_tells_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed = StringIO()
    now = count(step=1.5)
    monkeypatch.setattr("demo.progress.time.monotonic", lambda: next(now))
    with Progress(Console(file=printed)) as progress:
        for epoch in range(1, 17):
            progress.say("detection", "training", f"epoch {epoch} of 16")
    lines = [line.partition("s  ")[2] for line in printed.getvalue().splitlines()]
    assert lines[0] == "detection: training"
    assert 1 < len(lines) < 16
    assert all(line.startswith("detection: training, epoch ") for line in lines[1:])


def test_a_narrow_terminal_shows_every_model_and_no_line_too_long() -> None:
    printed = StringIO()
    console = Console(file=printed, width=40, height=20, force_terminal=True)
    with Progress(console) as progress:
        progress.say("segmentation", "training again, on new labels")
        progress.say("detection", "predicting", "7 of 48")
        progress.count({})
    shown = ESCAPES.sub("", printed.getvalue()).replace("\r", "\n")
    assert "segmentation" in shown
    assert "7 of 48" in shown
    assert "1 event" in shown
    assert max(len(line) for line in shown.splitlines()) <= 40


def test_a_failed_command_is_told_with_its_id_its_code_and_its_problems() -> None:
    error = {
        "code": "invalid_command",
        "message": "not valid",
        "problems": [{"path": "data.epochs", "message": "must be at least 1"}],
    }
    event = {"subject": "detection-train-1", "type": "train.rejected", "data": {"error": error}}
    assert str(CommandFailedError(event)) == (
        "detection-train-1: train.rejected, invalid_command: not valid "
        "(data.epochs must be at least 1)"
    )
