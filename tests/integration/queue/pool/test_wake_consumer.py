"""Celery's consumer of wake-ups at a Redis that refuses what it writes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.worker.pidbox import Pidbox
from kombu.asynchronous import Hub
from redis import Redis
from redis.exceptions import ResponseError

from tests.console import wait_until
from worker.queue.pool.wake_consumer import WAKE_CONSUMER

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def consumer(redis_url: str, namespace: str) -> Any:
    """A consumer that nobody has started."""
    app = Celery(broker=redis_url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": f"{{{namespace}}}:"}
    # Celery warns of its other default.
    app.conf.worker_cancel_long_running_tasks_on_connection_loss = True
    worker: Any = app.WorkController(pool_cls="solo", consumer_cls=WAKE_CONSUMER)
    worker.consumer.hub = Hub()
    worker.consumer._pause_seconds = 0.0
    return worker.consumer


@contextmanager
def refusing(redis: Redis) -> Iterator[None]:
    """Has Redis refuse all writes, as without its replicas."""
    redis.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        redis.config_set("min-replicas-to-write", 0)


def connections(redis: Redis) -> set[str]:
    """Returns the connections that there are, by their ids."""
    return {each["id"] for each in redis.client_list()}


def test_a_connection_that_redis_refuses_something_at_its_beginning_is_closed(
    consumer: Any, redis_url: str
) -> None:
    """It is made anew every two seconds, for as long as that lasts; one left each time."""
    with Redis.from_url(redis_url) as redis, refusing(redis):
        before = connections(redis)
        with pytest.raises(ResponseError, match="NOREPLICAS") as refused:
            consumer.connect()
        assert connections(redis) - before
        consumer.on_connection_error_before_connected(refused.value)
        wait_until(lambda: connections(redis) <= before, "its connections are closed")


def test_one_whose_queues_can_not_be_deleted_is_closed_too(consumer: Any, redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        before = connections(redis)
        consumer.connection = consumer.connect()
        Pidbox(consumer).start(consumer)
        with refusing(redis):
            consumer.on_connection_error_after_connected(ResponseError("NOREPLICAS"))
            wait_until(lambda: connections(redis) <= before, "its connections are closed")
