"""Rules of waiting for trainings at an API that does not answer polls as it says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from tests.integration.worker_bench import open_bench, with_encord
from tests.stub_api import reply
from worker.encord.context import LongPolls
from worker.encord.handlers.training import HELD_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.integration.worker_bench import Bench
    from tests.stub_api import StubApi
    from worker.queue.ledger.ledger import Ledger

WATCHED = {"model_uuid": str(UUID(int=1)), "training_uuid": str(UUID(int=2))}
PENDING = reply(200, b'{"status": "pending", "result": null}')
QUEUED = reply(200, b'{"status": "queued"}')


@pytest.fixture
async def bench(
    redis: Redis, ledger: Ledger, stub: StubApi, tmp_path: Path
) -> AsyncIterator[Bench]:
    """A worker with one slot for long polls."""
    async with open_bench(redis, ledger, None, tmp_path, domain=stub.url) as opened:
        dependencies = with_encord(opened.executor.dependencies, long_polls=LongPolls(1, 20))
        opened.executor = replace(opened.executor, dependencies=dependencies)
        yield opened


async def test_a_poll_that_is_not_held_open_is_followed_by_a_pause(
    bench: Bench, stub: StubApi
) -> None:
    """Each worker would else send hundreds of requests a second for as long as trainings last."""
    sent = await bench.send("watch_training", WATCHED)
    held = replace(PENDING, delay_seconds=HELD_SECONDS + 0.1)
    delays = []
    for answer in (PENDING, QUEUED, held):
        stub.answers.append(answer)
        finish = await bench.attempt(sent)
        assert finish is not None
        delays.append(finish.delay_seconds or 0.0)
    shortest = 5.0
    assert min(delays[:2]) > shortest
    assert delays[2] < 1
    assert all("timeoutSeconds=20" in each.target for each in stub.recorded)
