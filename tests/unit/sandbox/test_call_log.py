"""How the sandbox counts calls, under a clock that the test moves."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from sandbox.call_log import CallLog
from sandbox.faults import Operation
from sandbox.records import Training, TrainingEffect, TrainingState
from sandbox.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clock:
    """Seconds that stand until they are moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "sandbox.db")) as opened:
        yield opened


@pytest.fixture
def call_log(store: Store, clock: Clock) -> CallLog:
    return CallLog(store, clock)


def _training(**change: Any) -> Training:
    training = Training(
        uuid=str(uuid4()),
        model_uuid="m",
        created_at_us=1,
        batch_size=8,
        epochs=1,
        features_mapping={"p": {"f": ["a"], "g": ["b"]}},
        label_uuids=("l",),
        pretrained_training_uuid=None,
        pretrained_weights_type=None,
        effect=TrainingEffect.SIMULATED,
        effect_seconds=0,
        state=TrainingState.DONE,
        duration_seconds=0,
        loss_log={},
    )
    return replace(training, **change)


def test_what_was_asked_for_in_the_same_words_has_the_same_fingerprint(store: Store) -> None:
    store.add_training(_training())
    store.add_training(_training(features_mapping={"p": {"g": ["b"], "f": ["a"]}}))
    store.add_training(_training(label_uuids=("l", "k")))
    store.add_training(_training(epochs=2))
    created: Any = CallLog(store).told(last_seconds=1, with_created=True)["created"]
    first, second, *others = [training["fingerprint"] for training in created["trainings"]]
    assert first == second
    assert len({first, *others}) == 3


def _rate(call_log: CallLog, seconds: int = 10) -> Any:
    return call_log.told(last_seconds=seconds, with_created=False)["rate"]


def test_the_fullest_second_may_begin_at_any_moment(call_log: CallLog, clock: Clock) -> None:
    for moment in (100.0, 100.9, 100.95, 101.0, 101.85, 102.5):
        clock.now = moment
        call_log.begin(Operation.GET_MODEL)
    # 100.9, 100.95, 101.0 and 101.85; the call at 100.0 is a whole second before 101.0.
    assert _rate(call_log)["maximum_in_one_second"] == 4


def test_the_mean_is_from_the_first_call_to_the_last(call_log: CallLog, clock: Clock) -> None:
    for moment in (100.0, 101.0, 102.0, 104.0):
        clock.now = moment
        call_log.begin(Operation.GET_MODEL)
    clock.now = 200.0
    assert _rate(call_log)["mean_per_second"] == 1.0


def test_the_recent_mean_is_over_whole_seconds_before_this_one(
    call_log: CallLog, clock: Clock
) -> None:
    for moment in (100.0, 108.5, 109.9, 110.2):
        clock.now = moment
        call_log.begin(Operation.GET_MODEL)
    assert _rate(call_log, seconds=2)["mean_per_second_in_last_seconds"] == 1.0


def test_a_reset_keeps_the_calls_that_are_at_work(call_log: CallLog) -> None:
    call_log.begin(Operation.GET_MODEL)
    call_log.reset()
    told = call_log.told(last_seconds=1, with_created=False)
    assert told["concurrent"] == {"now": 1, "maximum": 1}
    assert told["total"] == 0
    call_log.end(Operation.GET_MODEL, 200, None)
    told = call_log.told(last_seconds=1, with_created=False)
    assert told["concurrent"] == {"now": 0, "maximum": 1}
