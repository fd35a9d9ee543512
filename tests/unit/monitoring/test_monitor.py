"""What a process shows of itself, put together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from worker.monitoring import monitor as module
from worker.monitoring.monitor import Monitor

if TYPE_CHECKING:
    from pathlib import Path

    from worker.queue.pool.worker_pool import WorkerPool

ADDRESS = ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("address", "with_file", "counts", "is_asked"),
    [
        (None, False, False, False),
        # Nobody scrapes a file, so nothing need be counted for it.
        (None, True, False, True),
        (ADDRESS, False, True, True),
    ],
)
def test_what_nobody_asks_for_is_not_looked_at(
    tmp_path: Path,
    *,
    address: tuple[str, int] | None,
    with_file: bool,
    counts: bool,
    is_asked: bool,
) -> None:
    monitor = Monitor(address, tmp_path / "well" if with_file else None)
    assert (monitor.counts, monitor.is_asked) == (counts, is_asked)
    monitor.start()
    monitor.stop()


def test_the_greatest_lag_is_told_once() -> None:
    monitor = Monitor(None, None)
    assert monitor.take_lag_seconds() == 0
    for seconds in (0.1, 2.5, 0.3):
        monitor._observe_lag(seconds)
    assert monitor.take_lag_seconds() == 2.5
    assert monitor.take_lag_seconds() == 0
    buckets, total = monitor.metrics.process.loop_lag_seconds.read()
    assert dict(buckets)["+Inf"] == 3
    assert total == pytest.approx(2.9)


def test_how_full_a_pool_is_is_read_at_each_scrape() -> None:
    monitor = Monitor(None, None)
    slots = SimpleNamespace(bulk_most=6)
    pool = SimpleNamespace(running=2, unsettled=1, slots=slots)
    monitor.watch_pool(cast("WorkerPool", pool), 7)
    pool.running, pool.unsettled, slots.bulk_most = 3, 4, 5
    process = monitor.metrics.process
    assert [
        next(iter(each.collect())).samples[0].value
        for each in (process.slots, process.slots_used, process.bulk_slots, process.unsettled)
    ] == [7, 3, 5, 4]


def test_who_is_told_to_stop_misses_no_loop_but_its_own() -> None:
    monitor = Monitor(None, None)
    beats = (monitor.loop, monitor.intake, monitor.celery)
    for each in beats:
        each.beat()
    told = [monitor.is_stopping]
    monitor.stopping()
    assert [*told, monitor.is_stopping] == [False, True]
    assert [each.age_seconds is None for each in beats] == [False, True, True]
    assert monitor._readiness.problems().keys() == {"stop"}


@pytest.mark.parametrize("name", ["loop", "intake", "celery"])
def test_each_loop_has_its_limit(name: str) -> None:
    heartbeat = getattr(Monitor(None, None), name)
    assert heartbeat.name == name
    assert heartbeat.limit_seconds == getattr(module, f"{name.upper()}_LIMIT_SECONDS")
