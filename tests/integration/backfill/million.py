"""A backfill of very many items: `python -m tests.integration.backfill.million --items N`.

Two workers, one reader, Redis with an AOF, and the benchmarks' stub of the API. Reader and workers
are killed at once, as often as asked for, evenly over the items. Prints the memory of each process
and of Redis over time, the CPU seconds of the reader, and whether each item has one result.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from uuid import UUID

import httpx
import orjson
from redis import Redis

from tests.console import SCRIPT, Console
from tests.faults.scenarios.backfills import ASKED, running_stub
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import Iterator

ID: Final = "million"
HASH: Final = f"{{million}}:group:{ID}"
WORKERS: Final = ("worker-1", "worker-2")
READER: Final = "reader"
SAMPLE_SECONDS: Final = 1.0
SHOWN_SAMPLES: Final = 25
_MEBIBYTE: Final = 2**20
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """How all stood at one moment; memory in MiB."""

    seconds: float
    ended: int
    open_items: int
    unwritten: int
    redis: float
    memory: dict[str, float]

    def line(self) -> str:
        """Returns the sample as a row of a table."""
        memory = " ".join(f"{self.memory.get(name, 0):9.0f}" for name in (READER, *WORKERS))
        return (
            f"{self.seconds:8.0f} {self.ended:9} {self.open_items:6} {self.unwritten:9} "
            f"{self.redis:7.1f} {memory}"
        )


@dataclass
class Processes:
    """Reader and workers, their peaks and their processor time, over all kills."""

    console: Console
    folder: Path
    source: Path
    options: list[str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    peaks: Counter[str] = field(default_factory=Counter)
    cpu_seconds: Counter[str] = field(default_factory=Counter)
    _cpu_of_pid: dict[int, float] = field(default_factory=dict)

    def start(self) -> None:
        """Starts the workers and the reader, which goes on if it has begun before."""
        for name in WORKERS:
            self._start(name, "worker")
        if READER in self.running:
            self._start(READER, "backfill", "resume", ID)
        else:
            self._start(READER, "backfill", "run", str(self.source), "--id", ID, *self.options)

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [SCRIPT, *arguments], env=self.console.environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """Kills all at once."""
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait()

    def sample(self) -> dict[str, float]:
        """Notes peaks and processor time; returns the memory of each in MiB."""
        found = {}
        for name, process in self.running.items():
            try:
                told = Path(f"/proc/{process.pid}/status").read_text()
                times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            memory = {
                line.split(":")[0]: line.split()[1] for line in told.splitlines() if " kB" in line
            }
            if "VmRSS" not in memory:
                continue
            found[name] = int(memory["VmRSS"]) / 1024
            self.peaks[name] = max(self.peaks[name], round(int(memory["VmHWM"]) / 1024))
            cpu = (int(times[11]) + int(times[12])) / _TICKS
            self.cpu_seconds[name] += cpu - self._cpu_of_pid.get(process.pid, 0.0)  # type: ignore[assignment]
            self._cpu_of_pid[process.pid] = cpu
        return found


@dataclass(frozen=True)
class Verdict:
    """What became of the items.

    Attributes:
        calls: of the API; a prediction whose worker was killed is asked for again.
        cpu_seconds: of reader and workers; up to a second before each kill is not in it.
        peaks: of memory, in MiB.
    """

    items: int
    results: int
    doubled: int
    failed: int
    kills: int
    seconds: float
    calls: int
    peaks: dict[str, float]
    cpu_seconds: dict[str, float]
    keys_left: list[str]

    @property
    def holds(self) -> bool:
        """Whether each item has one result."""
        return self.results == self.items and not (self.doubled or self.failed)


def measure(folder: Path, items: int, kills: int, latency_seconds: float) -> Verdict:
    """Runs it, printing a sample now and then."""
    source = folder / "items.jsonl"
    with source.open("wb") as file:
        file.writelines(_rows(items))
    with (
        EmbeddedRedis(folder / "redis") as server,
        running_stub(folder, latency_seconds) as url,
        Redis.from_url(server.url) as client,
    ):
        console = Console(
            server.url,
            "million",
            ENCORD_DOMAIN=url,
            TRAINMASTER_BEARER_TOKEN="any",
            TRAINMASTER_RESULT_STORE=str(folder / "store"),
            TRAINMASTER_LOG_LEVEL="ERROR",
            TRAINMASTER_LEASE_SECONDS="5",
        )
        options = [
            *("--project", ASKED["project_uuid"], "--attachment", ASKED["project_model_uuid"]),
            *("--training", ASKED["training_uuid"], "--task", "object_detection"),
            *("--output", str(folder / "out")),
        ]
        processes = Processes(console, folder, source, options)
        processes.start()
        try:
            samples, killed = _watch(processes, client, items, kills)
            calls = sum(httpx.get(f"{url}/calls", timeout=600).json().values())
        finally:
            processes.kill()
        _print_samples(samples, sys.stdout)
        left = sorted(key.decode() for key in client.scan_iter(match="{million}*", count=1000))
    return _judged(folder, items, killed, samples, calls, processes, left)


def _judged(
    folder: Path,
    items: int,
    killed: int,
    samples: list[Sample],
    calls: int,
    processes: Processes,
    left: list[str],
) -> Verdict:
    found: Counter[int] = Counter()
    failed = 0
    for record in read_records(Output(str(folder / "out"))):
        found[record["item"]] += 1
        failed += record["state"] == "failed"
    return Verdict(
        items,
        len(found),
        found.total() - len(found),
        failed,
        killed,
        samples[-1].seconds,
        calls,
        {**processes.peaks, "redis": max(sample.redis for sample in samples)},
        {name: round(seconds, 1) for name, seconds in processes.cpu_seconds.items()},
        left,
    )


def _rows(items: int) -> Iterator[bytes]:
    for number in range(items):
        yield b'{"data_uuid":"%s"}\n' % str(UUID(int=number + 1)).encode()


def _watch(processes: Processes, client: Redis, items: int, kills: int) -> tuple[list[Sample], int]:
    """Samples until the reader has ended, and kills on the way."""
    begun = time.monotonic()
    samples: list[Sample] = []
    killed = 0
    while True:
        time.sleep(SAMPLE_SECONDS)
        over = processes.running[READER].poll() is not None
        memory = processes.sample()
        told = client.hmget(HASH, "succeeded", "failed")
        samples.append(
            Sample(
                round(time.monotonic() - begun, 1),
                sum(int(each or 0) for each in told),
                int(client.scard("{million}:group-open:" + ID)),
                int(client.xlen("{million}:group-results:" + ID)),
                round(client.info("memory")["used_memory"] / _MEBIBYTE, 1),
                memory,
            )
        )
        if over:
            return samples, killed
        if killed < kills and samples[-1].ended >= items * (killed + 1) / (kills + 1):
            killed += 1
            processes.kill()
            processes.start()


def _print_samples(samples: list[Sample], out: IO[str]) -> None:
    out.write(f"{'seconds':>8} {'ended':>9} {'open':>6} {'unwritten':>9} {'redis':>7}")
    out.write("".join(f" {name:>9}" for name in (READER, *WORKERS)) + "   (MiB)\n")
    step = max(1, len(samples) // SHOWN_SAMPLES)
    for sample in [*samples[::step], samples[-1]]:
        out.write(f"{sample.line()}\n")


def main() -> int:
    """Measures what was asked for; exits with 1 where an item has no result, or two."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.backfill.million", description=__doc__
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.05, help="of the stub, in seconds")
    parser.add_argument("--folder", type=Path, help="kept; else a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(folder, options.items, options.kills, options.latency)
    sys.stdout.write(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2).decode() + "\n")
    reader = found.cpu_seconds.get(READER, 0.0)
    sys.stdout.write(
        f"{found.items / found.seconds:.0f} items a second; reader and collector: "
        f"{1000 * reader / found.items:.3f} CPU seconds per 1,000 items\n"
    )
    return 0 if found.holds else 1


if __name__ == "__main__":
    sys.exit(main())
