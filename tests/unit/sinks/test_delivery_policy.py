"""How long deliveries that failed and endpoints that are down are left alone."""

from __future__ import annotations

import pytest

from worker.sinks.delivery_policy import DeliveryPolicy

POLICY = DeliveryPolicy(
    first_seconds=5.0, longest_seconds=60.0, probe_seconds=1.0, longest_probe_seconds=10.0
)


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _, most: most)


def test_pauses_between_tries_double_up_to_the_longest() -> None:
    assert [POLICY.pause(tries) for tries in (1, 2, 3, 4, 5, 1_000_000)] == [
        *(5.0, 10.0, 20.0, 40.0),
        *(60.0, 60.0),
    ]


def test_pauses_between_looks_double_up_to_the_longest() -> None:
    assert [POLICY.probe_pause(probes) for probes in (0, 1, 2, 3, 4, 1_000_000)] == [
        *(1.0, 2.0, 4.0, 8.0),
        *(10.0, 10.0),
    ]


def test_a_delivery_is_tried_for_three_days_and_each_hour_and_a_dead_endpoint_each_minute() -> None:
    policy = DeliveryPolicy()
    assert policy.retry_seconds == 3 * 24 * 3600
    assert [policy.pause(tries) for tries in (1, 2, 100)] == [5.0, 10.0, 3600.0]
    assert [policy.probe_pause(probes) for probes in (0, 1, 100)] == [1.0, 2.0, 60.0]
    assert policy.down_after == 5
