"""What the tests share: a sandbox per module, a worker's insides, and a whole system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.console import Console, Served, running_worker
from tests.integration.worker_bench import open_bench
from tests.sandbox_process import SIMULATED, running_sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.integration.worker_bench import Bench
    from tests.sandbox_process import SandboxProcess
    from worker.embedded import EmbeddedRedis
    from worker.ledger.ledger import Ledger


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
def console(redis_url: str, namespace: str, tmp_path: Path) -> Console:
    """The console script on a namespace that no worker serves."""
    store = tmp_path / "result-store"
    return Console(redis_url, namespace, TRAINMASTER_RESULT_STORE=str(store))


@pytest.fixture(scope="session")
def system(
    redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A sandbox and a worker of this run, on a namespace of their own."""
    folder = tmp_path_factory.mktemp("served")
    with running_sandbox(folder / "sandbox") as sandbox:
        console = Console(
            redis_server.url,
            "served",
            ENCORD_DOMAIN=sandbox.told["domain"],
            ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
            TRAINMASTER_POLL_MIN_SECONDS="0.5",
            TRAINMASTER_RETRY_MIN_SECONDS="0.5",
            TRAINMASTER_LOG_FORMAT="json",
            TRAINMASTER_RESULT_STORE=str(folder / "results"),
        )
        with running_worker(console, folder / "worker.log"):
            yield Served(console, sandbox, folder / "worker.log")


@pytest.fixture
def served(system: Served) -> Served:
    """The system without faults."""
    system.sandbox.http.delete("/sandbox/faults").raise_for_status()
    return system
