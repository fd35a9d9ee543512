"""What the tests share: a sandbox per module, a worker's insides, and a whole system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.console import Console
from tests.integration.backfill_bench import open_stubbed
from tests.integration.worker_bench import open_bench
from tests.sandbox_process import SIMULATED, running_sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.integration.worker_bench import Bench
    from tests.sandbox_process import SandboxProcess
    from tests.stub_api import StubApi
    from worker.queue.ledger.ledger import Ledger


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """A sandbox that runs through all tests of a module, with a state folder of its own."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox") / "state") as running:
        yield running


@pytest.fixture
async def bench(
    redis: Redis, ledger: Ledger, sandbox: SandboxProcess, tmp_path: Path
) -> AsyncIterator[Bench]:
    """A worker's insides on the module's sandbox, whose trainings end at once."""
    sandbox.faults(SIMULATED)
    async with open_bench(redis, ledger, sandbox, tmp_path) as opened:
        yield opened


@pytest.fixture
async def stub_bench(
    redis: Redis, ledger: Ledger, stub: StubApi, tmp_path: Path
) -> AsyncIterator[Bench]:
    """A worker's insides on a stub of the API that finds nothing on any picture."""
    async with open_stubbed(redis, ledger, stub, tmp_path) as opened:
        yield opened


@pytest.fixture
def console(redis_url: str, namespace: str, tmp_path: Path) -> Console:
    """The console script on a namespace that no worker serves."""
    store = tmp_path / "result-store"
    return Console(redis_url, namespace, TRAINMASTER_RESULT_STORE=str(store))
