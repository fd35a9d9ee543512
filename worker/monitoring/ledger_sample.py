"""What the ledger holds now, as metrics: every worker of a namespace tells the same."""

from __future__ import annotations

import asyncio
from concurrent.futures import TimeoutError as LateError
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from schemas.enums import Priority
from worker.monitoring.metric_factory import PREFIX, MetricRow
from worker.monitoring.metrics import Metrics
from worker.queue.intake.demand import read_demand
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS
from worker.queue.ledger.queries import LedgerReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

Sample = dict[str, dict[tuple[str, ...], float]]
"""For each metric its values by their labels' values."""

# A scrape waits no longer; Prometheus gives it ten seconds by itself.
SAMPLE_SECONDS: Final = 3.0
_LANE: Final = ("lane",)

ROWS: Final = tuple(
    MetricRow(f"{PREFIX}_{name}", "gauge", labels, "namespace", meaning)
    for name, labels, meaning in (
        ("redis_up", (), "1 where Redis told the values below, 0 where they are missing."),
        (
            "worker_demand",
            (),
            (
                "Messages that no worker has accepted, and commands that are due, late or running: "
                "what an autoscaler needs. 0 where no worker is needed."
            ),
        ),
        ("due_now", _LANE, "Commands that could run now."),
        ("open", _LANE, "Commands that have not ended, those that wait for days included."),
        ("suspects", (), "Commands that were claimed again and again without an end."),
        ("oldest_due_seconds", _LANE, "How long the oldest of those that could run has waited."),
        (
            "unread_messages",
            ("stream",),
            "Messages that no worker has accepted or rejected yet: `common` or `bulk`.",
        ),
        ("inbox_messages", (), "Messages in the list for those who can't write to a stream."),
        ("events_kept", (), "Events in their stream."),
        ("dead_letters_kept", (), "Dead letters that wait for a person."),
        ("lane_paused", _LANE, "1 while a lane is paused, else 0."),
        ("hold_seconds", (), "How long nobody may claim, as the API has asked; 0 without a hold."),
    )
)


def metric_rows() -> list[MetricRow]:
    """Returns every metric of a worker: what it counts itself, then what the ledger holds."""
    return [*Metrics(CollectorRegistry()).rows(), *ROWS]


class LedgerSampler:
    """Reads the values; it changes nothing."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._reader = LedgerReader(redis, keys)

    async def sample(self) -> Sample:
        """Returns the values; of an absent Redis only that it is."""
        try:
            return await self.read()
        except RETRYABLE_REDIS_ERRORS:
            return {"redis_up": {(): 0.0}}

    async def read(self) -> Sample:
        """Returns the values.

        Raises:
            RedisError: Redis is away.
            OSError: likewise.
        """
        counts = await self._reader.counts()
        lanes = tuple(Priority)
        # In one go: a scrape, and each look of a page, asks for all of it.
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        pipe.pttl(self._keys.hold)
        for lane in lanes:
            pipe.exists(self._keys.paused(lane))
            pipe.zrange(self._keys.due(lane), 0, 0, withscores=True)
        time, hold_ms, *of_lanes = await pipe.execute()
        demand = await read_demand(self._redis, self._keys)
        now_ms = time[0] * 1000 + time[1] / 1000
        paused = dict(zip(lanes, of_lanes[::2], strict=True))
        oldest = dict(zip(lanes, of_lanes[1::2], strict=True))
        return {
            "redis_up": {(): 1.0},
            "worker_demand": {(): demand.total},
            "due_now": {(lane,): counts[f"due_{lane}"] for lane in lanes},
            "open": {(lane,): counts[f"open_{lane}"] for lane in lanes},
            "suspects": {(): counts["open_suspect"]},
            "oldest_due_seconds": {
                (lane,): max(0.0, now_ms - found[0][1]) / 1000 if found else 0.0
                for lane, found in oldest.items()
            },
            "unread_messages": {
                ("common",): counts["unread"],
                ("bulk",): counts["unread_bulk"],
            },
            "inbox_messages": {(): counts["inbox"]},
            "events_kept": {(): counts["events"]},
            "dead_letters_kept": {(): counts["dead_letters"]},
            "lane_paused": {(lane,): float(paused[lane]) for lane in lanes},
            "hold_seconds": {(): max(0, int(hold_ms)) / 1000},
        }


class LedgerCollector:
    """Has a loop take a sample whenever Prometheus scrapes, from a thread of its own.

    Until it is given a sampler it tells that there is no Redis.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sampler: LedgerSampler | None = None

    def use(self, sampler: LedgerSampler) -> None:
        """Takes samples from now on; called on the sampler's loop."""
        self._loop, self._sampler = asyncio.get_running_loop(), sampler

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yields the metrics that have values."""
        sample = self._taken()
        for row in ROWS:
            values = sample.get(row.name.removeprefix(f"{PREFIX}_"))
            if values is not None:
                yield _family(row, values)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Yields their names, so that nobody takes a sample to register them."""
        return [_family(row, {}) for row in ROWS]

    def _taken(self) -> Sample:
        away: Sample = {"redis_up": {(): 0.0}}
        if self._loop is None or self._sampler is None:
            return away
        taking = self._sampler.sample()
        try:
            call = asyncio.run_coroutine_threadsafe(taking, self._loop)
        except RuntimeError:
            # The loop has ended.
            taking.close()
            return away
        try:
            return call.result(SAMPLE_SECONDS)
        except LateError:
            call.cancel()
            return away


def _family(row: MetricRow, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(row.name, row.meaning, labels=row.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
