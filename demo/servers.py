"""The demo's servers: Redis, sandbox and worker, as real processes with one folder for all."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from demo.dataset import Dataset, read_dataset
from demo.gateway import Gateway
from demo.processes import Child
from worker.embedded import EmbeddedRedis
from worker.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from demo.processes import Reaper

NAMESPACE: Final = "demo"
PARALLEL_TRAININGS: Final = 2
_API_PREFIX: Final = "ENCORD_"
_CONSOLE_SCRIPT: Final = ("-P", "-c", "import sys; from worker.cli import main; sys.exit(main())")


@dataclass(frozen=True, slots=True)
class Servers:
    """Where everything is.

    Attributes:
        settings: the worker's, as environment variables.
        gateway: None where none was asked for.
    """

    folder: Path
    redis: EmbeddedRedis
    dataset: Dataset
    settings: dict[str, str]
    sandbox: Child
    worker: Child
    gateway: Gateway | None = None

    @property
    def page_url(self) -> str:
        """The address of the gateway's page, empty without one."""
        return "" if self.gateway is None else self.gateway.page_url

    def losses(self, training_uuid: str) -> dict[str, float]:
        """Returns the loss of each epoch so far of a training that runs."""
        told = self.folder / "sandbox" / "trainings" / training_uuid / "progress.json"
        try:
            found: dict[str, float] = orjson.loads(told.read_bytes())
        except (OSError, ValueError):
            # Before its first epoch has ended.
            return {}
        return found

    def how_to_go_on(self) -> str:
        """Returns the commands that start the same servers again, each in a terminal of its own."""
        redis_url = f"redis://127.0.0.1:{self.redis.port}/0"
        settings = {**self.settings, f"{PREFIX}REDIS_URL": redis_url}
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
        port = self.dataset.domain.rpartition(":")[2]
        redis = [self.redis.server, "--bind", "127.0.0.1", "--port", self.redis.port]
        redis += ["--dir", self.redis.folder, "--appendonly", "yes"]
        sandbox = ["trainmaster", "sandbox", "--state", self.folder / "sandbox", "--port", port]
        commands = (shlex.join(map(str, command)) for command in (redis, sandbox))
        return "\n".join(("To go on with it:", *commands, f"{exports} trainmaster worker", ""))


@asynccontextmanager
async def running_servers(
    folder: Path, logs: Path, reaper: Reaper, *, with_page: bool = False
) -> AsyncIterator[Servers]:
    """Starts the servers, and stops them in the opposite order.

    Args:
        folder: keeps the servers' state.
        logs: gets a log file of each child.
        reaper: is told of every process.
        with_page: whether a gateway runs too.

    Raises:
        ChildError: the sandbox does not start.
        SettingError: Redis does not start.
    """
    sandbox = Child("sandbox", logs / "sandbox.log", reaper)
    worker = Child("worker", logs / "worker.log", reaper)
    gateway = Gateway(folder / "gateway", logs, reaper)
    with EmbeddedRedis(folder / "redis") as redis, reaper.guarding(redis.process):
        try:
            dataset = await _start_sandbox(sandbox, folder / "sandbox")
            settings = _settings(redis.url, dataset, folder)
            await worker.start(
                [sys.executable, *_CONSOLE_SCRIPT, "worker", "--name", "demo@%h"],
                {**_environ(), **settings},
            )
            if with_page:
                roots = settings[f"{PREFIX}DATA_ROOTS"]
                await gateway.start(_CONSOLE_SCRIPT, {**_environ(), **settings}, roots)
            shown = gateway if with_page else None
            yield Servers(folder, redis, dataset, settings, sandbox, worker, shown)
        finally:
            await gateway.stop()
            # The worker first: it hands back what runs, and wants to tell Redis.
            await worker.stop()
            await sandbox.stop()


async def _start_sandbox(sandbox: Child, state: Path) -> Dataset:
    arguments = ["-P", "-m", "sandbox", "--state", str(state)]
    arguments += ["--parallel-trainings", str(PARALLEL_TRAININGS)]
    await sandbox.start([sys.executable, *arguments], _environ())
    told = state / "sandbox.json"
    await sandbox.until(told.exists)
    return read_dataset(told)


def _settings(redis_url: str, dataset: Dataset, folder: Path) -> dict[str, str]:
    return {
        "ENCORD_DOMAIN": dataset.domain,
        "ENCORD_SSH_KEY_FILE": str(dataset.key_file),
        f"{PREFIX}REDIS_URL": redis_url,
        f"{PREFIX}NAMESPACE": NAMESPACE,
        f"{PREFIX}DATA_ROOTS": str(folder / "sandbox" / "data"),
        f"{PREFIX}RESULT_STORE": str(folder / "results"),
        # The page is made from the events, so every result stands in its event.
        f"{PREFIX}RESULT_LIMIT_BYTES": str(16 * 1024 * 1024),
        f"{PREFIX}POLL_MIN_SECONDS": "0.5",
        f"{PREFIX}SWEEP_SECONDS": "0.2",
    }


def _environ() -> dict[str, str]:
    """Returns our environment without settings of a worker elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith((PREFIX, _API_PREFIX))
    }
