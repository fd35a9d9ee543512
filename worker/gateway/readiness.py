"""Whether a gateway can do its work."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from worker.monitoring.checks import redis_trouble
from worker.monitoring.health_file import TOUCH_SECONDS, HealthFile

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.gateway.read_model.model import ReadModel
    from worker.queue.ledger.keys import Keys

_ANSWER_SECONDS: Final = 5.0


async def trouble_of(redis: Redis, keys: Keys, read_model: ReadModel) -> str:
    """Returns why a gateway is not ready; empty where it is."""
    if told := await redis_trouble(redis, keys):
        return f"Redis {told}."
    if (trouble := read_model.trouble) is not None:
        return f"{trouble} Commands are taken all the same."
    return ""


class ReadinessFile:
    """Keeps a file fresh while a gateway is ready: a service of it."""

    def __init__(self, path: Path, redis: Redis, keys: Keys, read_model: ReadModel) -> None:
        self._file = HealthFile(path)
        self._redis = redis
        self._keys = keys
        self._read_model = read_model

    async def run(self, stop: asyncio.Event) -> None:
        """Looks until `stop` is set."""
        try:
            while not stop.is_set():
                self._file.show(is_well=await self._is_ready())
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), TOUCH_SECONDS)
        finally:
            self._file.remove()

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return not await trouble_of(self._redis, self._keys, self._read_model)
        except TimeoutError:
            return False
