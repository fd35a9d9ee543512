"""How long a stop waits, and what it keeps meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import orjson
import pytest

from tests.stub_api import reply
from worker.app import BROKEN, WorkerProcess
from worker.bootstrap.monitoring import create_monitor
from worker.bootstrap.supervisor import create_supervisor
from worker.environment import load_settings
from worker.queue.ledger.epoch import Epoch
from worker.queue.ledger.format import FORMAT
from worker.worker_processes import kill_after_seconds

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.stub_api import StubApi
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease

PATIENCE_SECONDS = 60
LEASE_SECONDS = 3.0
MODELS = reply(200, b'{"results": [], "nextPageToken": null}')


def test_a_stop_waits_for_longer_than_an_answer_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off before, a change that was under way would be in doubt."""
    monkeypatch.setenv("TRAINMASTER_READ_TIMEOUT_SECONDS", "777")
    settings = load_settings()
    supervisor = create_supervisor(settings, lambda: None, lambda: None)
    assert supervisor._times.grace > 777
    assert kill_after_seconds(settings) > supervisor._times.grace, "beneath one process too"


async def test_a_stop_keeps_the_lease_of_the_change_that_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, stub: StubApi, ledger: Ledger
) -> None:
    """Claimed by another worker meanwhile, what the change came to could not be recorded."""
    monkeypatch.setenv("TRAINMASTER_LEASE_SECONDS", str(LEASE_SECONDS))
    stub.default = MODELS

    def no_celery() -> None:
        raise RuntimeError("whoever can't send a wake-up drains by itself")

    supervisor = create_supervisor(load_settings(), no_celery, lambda: None)
    await asyncio.to_thread(supervisor.start)
    stub.default = replace(reply(204), delay_seconds=2 * LEASE_SECONDS)
    before = len(stub.recorded)
    command = {"type": "delete_model", "id": "slow", "data": {"model_uuid": str(uuid4())}}
    await asyncio.to_thread(supervisor.submit, orjson.dumps(command))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(stub.recorded) == before:
            await asyncio.sleep(0.01)
    stopping = asyncio.create_task(asyncio.to_thread(supervisor.stop))
    found: list[Lease] = []
    while not stopping.done():
        found += (await ledger.claim(10, suspects=1)).leases
        await asyncio.sleep(LEASE_SECONDS / 20)
    assert found == [], "another worker claims it"
    assert await ledger.redis.hget(ledger.keys.command("slow"), "s") == b"succeeded"


async def test_a_ledger_of_a_newer_version_is_no_wrong_setting(
    stub: StubApi, redis: Redis, keys: Keys
) -> None:
    """Whoever starts workers again after a 1, as systemd, leaves one alone that ends with 2."""
    stub.default = MODELS
    await Epoch(redis, keys).enter()
    await redis.set(keys.format, str(FORMAT + 1))
    settings = load_settings()
    process, monitor = WorkerProcess(), create_monitor(settings)
    supervisor = create_supervisor(settings, lambda: None, lambda: None, monitor)
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(process.start, supervisor, monitor)
    assert (ended.value.code, process.exit_code) == (BROKEN, BROKEN)
