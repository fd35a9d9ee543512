"""Chaos: for minutes on end a fault drawn at random, out of all kinds that the suite knows.

The faults overlap: a worker may freeze while Redis is full and the API answers 503. What must hold
is the promise, for each command, whatever happened to it.
"""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from tests.faults.audit import UNKNOWN, Audit, Report, report, state
from tests.faults.fleet import Fleet, Repeater
from tests.faults.lying_proxy import LyingProxy
from tests.faults.scenarios.chaos_counts import count_anothers, count_creations, count_items
from tests.faults.scenarios.chaos_faults import Faults, Front
from tests.faults.scenarios.chaos_load import BULK, INBOX, BreakingBodies, Load
from tests.faults.scenarios.outages import half_written
from tests.faults.workload import COMMANDS, Scene
from tests.moved_clock import can_move, make_clock, moved_machine

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600
# Once nothing goes wrong any more something ends at least so often, until all has ended: a training
# in doubt waits as long as its timeout.
CALM_SECONDS = 300.0
# So long nothing may end at all, however many faults there are at once, but for what is in doubt.
STANDSTILL_SECONDS = 60.0
# A run that is at least so long has seen every kind.
ALL_KINDS_SECONDS = 900.0
LISTS = (
    INBOX,
    *(f"{{trainmaster}}:{name}" for name in ("inbox:processing", "celery", "celery:processing")),
)
# Rewritten often, its file stays so short that a restart takes no time; a kill may meet that too.
REDIS = {"auto-aof-rewrite-min-size": "2mb"}
SETTINGS = {
    # A fault every two seconds leaves hardly an attempt whole.
    "TRAINMASTER_MAX_ATTEMPTS": "1000",
    # A worker may die or freeze as often as that with the same command in hand.
    "TRAINMASTER_MAX_CLAIMS": "100",
    "TRAINMASTER_READ_TIMEOUT_SECONDS": "2",
    "TRAINMASTER_DOUBT_SECONDS": "40",
    "TRAINMASTER_BREAKER_MAX_SECONDS": "2",
    "TRAINMASTER_DOWNLOAD_IDLE_TIMEOUT_SECONDS": "1",
    "TRAINMASTER_BACKFILL_PART_ITEMS": "50",
    # Well above what is sent; both limits of the fleet are a part of what can go wrong.
    "TRAINMASTER_REQUESTS_PER_SECOND": "100",
    "TRAINMASTER_CONCURRENT_REQUESTS": "64",
}


def chaos(
    folder: Path, seed: int, seconds: float, *, every_seconds: float = 2.0, per_second: int = 8
) -> Report:
    """Sends a steady load while one fault after the other strikes, then lets everything end.

    Args:
        folder: for everything that the scenario leaves.
        seed: of the commands, of the faults and of whom they hit.
        seconds: how long faults strike.
        every_seconds: between two of them.
        per_second: commands sent, besides trainings and backfills.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    clock = make_clock(folder / "clock") if can_move() else None
    machine = moved_machine(folder / "machine", HOUR) if clock is not None else {}
    files, front = BreakingBodies(), Front(random.Random(seed))
    files.awake.set()
    server = clock.server if clock is not None else None
    with (
        files.serve() as files_url,
        Fleet(folder / "fleet", 0, redis_config=REDIS, redis_server=server) as fleet,
        LyingProxy(int(fleet.sandbox.told["domain"].rpartition(":")[2]), front, front.cut) as proxy,
    ):
        fleet.settings = {
            **SETTINGS,
            "ENCORD_DOMAIN": proxy.url,
            "TRAINMASTER_DATA_ROOTS": str(folder),
            "TRAINMASTER_SOURCE_URLS": files_url,
        }
        fleet.add_workers(3)
        load = Load(fleet, Scene.prepare(fleet), rng, folder, files, files_url)
        faults = Faults(fleet, load, front, rng, clock, machine)
        fleet.wait_ready()
        run = _Run(fleet, load, faults, Audit(fleet))
        run.storm(seconds, every_seconds, per_second)
        run.calm()
        return run.report(f"chaos, {seconds:.0f} s[seed {seed}]", seconds)


@dataclass
class _Run:
    """A run of the scenario.

    Attributes:
        standstill_seconds: the longest time in which nothing ended.
        odd: items that are wrong.
    """

    fleet: Fleet
    load: Load
    faults: Faults
    audit: Audit
    standstill_seconds: float = 0.0
    odd: list[str] = field(default_factory=list)
    _moved: tuple[int, float] = (0, 0.0)

    def storm(self, seconds: float, every_seconds: float, per_second: int) -> None:
        """Sends and strikes."""
        patient = self.fleet.client
        # Whoever reads must not wait for a Redis that the same thread has to let go on.
        self.fleet.client = self.load.client
        self._moved = (0, time.monotonic())
        repeaters = (
            Repeater(lambda: self.load.make_round(per_second), 1.0),
            Repeater(self.faults.strike, every_seconds),
            Repeater(self._keep, 0.25),
            Repeater(self.faults.release, 1.0),
            Repeater(self._read, 1.0),
        )
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for repeater in repeaters:
                repeater.tick()
            time.sleep(0.02)
        self.fleet.client = patient

    def calm(self) -> None:
        """Ends every fault and waits until everything has ended."""
        self.faults.calm()
        repeaters = (
            Repeater(self._keep, 0.25),
            Repeater(self.faults.release, 1.0),
            Repeater(self._read, 1.0),
        )
        self._moved = (self.audit.ended(), time.monotonic())
        while not self._is_over() and time.monotonic() < self._moved[1] + CALM_SECONDS:
            for repeater in repeaters:
                repeater.tick()
            time.sleep(0.1)
        # What comes too much may come a little later.
        time.sleep(3)
        self.audit.update()

    def _keep(self) -> None:
        self.faults.keep()
        self.load.send()

    def _read(self) -> None:
        with contextlib.suppress(RedisError):
            self.audit.update()
        ended, since = self._moved
        now = time.monotonic()
        if self.audit.ended() > ended:
            self._moved = (self.audit.ended(), now)
        elif now - since > self.standstill_seconds and not self._only_doubts_are_left():
            self.standstill_seconds = now - since

    def _only_doubts_are_left(self) -> bool:
        """Whether each command that has not ended waits for what the API may still show."""
        left = (each for each in self.load.work.expected if not self.audit.ends(each))
        told = (self.audit.events[each][-1:] for each in left)
        return not self.load.unsent and all(
            bool(events) and state(events[0]) == "in_doubt" for events in told
        )

    def _is_over(self) -> bool:
        rejected = len({event["id"] for event in self.audit.rejected})
        return (
            not self.load.unsent
            and self.audit.ended() >= len(self.load.work.expected)
            and rejected >= self.load.bad
        )

    def report(self, name: str, seconds: float) -> Report:
        """Stops the workers and judges."""
        # Rows are looked at last: what was reported a second time would be noted by now.
        torn = half_written(self.fleet, self.load.work) + self._left_over()
        codes = [worker.terminate()[0] for worker in self.fleet.workers]
        bad_ends = [*self.faults.ended_badly, *(code for code in codes if code)]
        made = self.fleet.sandbox.truth()["created"]
        doubled, orphans = count_creations(self.audit, self.load, made)
        items, self.odd = count_items(self.load)
        unseen = set(self.faults.kinds) - set(self.faults.drawn)
        wrong = {
            "another's answer": count_anothers(self.audit, self.load),
            "orphans": len(orphans),
            "rows or entries left": torn,
            "items wrong": items["wrong"],
            "bad exits": len(bad_ends),
            "kinds unseen": len(unseen) if seconds >= ALL_KINDS_SECONDS else 0,
            "stood still": int(self.standstill_seconds > STANDSTILL_SECONDS),
        }
        letters = self.audit.dead_letters()
        return report(
            name,
            self.audit,
            self.load.work.expected,
            faults=self.faults.drawn.total(),
            rejections=self.load.bad,
            lost=items["lost"],
            doubled=doubled + items["doubled"],
            wrong=sum(wrong.values()),
            odd=[*self.odd, *orphans],
            details={
                "kinds": len(self.faults.drawn),
                "items": items["items"],
                "trainings": len(made["trainings"]),
                UNKNOWN: sum(letter["error"]["code"] == UNKNOWN for letter in letters),
                "longest standstill": f"{self.standstill_seconds:.0f} s",
                **{what: count for what, count in wrong.items() if count},
                **({"exit codes": bad_ends} if bad_ends else {}),
            },
        )

    def _left_over(self) -> int:
        """Returns how many messages still lie where only what is not done should lie."""
        client: Any = self.fleet.client
        left = [client.xpending(stream, "intake")["pending"] for stream in (COMMANDS, BULK)]
        left += [client.llen(name) for name in LISTS]
        return sum(map(int, left))
