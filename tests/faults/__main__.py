"""The full suite: `python -m tests.faults [--seed N] [--minutes M] [--only NAME]`.

Prints one row for each scenario as it ends. Exits with 1 where the promise did not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.failing_worker import PLACES
from tests.faults.scenarios.api_replies import odd_statuses, unasked_replies
from tests.faults.scenarios.backfills import backfills
from tests.faults.scenarios.backlogs import bulk_backlog
from tests.faults.scenarios.chaos import chaos
from tests.faults.scenarios.clocks import clock_back, fast_clock, long_retry_after
from tests.faults.scenarios.cluster import cluster_failover
from tests.faults.scenarios.crash_places import Action, crash_at, open_fleet
from tests.faults.scenarios.deliveries import deliveries
from tests.faults.scenarios.doubts import resolved_doubts
from tests.faults.scenarios.downloads import remote_bodies, silent_downloads
from tests.faults.scenarios.http_endurance import http_endurance
from tests.faults.scenarios.http_storm import http_storm
from tests.faults.scenarios.ids import colliding_ids
from tests.faults.scenarios.leases import frozen, lost_wake_ups, tripled
from tests.faults.scenarios.outages import (
    api_away,
    bad_deploy,
    due_sets_deleted,
    key_refused,
    redis_away,
    redis_demoted,
    redis_frozen,
    redis_full,
    redis_restarted,
    redis_without_replicas,
    wake_ups_blocked,
)
from tests.faults.scenarios.races import cancels, rate_limit, retry_after, stops
from tests.faults.scenarios.reaction_chain import reaction_chain
from tests.faults.scenarios.refusals import streams_used_up
from tests.faults.scenarios.sinks import sinks
from tests.faults.scenarios.soak import soak
from tests.faults.scenarios.storms import crashes
from tests.faults.scenarios.trainings import trainings
from tests.faults.scenarios.versions import versions
from tests.faults.scenarios.waits import waiting_trainings
from tests.faults.workload import Scene
from tests.released import NoReleaseError, last_release
from worker.queue.ledger.keys import CommandStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.audit import Report

    Scenario = Callable[[Path, int], Report]

ACTIONS: tuple[Action, ...] = ("kill", "stop", "disconnect")
HEADER = (
    f"{'':6} {'scenario':42} {'faults':>7} {'commands':>8} {'lost':>5} {'doubled':>7} {'wrong':>5}"
)

SCENARIOS: dict[str, Scenario] = {
    "crashes": lambda at, seed: crashes(at, seed, 10_000, 500),
    "crashes-redis": lambda at, seed: crashes(
        at, seed, 10_000, 500, redis_every_seconds=6, poison=10, seconds=600
    ),
    "trainings-listed": lambda at, seed: trainings(at, seed, 300, "listed"),
    "trainings-hidden": lambda at, seed: trainings(at, seed, 300, "hidden"),
    "trainings-frozen": lambda at, seed: trainings(at, seed, 150, "listed", freezes=True),
    "doubts-resolved": lambda at, seed: resolved_doubts(at, seed, 300),
    "frozen-workers": lambda at, seed: frozen(at, seed, 400, 4),
    "lost-wake-ups": lambda at, seed: lost_wake_ups(at, seed, 1_000),
    "tripled": lambda at, seed: tripled(at, seed, 3_000),
    "redis-away": lambda at, seed: redis_away(at, seed, 600, 40),
    "redis-frozen": lambda at, seed: redis_frozen(at, seed, 600, 20),
    "redis-full": lambda at, seed: redis_full(at, seed, 600, 10),
    "redis-restarted": lambda at, seed: redis_restarted(at, seed, 600),
    "redis-no-replicas": lambda at, seed: redis_without_replicas(at, seed, 600, 12),
    "redis-demoted": lambda at, seed: redis_demoted(at, seed, 600, 12),
    "cluster-failover": lambda at, seed: cluster_failover(at, seed, 1_200, 5),
    "wake-ups-blocked": lambda at, seed: wake_ups_blocked(at, seed, 600),
    "streams-used-up": lambda at, seed: streams_used_up(at, seed, 3_000, 18),
    "due-sets-deleted": lambda at, seed: due_sets_deleted(at, seed, 600, 6),
    "api-away": lambda at, seed: api_away(at, seed, 400),
    "rate-limit": lambda at, seed: rate_limit(at, seed, 50, 30),
    "retry-after": lambda at, seed: retry_after(at, seed, 800, 6),
    "bad-deploy": lambda at, seed: bad_deploy(at, seed, 600),
    "key-refused": lambda at, seed: key_refused(at, seed, 600, 10),
    "long-retry-after": lambda at, seed: long_retry_after(at, seed, 800),
    "clock-back": lambda at, seed: clock_back(at, seed, 1_200),
    "fast-clock": lambda at, seed: fast_clock(at, seed, 1_000),
    "cancels": lambda at, seed: cancels(at, seed, 1_000),
    "stops": lambda at, seed: stops(at, seed, 1_200, 40),
    "backfills": lambda at, seed: backfills(at, seed, 50_000),
    "bulk-backlog": lambda at, seed: bulk_backlog(at, seed, 100_000, CommandStream.BULK, 2),
    "bulk-backlog-common": lambda at, seed: bulk_backlog(
        at, seed, 100_000, CommandStream.COMMON, 10
    ),
    "chaos": lambda at, seed: chaos(at, seed, 1_800),
    "ids-collide": lambda at, seed: colliding_ids(at, seed, 2_000),
    "unasked-replies": lambda at, seed: unasked_replies(at, seed, 6_000),
    "http-storm": lambda at, seed: http_storm(at, seed, 20_000, tls=False),
    "http-storm-tls": lambda at, seed: http_storm(at, seed, 20_000, tls=True),
    "http-endurance": lambda at, _seed: http_endurance(at, 200_000),
    "odd-statuses": lambda at, seed: odd_statuses(at, seed, 100),
    "remote-bodies": lambda at, seed: remote_bodies(at, seed, 1_500),
    "silent-downloads": lambda at, seed: silent_downloads(at, seed, 200),
    "deliveries": lambda at, seed: deliveries(at, seed, 10_000, 40),
    # Without kills, at a pace that leaves the machine idle: how long an answer takes.
    "deliveries-paced": lambda at, seed: deliveries(at, seed, 1_000, 0, senders=100, per_second=50),
    "sinks": lambda at, seed: sinks(at, seed, rounds=5, seconds=60, kills=2),
    "reaction-chain": lambda at, seed: reaction_chain(at, seed, 100, 20),
    "versions": lambda at, seed: versions(at, seed, last_release()),
    "waits": lambda at, seed: waiting_trainings(at, seed, 10_000, 240),
    "soak": soak,
}
# An hour in which nothing breaks is for who asks for it.
BY_NAME = frozenset({"soak"})


def reports(seed: int, only: str) -> Iterator[Report]:
    """Yields the report of each scenario as it ends, crash places last."""
    for number, (name, scenario) in enumerate(SCENARIOS.items()):
        if only == name or (only in name and name not in BY_NAME):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    yield scenario(Path(folder), seed + number)
                except NoReleaseError as exc:
                    print(f"{name} was not run: {exc}", flush=True)
    places = [place for place in PLACES if only in f"place-{place}"]
    if not places:
        return
    with tempfile.TemporaryDirectory() as folder, open_fleet(Path(folder)) as fleet:
        scene = Scene.prepare(fleet)
        for action in ACTIONS:
            for place in places:
                yield crash_at(fleet, scene, place, action)


def main() -> int:
    """Runs what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of commands, faults and victims")
    parser.add_argument("--minutes", type=float, default=0, help="begin nothing new after so many")
    parser.add_argument("--only", default="", help="scenarios whose name holds this; place-… too")
    parser.add_argument(
        "--soak-minutes", type=float, default=60, help="of the soak, which runs by --only soak"
    )
    parser.add_argument(
        "--http-requests", type=int, default=200_000, help="of http-endurance, more than a thousand"
    )
    parser.add_argument(
        "--release", default="", help="tag or commit that versions runs beside this tree"
    )
    options = parser.parse_args()
    SCENARIOS["http-endurance"] = lambda at, _seed: http_endurance(at, options.http_requests)
    if options.release:
        SCENARIOS["versions"] = lambda at, seed: versions(at, seed, options.release)
    SCENARIOS["soak"] = partial(soak, minutes=options.soak_minutes)
    begun = time.monotonic()
    print(HEADER, flush=True)
    broken = run = 0
    for found in reports(options.seed, options.only):
        print(found.line(), flush=True)
        run += 1
        broken += not found.holds
        if options.minutes and time.monotonic() - begun > options.minutes * 60:
            print(f"stopped after {options.minutes:g} minutes; what is not listed was not run")
            break
    print(f"{run} scenarios, {broken} broken, {time.monotonic() - begun:.0f} s")
    return 1 if broken or not run else 0


if __name__ == "__main__":
    sys.exit(main())
