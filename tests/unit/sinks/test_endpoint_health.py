"""When an endpoint counts as down, and for how long it is left alone."""

from __future__ import annotations

import pytest

from worker.sinks.delivery_policy import DeliveryPolicy
from worker.sinks.endpoint_health import EndpointHealth

POLICY = DeliveryPolicy(down_after=3, probe_seconds=1.0, longest_probe_seconds=4.0)


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def health(time: Time) -> EndpointHealth:
    return EndpointHealth(POLICY, time)


def test_only_failures_in_a_row_make_an_endpoint_count_as_down(health: EndpointHealth) -> None:
    assert [health.failed() for _ in range(2)] == [False, False]
    assert not health.succeeded()
    assert [health.failed() for _ in range(3)] == [False, False, True]
    health.probe_later()
    assert not health.failed(), "it is down already"
    assert health.succeeded(), "it was down"
    assert not health.succeeded(), "and is up"
    assert not health.failed(), "it counts anew"


def test_the_pauses_between_probes_double_up_to_the_longest_and_begin_anew(
    health: EndpointHealth, time: Time
) -> None:
    for longest in (1.0, 2.0, 4.0, 4.0):
        health.probe_later()
        assert 0.7 * longest <= health.probe_seconds <= longest
        time.now += longest
        assert health.probe_seconds <= 0
    health.succeeded()
    health.probe_later()
    assert 0.7 <= health.probe_seconds <= 1.0


def test_the_longest_pause_that_an_endpoint_has_asked_for_counts(
    health: EndpointHealth, time: Time
) -> None:
    health.failed(60)
    health.failed(10)
    health.succeeded()
    assert health.rest_seconds == 60
    time.now += 60
    assert health.rest_seconds <= 0
    health.failed(60)
    health.reset()
    assert health.rest_seconds <= 0
