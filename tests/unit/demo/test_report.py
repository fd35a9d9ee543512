"""The verdict: what makes the demo fail, and what people are told of it."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from demo.dataset import Dataset
from demo.errors import CommandFailedError
from demo.plan import DETECTION, FULL, QUICK
from demo.report import Report, Verdict, print_results
from demo.scenario import Trained

if TYPE_CHECKING:
    from demo.plan import DemoSize

FAILURE = CommandFailedError({
    "subject": "detection-train-1",
    "type": "train.failed",
    "data": {"error": {"code": "training_failed", "message": "it ended in an error"}},
})


def trained(score: float, number: int = 1) -> Trained:
    return Trained(
        plan=DETECTION,
        number=number,
        labels=10,
        losses={1: 1.0},
        seconds=7,
        predicted={"d": {}},
        frames=4,
        score=score,
    )


def report(
    *scores: float, demo_size: DemoSize = FULL, failures: tuple[CommandFailedError, ...] = ()
) -> Report:
    return Report(
        trained=[trained(score, number) for number, score in enumerate(scores, 1)],
        failures=failures,
        commands=[{}, {}],
        events=[{}, {}, {}],
        demo_size=demo_size,
        dataset=Dataset("http://127.0.0.1:1", Path("key"), ()),
        seconds=12.0,
    )


def printed(shown: Report, width: int = 80) -> str:
    output = StringIO()
    print_results(shown, Console(file=output, width=width))
    return output.getvalue()


def test_scores_above_their_floor_pass() -> None:
    assert report(0.81, 0.99).complaints == []


@pytest.mark.parametrize("score", [0.8, 0.3, 0.0])
def test_a_score_that_is_not_above_its_floor_is_named(score: float) -> None:
    assert report(0.99, score).complaints == [
        f"detection again: box mAP50 is {score:.3f}, not above 0.8"
    ]


def test_a_failed_command_is_a_complaint_whatever_the_scores() -> None:
    for demo_size in (FULL, QUICK):
        complaints = report(0.99, demo_size=demo_size, failures=(FAILURE,)).complaints
        assert complaints == [
            "detection-train-1: train.failed, training_failed: it ended in an error"
        ]


def test_the_short_form_judges_no_score() -> None:
    short = report(0.1, demo_size=QUICK)
    assert short.complaints == []
    assert short.verdict(short.trained[0]) is Verdict.NOT_JUDGED


def test_the_short_form_shows_no_score_that_would_look_like_a_defect() -> None:
    shown = printed(report(0.0, demo_size=QUICK))
    assert "0.000" not in shown
    assert "Scores are not judged" in shown
    assert "Scores are not judged" not in printed(report(0.9))


def test_the_table_tells_task_score_images_seconds_and_verdict() -> None:
    shown = printed(report(0.912, 0.5))
    first, second = (line for line in shown.splitlines() if line.startswith("detection"))
    assert re.split(r"\s{2,}", first.strip()) == [
        "detection",
        "0.912 box mAP50",
        "0.8",
        "1 (4)",
        "7",
        "passed",
    ]
    assert "failed" in second
    assert "2 commands, 3 events, 12 s in all" in shown
    assert "demo: detection again: box mAP50 is 0.500, not above 0.8" in shown


def test_a_narrow_terminal_gets_sentences_in_place_of_a_table() -> None:
    shown = printed(report(0.912), width=40)
    assert " ".join(shown.split()).startswith(
        "detection: 0.912 box mAP50, floor 0.8, images (frames) 1 (4), 7 s, passed 2 commands"
    )
    assert max(len(line) for line in shown.splitlines()) <= 40


def test_only_the_last_training_of_a_model_is_drawn() -> None:
    assert [each.number for each in report(0.9, 0.95).latest] == [2]
