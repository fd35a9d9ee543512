"""Durations that only work beside one another: one is longer than what goes on within it."""

from __future__ import annotations

from typing import Final

import pytest

from trainmaster_client import consuming, driver, reading
from worker.cli import gateway_events
from worker.cli import sinks as cli_sinks
from worker.gateway import act_route
from worker.gateway.events import stream
from worker.http.timeouts import Timeouts
from worker.integrations import event_follower, leadership
from worker.queue.ledger import (
    connection,
    holds,
    ledger,
    outage,
    redis_retry,
    repair,
    workers,
)
from worker.sinks import redis_target
from worker.sinks.delivery_policy import DeliveryPolicy

API: Final = Timeouts()
CASES: Final = {
    "a worker may miss a time to tell of itself": (
        workers.SILENT_SECONDS,
        2 * workers.TELL_SECONDS,
    ),
    "a read that waits for entries ends before the socket gives up on it": (
        connection.SOCKET_TIMEOUT_SECONDS,
        2 * connection.BLOCK_MILLISECONDS / 1000,
    ),
    "so does a client's": (
        driver._SOCKET_TIMEOUT_SECONDS,
        2 * reading.BLOCK_MILLISECONDS / 1000,
    ),
    "a leader may miss a time to renew its lease": (
        event_follower.LEASE_SECONDS - leadership.LEASE_MARGIN_SECONDS,
        2 * (leadership.KEEP_SECONDS + leadership.RECORD_SECONDS),
    ),
    "processes of sinks may end what they send, and give the lead on": (
        cli_sinks._STOP_SECONDS,
        leadership.STOP_SECONDS + event_follower.LEASE_SECONDS,
    ),
    "what is added to another Redis is known there for as long as it is tried": (
        redis_target.REMEMBERED_MS / 1000,
        DeliveryPolicy().retry_seconds,
    ),
    "what a consumer handled is known for longer than anybody holds it": (
        consuming._REMEMBERED_MS / 1000,
        60 * consuming.ConsumerOptions().idle_seconds,
    ),
    "a consumer that holds nothing is forgotten later than it reads": (
        consuming._FORGOTTEN_MS / 1000,
        10 * reading.BLOCK_MILLISECONDS / 1000,
    ),
    "who compares rows may miss a time to say so": (
        repair.HOLD_MS / 1000,
        2 * repair._HOLD_AGAIN_SECONDS,
    ),
    "a call that was cancelled in its middle is over": (
        ledger.ENDED_HOLDER_SECONDS,
        API.pool + API.connect + API.write + API.read,
    ),
    "a silent part of an outage is not one that pauses between two tries": (
        outage._SILENT_SECONDS,
        max(redis_retry.LONGEST_PAUSE_SECONDS, leadership.LONGEST_PAUSE_SECONDS),
    ),
    "what is told of a refused key outlives the time for which it counts": (
        holds._KEPT_SECONDS,
        holds.REFUSED_SECONDS,
    ),
    "a watcher hears two signs of life before it takes the connection for dead": (
        gateway_events._SILENT_SECONDS,
        2 * stream.HEARTBEAT_SECONDS,
    ),
    "the answer to an act is kept for longer than anybody waits for it": (
        act_route.KEPT_SECONDS,
        act_route.WAIT_SECONDS,
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_what_lasts_longer_is_long_enough(what: str) -> None:
    longer, shorter = CASES[what]
    assert longer > shorter > 0
