"""A Redis, a sandbox and workers, all real processes that can be killed, frozen and restarted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.console import SCRIPT, Process, start_logged
from tests.processes import command_lines
from tests.sandbox_process import SandboxProcess
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

READY_SECONDS = 120.0
# Times that are judged are allowed so many times over; more in tests, whose machine may be busy.
PATIENCE = 1.0
ROOT = Path(__file__).parents[2]

# Leases and pauses short enough that a suite of crashes takes minutes.
QUICK = {
    "TRAINMASTER_LEASE_SECONDS": "3",
    "TRAINMASTER_CONSUMER_IDLE_SECONDS": "3",
    "TRAINMASTER_SWEEP_SECONDS": "0.25",
    "TRAINMASTER_SLICE_SECONDS": "5",
    "TRAINMASTER_RETRY_MIN_SECONDS": "0.2",
    "TRAINMASTER_RETRY_MAX_SECONDS": "2",
    "TRAINMASTER_POLL_MIN_SECONDS": "0.5",
    "TRAINMASTER_POLL_MAX_SECONDS": "2",
    "TRAINMASTER_LONG_POLL_CONCURRENCY": "0",
    "TRAINMASTER_READ_TIMEOUT_SECONDS": "5",
    "TRAINMASTER_DOUBT_SECONDS": "10",
    "TRAINMASTER_MAX_ATTEMPTS": "50",
    # Where nothing is poison, a lease that a busy machine let lapse must not look like it.
    "TRAINMASTER_MAX_CLAIMS": "100",
    "TRAINMASTER_REPAIR_SECONDS": "1",
    "TRAINMASTER_LOG_FORMAT": "json",
}

# Where nobody breaks anything nothing is done again: a busy machine must not look like a fault.
PATIENT = {
    "TRAINMASTER_CONNECT_TIMEOUT_SECONDS": "90",
    "TRAINMASTER_POOL_TIMEOUT_SECONDS": "90",
    "TRAINMASTER_READ_TIMEOUT_SECONDS": "90",
}


class WorkerProcess:
    """One worker; its log is kept over restarts."""

    def __init__(self, log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        self.environment = dict(environment)
        self.process: Process | None = None
        self.starts = 0
        self.readies = 0

    @property
    def alive(self) -> bool:
        """Whether the process runs, or is frozen."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The process' id."""
        assert self.process is not None
        return self.process.pid

    def start(self, **more: str) -> None:
        """Starts the process; does not wait for it."""
        self.starts += 1
        if self.log.exists():
            self.readies = self.log.read_text("utf-8", "replace").count(" ready.")
        # Else Celery hides its command line, in which secrets are looked for.
        self.process = self._launch({**os.environ, "NOSETPS": "1", **self.environment, **more})

    def _launch(self, environment: Mapping[str, str]) -> Process:
        command = [str(SCRIPT), "worker"]
        return start_logged(command, environment, self.log, module="tests.faults.failing_worker")

    @property
    def http_port(self) -> int:
        """Where the process answers probes, as its log tells once it does."""

        def told() -> list[str]:
            said = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
            return [line for line in said.splitlines() if '"monitoring.listening"' in line]

        wait_until(lambda: bool(told()), READY_SECONDS, "the worker answers probes")
        return int(json.loads(told()[-1])["port"])

    @property
    def ready(self) -> bool:
        """Whether the process that was started last takes commands."""
        said = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return self.alive and said.count(" ready.") >= self.readies + 1

    def send(self, number: signal.Signals) -> None:
        """Sends a signal if there is still someone to get it."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills the process and waits until it is gone."""
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def terminate(self, seconds: float = 90) -> tuple[int, float]:
        """Asks the process to stop; returns its exit code and how long it took."""
        assert self.process is not None
        begun = time.monotonic()
        self.send(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            code = -9
        return code, time.monotonic() - begun


@dataclass
class Fleet:
    """Everything that a scenario breaks.

    Attributes:
        folder: where all of it lies.
        size: how many workers.
        settings: environment of the workers, over `QUICK`.
        redis_config: directives of the Redis server.
        sandbox_options: of the sandbox's command line.
        redis_server: the server's program, where it is not the one of this machine.
        first_machine: what the first worker's environment has besides.
    """

    folder: Path
    size: int = 2
    settings: Mapping[str, str] = field(default_factory=dict)
    redis_config: Mapping[str, str] = field(default_factory=dict)
    sandbox_options: tuple[str, ...] = ()
    redis_server: Path | None = None
    first_machine: Mapping[str, str] = field(default_factory=dict)
    workers: list[WorkerProcess] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.redis = EmbeddedRedis(
            self.folder / "redis", server=self.redis_server, config=self.redis_config
        )
        self.redis.start()
        self.client = Redis.from_url(
            self.redis.url, socket_timeout=20, retry=Retry(ConstantBackoff(0.2), 100)
        )
        self.sandbox = SandboxProcess(self.folder / "sandbox", *self.sandbox_options)
        self.sandbox.start()
        self.add_workers(self.size)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.send(signal.SIGCONT)
            worker.kill()
        self.sandbox.stop()
        self.client.close()
        self.redis.kill()

    def add_workers(self, count: int) -> None:
        """Makes and starts workers; every other one has a bearer token in place of the key."""
        for _ in range(count):
            number = len(self.workers)
            environment = self.environment_of(number)
            worker = WorkerProcess(self.folder / f"worker-{number}.log", environment)
            worker.start()
            self.workers.append(worker)

    def environment_of(self, number: int) -> dict[str, str]:
        """Returns the settings of one of the workers."""
        environment = self.environment()
        if number % 2:
            environment["TRAINMASTER_BEARER_TOKEN"] = self.token()
        elif not number:
            environment |= self.first_machine
        return environment

    def environment(self) -> dict[str, str]:
        """Returns the settings of a worker."""
        return {
            "TRAINMASTER_REDIS_URL": self.redis.url,
            "ENCORD_DOMAIN": self.sandbox.told["domain"],
            "ENCORD_SSH_KEY_FILE": self.sandbox.told["key_file"],
            "TRAINMASTER_RESULT_STORE": str(self.folder / "results"),
            **QUICK,
            **self.settings,
        }

    def token(self) -> str:
        """Returns the bearer token that the sandbox takes."""
        return (self.folder / "sandbox" / "token").read_text().strip()

    def secrets(self) -> dict[str, str]:
        """Returns what must stand in nothing that is ever written."""
        lines = Path(self.sandbox.told["key_file"]).read_text().splitlines()
        return {
            "redis password": self.redis.url.partition("@")[0].rpartition(":")[2],
            "bearer token": self.token(),
            # The last whole line of the file is private; the first ones hold the public key.
            "private key": lines[-3],
        }

    def leaks(self) -> list[str]:
        """Returns which secrets stand in logs, events, dead letters, or process lists."""
        texts = [self.logs()]
        texts += [
            str(self.client.xrange(f"{{trainmaster}}:{stream}"))
            for stream in ("events", "dead-letters")
        ]
        texts += command_lines()
        return [
            name for name, secret in self.secrets().items() if any(secret in text for text in texts)
        ]

    def wait_ready(self, count: int | None = None) -> None:
        """Waits until so many workers read the stream."""
        wanted = len(self.workers) if count is None else count

        def ready() -> bool:
            try:
                return (
                    len(self.client.xinfo_consumers("{trainmaster}:commands", "intake")) >= wanted
                )
            except RedisError:
                return False

        wait_until(ready, READY_SECONDS, "the workers read the stream")

    def revive(self) -> None:
        """Starts the workers that are dead."""
        for worker in self.workers:
            if not worker.alive:
                worker.start()

    def stop(self) -> int:
        """Asks all workers to stop; returns how many had ended by themselves or end badly."""
        ended = sum(not worker.alive for worker in self.workers)
        return ended + sum(worker.terminate()[0] != 0 for worker in self.workers if worker.alive)

    def logs(self) -> str:
        """Returns what all processes have written."""
        files = [*(worker.log for worker in self.workers), self.sandbox.errors]
        return "\n".join(file.read_text("utf-8", "replace") for file in files if file.exists())


class Repeater:
    """Does something again and again whenever it is asked whether it is time.

    In the caller's thread: a server that a thread had started would die with that thread.
    """

    def __init__(self, act: Callable[[], object], every_seconds: float) -> None:
        self._act = act
        self._every_seconds = every_seconds
        self._next = time.monotonic() + every_seconds
        self.times = 0

    def tick(self) -> None:
        """Acts if it is time."""
        if time.monotonic() >= self._next:
            self._act()
            self.times += 1
            # What was late makes up for it, but not all at once.
            self._next = max(self._next + self._every_seconds, time.monotonic())


def bar(seconds: float) -> float:
    """Returns the time above which something took too long."""
    return seconds * PATIENCE


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> float:
    """Waits for a state; returns how long it took."""
    begun = time.monotonic()
    while not holds():
        waited = time.monotonic() - begun
        assert waited < seconds, f"after {seconds} s it is still not so that {what}"
        time.sleep(0.05)
    return time.monotonic() - begun
