"""Who gives signs of life gives them more often than whoever waits for them gives up."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

import pytest

from worker import gateway
from worker.cli import gateway_events
from worker.gateway.events.stream import HEARTBEAT_SECONDS
from worker.integrations.event_follower import LEASE_SECONDS
from worker.integrations.leadership import KEEP_SECONDS, LEASE_MARGIN_SECONDS
from worker.monitoring import health
from worker.queue.pool import wake_consumer

# How often the one gives a sign, and how long the other waits for it.
PAIRS: Final = {
    "the loop of a worker": (health.BEAT_SECONDS, health.LOOP_LIMIT_SECONDS),
    "Celery's loop": (wake_consumer.BEAT_SECONDS, health.CELERY_LIMIT_SECONDS),
    "the lead of a follower": (KEEP_SECONDS, LEASE_SECONDS - LEASE_MARGIN_SECONDS),
    "a stream of events": (HEARTBEAT_SECONDS, gateway_events._SILENT_SECONDS),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_sign_of_life_that_is_lost_or_late_ends_nothing(name: str) -> None:
    every, patience = PAIRS[name]
    assert 2 * every < patience


def test_the_page_waits_for_longer_than_until_the_next_sign_of_life() -> None:
    page = (files(gateway) / "page/static/lib/live.js").read_text("utf-8")
    (told,) = re.findall(r"^const SILENCE_MILLISECONDS = ([\d_]+);", page, re.MULTILINE)
    assert int(told) / 1000 > HEARTBEAT_SECONDS
