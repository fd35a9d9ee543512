"""A soak: a steady load over HTTP for an hour, and what the gateway's processes hold meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from tests.console import Console
from tests.faults.audit import ENDS, EVENTS, Report, entries, state
from tests.faults.fleet import Fleet, Repeater
from tests.faults.scenarios.sinks import SINK_SECRET, open_endpoints
from tests.faults.workload import Scene
from tests.gateway_process import running_gateway
from worker.gateway.bootstrap import MAX_CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

PER_SECOND: Final = 50
SAMPLE_SECONDS: Final = 5.0
# By then caches are full and pools as large as they get.
WARM_SHARE: Final = 0.3
# Growth over all the time that is measured above which it is not flat. Allocators move by steps.
MOST_MIB: Final = 10.0
MOST_DESCRIPTORS: Final = 5.0
GATEWAY_PROCESSES: Final = 2
# Of a process: the pool of its requests, and what its followers and watchers have.
MOST_CONNECTIONS: Final = MAX_CONNECTIONS + 32
# One in so many asks for the end and waits for it, and one for the list.
WAITS: Final = 10
LISTS: Final = 50
DRAIN_SECONDS: Final = 300.0
_PAGE: Final = 5_000
_MIB: Final = 1024 * 1024


def soak(folder: Path, seed: int, *, minutes: float = 60.0, per_second: int = PER_SECOND) -> Report:
    """Sends commands at a steady pace to a gateway with a sink, and samples its processes.

    Args:
        folder: for everything that the scenario leaves.
        seed: of nothing; the load is the same each time.
        minutes: of load.
        per_second: commands.
    """
    with Fleet(folder, 1) as fleet, open_endpoints(folder / "good.log", ("good",)) as (_, ports):
        scene = Scene.prepare(fleet)
        fleet.wait_ready()
        file = folder / "integrations.toml"
        file.write_text(_sink(ports["good"]), "utf-8")
        console = Console(
            fleet.redis.url,
            "trainmaster",
            SINK_SECRET=SINK_SECRET,
            TRAINMASTER_INTEGRATIONS_FILE=str(file),
            TRAINMASTER_GATEWAY_FOLDER=str(folder / "gateway"),
        )
        log = folder / "gateway.log"
        with running_gateway(console, log, "--workers", str(GATEWAY_PROCESSES)) as gateway:
            port = fleet.client.connection_pool.connection_kwargs["port"]
            samples = Samples(gateway.pid, port)
            ends = _Ends(fleet.client)
            load = _Load(gateway.url, scene.model_uuid, minutes * 60, per_second)
            keepers = Repeater(samples.take, SAMPLE_SECONDS), Repeater(ends.read, 1.0)
            load.start()
            while load.runs:
                for keeper in keepers:
                    keeper.tick()
                time.sleep(0.1)
            taken = _drain(load, ends, folder / "good.log")
        return _judge(f"soak, {minutes:g} min[seed {seed}]", load, ends, taken, samples)


def _sink(port: int) -> str:
    return (
        '[sinks.good]\ntypes = ["get_model.succeeded"]\n'
        f'[sinks.good.webhook]\nurl = "http://127.0.0.1:{port}/hook"\n'
        'secrets = [{ env = "SINK_SECRET" }]\nallow_private = true\n'
    )


@dataclass
class Samples:
    """What the processes of a gateway hold, the one of `pid` and its children.

    Attributes:
        memory: by process, seconds and resident MiB.
        descriptors: by process, seconds and how many are open, connections to Redis left out: of
            these a pool keeps as many as were ever needed at a time.
        connections: by process, the most that it had to Redis.
    """

    pid: int
    redis_port: int
    memory: dict[int, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    descriptors: dict[int, list[tuple[float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    connections: Counter[int] = field(default_factory=Counter)

    def take(self) -> None:
        """Takes a sample of each process."""
        to_redis = _sockets_to(self.redis_port)
        for pid in (self.pid, *_children(self.pid)):
            at, process = time.monotonic(), Path("/proc", str(pid))
            with suppress(OSError):
                pages = int((process / "statm").read_text().split()[1])
                self.memory[pid].append((at, pages * os.sysconf("SC_PAGE_SIZE") / _MIB))
                opened = [str(each.readlink()) for each in (process / "fd").iterdir()]
                connections = sum(each in to_redis for each in opened)
                self.connections[pid] = max(self.connections[pid], connections)
                self.descriptors[pid].append((at, float(len(opened) - connections)))


def _sockets_to(port: int) -> set[str]:
    """Returns what the descriptors of connections to a port of this machine link to."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}")}


def _children(pid: int) -> list[int]:
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        # It may end while it is read.
        with suppress(OSError):
            # The name, in brackets, may hold blanks.
            parent = int(each.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found.append(int(each.parent.name))
    return found


@dataclass(frozen=True)
class Trend:
    """How a figure went once it was warm: by a line laid through its samples.

    Attributes:
        per_hour: the line's slope.
        grown: what the line rises over the samples.
    """

    first: float
    last: float
    per_hour: float
    grown: float

    @classmethod
    def of(cls, samples: Sequence[tuple[float, float]]) -> Trend:
        """Lays the line through what follows the warming up."""
        warm = samples[int(len(samples) * WARM_SHARE) :]
        middle = sum(at for at, _ in warm) / len(warm)
        level = sum(value for _, value in warm) / len(warm)
        spread = sum((at - middle) ** 2 for at, _ in warm)
        slope = sum((at - middle) * (value - level) for at, value in warm) / spread if spread else 0
        grown = slope * (warm[-1][0] - warm[0][0])
        return cls(warm[0][1], warm[-1][1], slope * 3600, grown)

    def told(self) -> str:
        """Returns it in a few words."""
        return f"{self.first:.0f} to {self.last:.0f}, {self.per_hour:+.1f} an hour"


class _Ends:
    """Counts ends by command; keeps no events, for there are many."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._since = "-"
        self.by_command: Counter[str] = Counter()
        self.succeeded: set[str] = set()

    def read(self) -> None:
        """Reads what came since."""
        while page := entries(self._client, EVENTS, self._since, count=_PAGE):
            self._since = f"({page[-1][0].decode()}"
            for _, fields in page:
                event = json.loads(fields[b"event"])
                if state(event) in ENDS:
                    self.by_command[event["subject"]] += 1
                if state(event) == "succeeded":
                    self.succeeded.add(event["id"])


class _Load:
    """Sends commands from a thread of its own, each with an id, and some other requests.

    Attributes:
        ids: of commands that were answered 202.
        seconds: how long these answers took.
        refused: other answers, by status; 0 for none.
    """

    def __init__(self, url: str, model_uuid: str, seconds: float, per_second: int) -> None:
        self.ids: list[str] = []
        self.seconds: list[float] = []
        self.refused: Counter[int] = Counter()
        self._url = url
        self._data = {"model_uuid": model_uuid}
        self._count = int(seconds * per_second)
        self._per_second = per_second
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all()))

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    async def _send_all(self) -> None:
        timeout = aiohttp.ClientTimeout(total=60)
        begun = time.monotonic()
        async with aiohttp.ClientSession(self._url, timeout=timeout) as session:
            tasks: set[asyncio.Task[None]] = set()
            for number in range(self._count):
                await asyncio.sleep(max(0.0, begun + number / self._per_second - time.monotonic()))
                task = asyncio.create_task(self._send(session, number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _send(self, session: aiohttp.ClientSession, number: int) -> None:
        command_id = f"soak-{number}"
        command = {"id": command_id, "type": "get_model", "data": self._data}
        begun = time.perf_counter()
        # Some clients come for one request only.
        headers = {"Connection": "close"} if number % WAITS == 1 else {}
        try:
            async with session.post("/v1/commands", json=command, headers=headers) as answer:
                await answer.read()
                status = answer.status
            if status == 202:
                self.seconds.append(time.perf_counter() - begun)
                self.ids.append(command_id)
            else:
                self.refused[status] += 1
            for path, every in (
                (f"/v1/commands/{command_id}?wait=20", WAITS),
                ("/v1/commands?state=succeeded&limit=20", LISTS),
            ):
                if number % every == 0:
                    async with session.get(path) as answer:
                        await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.refused[0] += 1


def _drain(load: _Load, ends: _Ends, log: Path) -> set[str]:
    """Waits until all have ended and were delivered; returns the ids that the endpoint has."""
    until = time.monotonic() + DRAIN_SECONDS
    while True:
        ends.read()
        taken = {line.split(" ")[2] for line in log.read_text("utf-8").splitlines()}
        is_over = len(ends.by_command) >= len(load.ids) and ends.succeeded <= taken
        if is_over or time.monotonic() > until:
            return taken
        time.sleep(1)


def _judge(name: str, load: _Load, ends: _Ends, taken: set[str], samples: Samples) -> Report:
    memory = {pid: Trend.of(found) for pid, found in samples.memory.items()}
    open_files = {pid: Trend.of(found) for pid, found in samples.descriptors.items()}
    grown = [each.grown > MOST_MIB for each in memory.values()]
    grown += [each.grown > MOST_DESCRIPTORS for each in open_files.values()]
    grown += [most > MOST_CONNECTIONS for most in samples.connections.values()]
    seconds = sorted(load.seconds)
    lost = sum(not ends.by_command[each] for each in load.ids) + len(ends.succeeded - taken)
    return Report(
        name,
        faults=0,
        commands=len(load.ids),
        lost=lost,
        doubled=sum(count - 1 for count in ends.by_command.values()),
        # The parent and each of its processes have to be there, or nothing was seen.
        wrong=sum(grown) + load.refused.total() + (len(memory) <= GATEWAY_PROCESSES),
        details={
            **{f"process {n} MiB": each.told() for n, each in enumerate(memory.values())},
            **{f"process {n} files": each.told() for n, each in enumerate(open_files.values())},
            "most connections to Redis": " ".join(map(str, samples.connections.values())),
            "p50_ms": round(seconds[len(seconds) // 2] * 1000, 1) if seconds else 0,
            "p99_ms": round(seconds[int(len(seconds) * 0.99)] * 1000, 1) if seconds else 0,
            "delivered": len(taken),
            **({"refused": dict(load.refused)} if load.refused else {}),
        },
    )
