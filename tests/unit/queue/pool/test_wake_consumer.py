"""Rules of Celery's consumer of wake-ups while there is no connection."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from worker.queue.heartbeat import Heartbeat
from worker.queue.pool import wake_consumer
from worker.queue.pool.wake_consumer import WAKE_CONSUMER

NOBODY = "redis://127.0.0.1:1"


class EnoughError(Exception):
    """It has beaten as often as a test wants."""


class ThreeBeats(Heartbeat):
    """Counts beats, and ends what beats at the third."""

    beats = 0

    def beat(self) -> None:
        self.beats += 1
        if self.beats == 3:
            raise EnoughError


def test_it_beats_while_it_tries_to_connect_in_vain() -> None:
    """Or a worker would be taken for one that hangs as long as Redis is away, and be killed."""
    app = Celery(broker=NOBODY, set_as_current=False)
    app.conf.broker_connection_max_retries = 1
    worker: Any = app.WorkController(pool_cls="solo", consumer_cls=WAKE_CONSUMER)
    consumer = worker.consumer
    consumer.heartbeat = ThreeBeats("celery", 1.0)
    with pytest.raises(EnoughError):
        consumer.ensure_connected(app.connection_for_read())


def test_a_new_trouble_begins_with_a_short_pause_however_long_the_last_one_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wake_consumer, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(wake_consumer, "_TICK_SECONDS", 0.001)
    app = Celery(broker=NOBODY, set_as_current=False)
    worker: Any = app.WorkController(pool_cls="solo", consumer_cls=WAKE_CONSUMER)
    consumer = worker.consumer
    pauses = []
    for quiet_seconds in (3600, 3600, 3600, 0):
        monkeypatch.setattr(wake_consumer, "_QUIET_SECONDS", quiet_seconds)
        consumer.on_connection_error_before_connected(OSError("refused"))
        pauses.append(consumer._pause_seconds)
    assert pauses == [0.002, 0.004, 0.008, 0.002]
