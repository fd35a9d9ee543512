"""What contenders with threads do with a message: one httpx client and one Redis client for all."""

from __future__ import annotations

import os

import httpx
import redis

from benchmarks.work import (
    EVENTS,
    PATH,
    REDIS_URL,
    Message,
    concurrency,
    domain,
    request_body,
    result_event,
    signer,
)
from worker.encord.api.transport import BASE_PATH


class ThreadPredictor:
    """Asks the API and publishes the result, from any number of threads."""

    def __init__(self) -> None:
        limits = httpx.Limits(
            max_connections=concurrency(), max_keepalive_connections=concurrency()
        )
        self._client = httpx.Client(limits=limits, timeout=60)
        self._url = domain() + BASE_PATH + PATH
        self._target = BASE_PATH + PATH
        self._sign = signer().headers
        self._redis = redis.Redis.from_url(
            os.environ[REDIS_URL], max_connections=concurrency() + 16
        )

    def carry_out(self, message: Message) -> None:
        """Asks the API and publishes the result."""
        body = request_body(message)
        headers = {"Content-Type": "application/json"} | self._sign("POST", self._target, body)
        reply = self._client.post(self._url, content=body, headers=headers)
        reply.raise_for_status()
        event = result_event(message, reply.json()["result"])
        self._redis.xadd(EVENTS, {"event": event})
