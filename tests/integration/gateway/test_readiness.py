"""A file that tells probes without HTTP that a gateway can do its work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from worker.gateway import readiness as module
from worker.gateway.read_model.model import ReadModel
from worker.gateway.readiness import ReadinessFile, trouble_of
from worker.queue.ledger.connection import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from redis.asyncio import Redis

    from tests.integration.gateway.conftest import ServeGateway
    from worker.queue.ledger.keys import Keys


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.005)


async def test_what_keeps_it_from_its_work_is_told_and_redis_first(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    model = ReadModel(redis, keys, tmp_path, retention_seconds=60)
    assert await trouble_of(redis, keys, model) == ""
    model._follower.trouble = "The disk is full."
    told = await trouble_of(redis, keys, model)
    assert told == "The disk is full. Commands are taken all the same."
    away = connect("redis://127.0.0.1:1")
    assert await trouble_of(away, keys, model) == "Redis can't be reached."
    await away.aclose()


async def test_the_file_is_there_while_it_is_ready_and_gone_with_it(
    redis: Redis, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOUCH_SECONDS", 0.01)
    model = ReadModel(redis, keys, tmp_path, retention_seconds=60)
    file, stop = tmp_path / "ready", asyncio.Event()
    running = asyncio.create_task(ReadinessFile(file, redis, keys, model).run(stop))
    await until(file.exists)
    model._follower.trouble = "The disk is full."
    await until(lambda: not file.exists())
    model._follower.trouble = None
    await until(file.exists)
    first = file.stat().st_mtime_ns
    await until(lambda: file.stat().st_mtime_ns > first)
    stop.set()
    await running
    assert not file.exists()


async def test_a_redis_that_says_nothing_is_no_readiness(
    redis: Redis, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOUCH_SECONDS", 0.01)
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.05)
    model = ReadModel(redis, keys, tmp_path, retention_seconds=60)
    file, stop = tmp_path / "ready", asyncio.Event()
    running = asyncio.create_task(ReadinessFile(file, redis, keys, model).run(stop))
    await until(file.exists)

    async def hang(*_: object) -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(module, "trouble_of", hang)
    await until(lambda: not file.exists())
    stop.set()
    await running


async def test_a_gateway_that_is_told_where_keeps_it(
    serve_gateway: ServeGateway, tmp_path: Path
) -> None:
    file = tmp_path / "ready"
    with serve_gateway(health_file=file):
        await until(file.exists)
    assert not file.exists()
