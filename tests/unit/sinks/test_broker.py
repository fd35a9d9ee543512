"""What kombu's transports are told, so that a message counts only once it is confirmed."""

from __future__ import annotations

import pytest

from worker.sinks.broker import _options


@pytest.mark.parametrize("scheme", ["amqp", "amqps", "pyamqp", "amqp+ssl"])
def test_rabbitmq_confirms_and_is_silent_for_no_longer_than_a_send_may_take(scheme: str) -> None:
    assert _options(f"{scheme}://host/vhost") == {
        "confirm_publish": True,
        "read_timeout": 15.0,
        "write_timeout": 15.0,
    }


@pytest.mark.parametrize("scheme", ["redis", "rediss", "sentinel"])
def test_a_redis_is_waited_for_no_longer_than_a_send_may_take(scheme: str) -> None:
    assert _options(f"{scheme}://host/0") == {
        "socket_timeout": 15.0,
        "socket_connect_timeout": 10.0,
    }


@pytest.mark.parametrize("url", ["memory://", "sqs://", "amqp.example.com", ""])
def test_other_transports_are_told_nothing_that_they_may_not_know(url: str) -> None:
    assert _options(url) == {}
