"""Versions: workers of the last release and of this tree on one ledger, forward and back again.

A fleet is rolled from one to the other and back under load: each worker is stopped and one of the
other version is started in its place, while workers are killed now and then and the API fails.
A long backfill is under way all along, so that each version leads what the other one has begun.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.console import Process, start_logged
from tests.faults.audit import UNKNOWN, Audit, Report, report
from tests.faults.fleet import READY_SECONDS, Fleet, Repeater, WorkerProcess
from tests.faults.lying_proxy import LyingProxy
from tests.faults.scenarios.chaos_counts import count_anothers, count_creations, count_items
from tests.faults.scenarios.chaos_faults import SIMULATED, Front
from tests.faults.scenarios.chaos_load import BreakingBodies, Load
from tests.faults.scenarios.outages import half_written
from tests.faults.scenarios.trainings import post_faults
from tests.faults.workload import Scene, Workload
from tests.released import check_out

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.released import Released

RELEASE: Final = "release"
THIS: Final = "this"
Pair = tuple[str, str]
# The versions of the two workers, one after the other.
THERE_AND_BACK: Final[tuple[Pair, ...]] = (
    (RELEASE, RELEASE),
    (THIS, RELEASE),
    (THIS, THIS),
    (RELEASE, THIS),
    (RELEASE, RELEASE),
    (RELEASE, THIS),
    (THIS, THIS),
)
LONG_BACKFILL: Final = 900_000
TRAINING_SECONDS: Final = 45
# So long it may take on a busy machine until a backfill is led again.
LEAD_SECONDS: Final = 60.0
# Once nothing goes wrong any more something ends at least so often.
CALM_SECONDS: Final = 150.0
SETTINGS: Final = {
    # As many items at a time as keep the backfill going all along, at a second each.
    "TRAINMASTER_BACKFILL_WINDOW": "40",
    "TRAINMASTER_BACKFILL_PART_ITEMS": "100",
    "TRAINMASTER_CONCURRENCY": "64",
}
API: Final[tuple[dict[str, Any], ...]] = (
    {"operation": "predict_object_detection", "effect": "latency", "seconds": 1.0},
    {"operation": "*", "effect": "latency", "seconds": 0.05},
)

LISTED: Final[dict[str, Any]] = {
    "operation": "*",
    "effect": "running_trainings",
    "shown": "listed",
}


class ReleasedWorker(WorkerProcess):
    """A worker of the last release."""

    def __init__(self, log: Path, environment: Mapping[str, str], release: Released) -> None:
        super().__init__(log, environment)
        self._release = release

    def _launch(self, environment: Mapping[str, str]) -> Process:
        return start_logged(self._release.command("worker"), environment, self.log, may_fork=False)


def versions(
    folder: Path,
    seed: int,
    ref: str,
    *,
    phases: Sequence[Pair] = THERE_AND_BACK,
    seconds: float = 25.0,
    items: int = 2_000,
    per_second: int = 6,
    kill_every_seconds: float = 5.0,
) -> Report:
    """Rolls two workers from the release to this tree and back.

    Args:
        folder: for everything that the scenario leaves.
        seed: of the commands, the faults and the kills.
        ref: of the release, a tag or a commit.
        phases: the versions of the two workers, one pair after the other.
        seconds: that each phase lasts.
        items: of each long backfill; the next one begins before one is over.
        per_second: commands sent, besides trainings and short backfills.
        kill_every_seconds: between two kills of a worker.

    Raises:
        NoReleaseError: it can't be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    release = check_out(ref, folder / "release")
    rng = random.Random(seed)
    front = Front(random.Random(seed))
    files = BreakingBodies()
    files.awake.set()
    with (
        files.serve() as files_url,
        Fleet(folder / "fleet", 0) as fleet,
        LyingProxy(int(fleet.sandbox.told["domain"].rpartition(":")[2]), front, front.cut) as proxy,
    ):
        fleet.settings = {
            **SETTINGS,
            "ENCORD_DOMAIN": proxy.url,
            "TRAINMASTER_DATA_ROOTS": str(folder),
            "TRAINMASTER_SOURCE_URLS": files_url,
        }
        scene = Scene.prepare(fleet)
        load = Load(
            fleet,
            scene,
            rng,
            folder,
            files,
            files_url,
            rounds_per_backfill=10,
            training_seconds=TRAINING_SECONDS,
        )
        run = _Run(fleet, load, release, Audit(fleet), rng, kill_every_seconds, per_second)
        run.begin(phases[0], items)
        for pair in phases:
            run.roll_to(pair)
            run.go_on(pair, seconds)
        run.calm()
        return run.report(f"versions, {release.name} beside this[seed {seed}]", phases)


@dataclass
class _Run:
    """A run of the scenario.

    Attributes:
        retired: workers that were stopped for one of the other version.
        codes: exit codes of those.
        led: in how many phases a long backfill went on under workers of one version alone.
        handed_over: workers that were stopped while a long backfill was under way.
    """

    fleet: Fleet
    load: Load
    release: Released
    audit: Audit
    rng: random.Random
    kill_every_seconds: float
    per_second: int
    retired: list[WorkerProcess] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    led: Counter[str] = field(default_factory=Counter)
    versions: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)
    handed_over: int = 0
    kills: int = 0

    def begin(self, pair: Pair, items: int) -> None:
        """Starts the first workers and sends the first long backfill."""
        for slot, version in enumerate(pair):
            self.versions.append(version)
            self.fleet.workers.append(self._started(slot, version))
        self.fleet.sandbox.faults(*self._api_faults())
        self._items = items
        self._begin_backfill()
        self._killer = Repeater(self._kill_one, self.kill_every_seconds)
        self._keepers: tuple[Repeater, ...] = (
            Repeater(lambda: self.load.make_round(self.per_second), 1.0),
            Repeater(self._keep_backfill, 2.0),
            Repeater(self.load.send, 0.25),
            Repeater(self.fleet.revive, 0.5),
            Repeater(self.audit.update, 1.0),
        )

    def _begin_backfill(self) -> None:
        part = Workload()
        number = LONG_BACKFILL + len(self.long)
        self.long.append(self.load.add_backfill(part, number, self._items))
        part.send(self.fleet.client)
        self.load.work.expected |= part.expected

    def _keep_backfill(self) -> None:
        if self._read(self.long[-1]) >= self._items // 2:
            self._begin_backfill()

    def _api_faults(self) -> list[dict[str, Any]]:
        seed = self.rng.randrange(1000)
        fails = {"operation": "*", "effect": "status", "status": 503, "probability": 0.03}
        return [*API, {**fails, "seed": seed}, *post_faults(seed, 0.15, "listed")]

    def _started(self, slot: int, version: str) -> WorkerProcess:
        log = self.fleet.folder / f"worker-{slot}-{version}-{len(self.retired)}.log"
        environment = self.fleet.environment_of(slot)
        if version == RELEASE:
            worker: WorkerProcess = ReleasedWorker(log, environment, self.release)
        else:
            worker = WorkerProcess(log, environment)
        worker.start()
        return worker

    def _kill_one(self) -> None:
        # On a busy machine a worker takes longer to start than there is between two kills.
        if self._all_ready():
            self.rng.choice(self.fleet.workers).kill()
            self.kills += 1

    def _tick(self, *more: Repeater) -> None:
        for each in (*self._keepers, *more):
            each.tick()
        time.sleep(0.05)

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + READY_SECONDS
        while not holds():
            assert time.monotonic() < end, f"it is still not so that {what}"
            self._tick()

    def roll_to(self, pair: Pair) -> None:
        """Stops each worker of another version in its turn and starts one in its place."""
        for slot, version in enumerate(pair):
            self._wait(self._all_ready, "the workers are ready")
            if self.versions[slot] == version:
                continue
            leaving = self.fleet.workers[slot]
            self.handed_over += any(self._read(each) < self._items for each in self.long)
            self.codes.append(leaving.terminate()[0])
            self.retired.append(leaving)
            self.versions[slot] = version
            self.fleet.workers[slot] = self._started(slot, version)
        self._wait(self._all_ready, "the workers are ready")

    def _all_ready(self) -> bool:
        return all(worker.ready for worker in self.fleet.workers)

    def go_on(self, pair: Pair, seconds: float) -> None:
        """Lets two workers work for a while, and notes who led the long backfills."""
        before = self._cursor()
        end = time.monotonic() + seconds
        is_alone = len(set(pair)) == 1
        while time.monotonic() < end:
            self._tick(self._killer)
        # Whoever led may have been killed, and the lead is free once its lease is over.
        while is_alone and self._cursor() <= before and time.monotonic() < end + LEAD_SECONDS:
            self._tick()
        if is_alone and self._cursor() > before:
            self.led[pair[0]] += 1

    def _cursor(self) -> int:
        return sum(map(self._read, self.long))

    def _read(self, backfill_id: str) -> int:
        """Returns how many items of a backfill have been fed."""
        (told,) = self.fleet.client.hmget(f"{{trainmaster}}:backfill:{backfill_id}", ["read"])
        return int(told or 0)

    def calm(self) -> None:
        """Ends every fault and waits until everything has ended."""
        self.fleet.sandbox.faults(*API, SIMULATED, LISTED)
        self._keepers = self._keepers[2:]
        moved, seen = time.monotonic(), -1
        while not self._is_over() and time.monotonic() < moved + CALM_SECONDS:
            self._tick()
            now_seen = self.audit.seen + self._cursor()
            if now_seen > seen:
                moved, seen = time.monotonic(), now_seen
        # What comes too much may come a little later.
        time.sleep(3)
        self.audit.update()

    def _is_over(self) -> bool:
        rejected = len({event["id"] for event in self.audit.rejected})
        return (
            not self.load.unsent
            and self.audit.ended() >= len(self.load.work.expected)
            and rejected >= self.load.bad
        )

    def report(self, name: str, phases: Sequence[Pair]) -> Report:
        """Stops the workers and judges."""
        torn = half_written(self.fleet, self.load.work)
        self.codes += [worker.terminate()[0] for worker in self.fleet.workers]
        # Whose logs are looked at for secrets.
        self.fleet.workers += self.retired
        made = self.fleet.sandbox.truth()["created"]
        doubled, orphans = count_creations(self.audit, self.load, made)
        items, odd = count_items(self.load)
        alone = Counter(first for first, second in phases if first == second)
        wrong = {
            "another's answer": count_anothers(self.audit, self.load),
            "orphans": len(orphans),
            "rows left": torn,
            "items wrong": items["wrong"],
            "bad exits": sum(map(bool, self.codes)),
            # A backfill that one version could not go on with would have waited for the other.
            "phases without a leader": (alone - self.led).total(),
        }
        letters = self.audit.dead_letters()
        return report(
            name,
            self.audit,
            self.load.work.expected,
            faults=self.kills + len(self.retired),
            rejections=self.load.bad,
            lost=items["lost"],
            doubled=doubled + items["doubled"],
            wrong=sum(wrong.values()),
            odd=[*orphans, *odd],
            details={
                "rolled": len(self.retired),
                "kills": self.kills,
                "items": items["items"],
                "trainings": len(made["trainings"]),
                "led by": dict(self.led),
                "handed over": self.handed_over,
                UNKNOWN: sum(letter["error"]["code"] == UNKNOWN for letter in letters),
                **{what: count for what, count in wrong.items() if count},
            },
        )
