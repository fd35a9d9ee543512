"""Every metric of a worker, by name: what Prometheus scrapes, and the table in the docs.

Names follow Prometheus' conventions: base units, `_total` for counters. Labels have few values.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PREFIX: Final = "trainmaster"

# What waits may wait for days, what runs may run for hours, a request for minutes.
_WAITS: Final = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300, 1800, 7200, 43_200, 259_200)
_RUNS: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3600, 43_200)
_REQUESTS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_LATE: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_MOMENTS: Final = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric, in words.

    Attributes:
        name: as it is scraped; a histogram's has `_bucket`, `_sum` and `_count` after it.
        kind: counter, gauge or histogram.
        scope: `process` where each worker counts its own, `namespace` where each tells the same,
            `lists` where a gateway tells it of its lists, which are a moment behind the events.
    """

    name: str
    kind: str
    labels: Sequence[str]
    scope: str
    meaning: str


class Metrics:
    """The metrics that a process counts itself.

    Args:
        registry: where they are scraped from.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._rows: list[MetricRow] = []
        self.accepted = self._counter("commands_accepted", "Commands that were accepted.")
        self.rejected = self._counter("commands_rejected", "Messages that were rejected.")
        self.ended = self._counter(
            "commands_ended",
            "Commands that this worker saw succeed or fail. Cancelled ones end in Redis, by "
            "whoever asks; what another worker had taken meanwhile stands in `leases_lost` too.",
            ("command_type", "outcome"),
        )
        self.failures = self._counter(
            "command_failures", "Those that failed, by the error's code.", ("code",)
        )
        self.runs = self._counter(
            "runs",
            "Runs, by what came of them: `succeeded`, `failed`, `retried`, `waits` for something "
            "outside, `spared` as the probe of a paused lane.",
            ("command_type", "outcome"),
        )
        self.command_seconds = self._histogram(
            "command_duration_seconds",
            "From accepting a command to its success.",
            _WAITS,
            ("command_type",),
        )
        self.waiting_seconds = self._histogram(
            "command_waiting_seconds",
            "From accepting a command to its first run.",
            _WAITS,
            ("lane",),
        )
        self.poll_lateness_seconds = self._histogram(
            "poll_lateness_seconds",
            "By how much looks at trainings that are waited for began later than they were due.",
            _LATE,
        )
        self.run_seconds = self._histogram(
            "run_duration_seconds", "Of one run, waits for the API included.", _RUNS, ("outcome",)
        )
        self.settling_seconds = self._histogram(
            "settling_seconds", "From the end of a run to its record in Redis.", _MOMENTS
        )
        self.leases_lost = self._counter(
            "leases_lost",
            "Runs whose command had passed to another worker, of which they record nothing.",
        )
        self.requests = self._counter(
            "api_requests",
            "Requests to the API by operation and HTTP status; 0 without an answer.",
            ("operation", "status"),
        )
        self.request_seconds = self._histogram(
            "api_request_duration_seconds",
            "From a request's turn to its answer.",
            _REQUESTS,
            ("operation",),
        )
        self.turn_seconds = self._histogram(
            "api_turn_waiting_seconds",
            "How long requests wait for their turn under the fleet's limits.",
            _REQUESTS,
        )
        self.holds = self._counter(
            "api_holds", "How often the API had the whole fleet pause, by a 429."
        )
        self.breaker_open = self._gauge(
            "breaker_open", "1 while this worker takes the API for down and claims nothing, else 0."
        )
        self.lanes_paused = self._counter(
            "lane_pauses", "How often this worker paused a lane.", ("lane",)
        )
        self.events = self._counter(
            "events_published",
            "Events that this worker published of acceptances, rejections and the ends of runs.",
            ("state",),
        )
        self.dead_letters = self._counter(
            "dead_letters",
            "Messages and commands that this worker made dead letters of, by the error's code.",
            ("code",),
        )
        self.redis_outages = self._counter("redis_outages", "How often Redis could not be reached.")
        self.loop_lag_seconds = self._histogram(
            "loop_lag_seconds",
            "By how much the event loop is late, looked at twice a second.",
            _MOMENTS,
        )
        self.slots = self._gauge("slots", "Commands that this worker may run at the same time.")
        self.slots_used = self._gauge("slots_used", "Commands that it runs.")
        self.unsettled = self._gauge("runs_unsettled", "Runs whose end is not recorded yet.")
        self.build = self._gauge(
            "build_info", "1; the labels tell what runs.", ("version", "python")
        )
        self.build.labels(version("trainmaster"), platform.python_version()).set(1)

    def rows(self) -> Iterator[MetricRow]:
        """Yields them in the order in which they are made."""
        yield from self._rows

    def _counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        self._row(f"{name}_total", "counter", meaning, labels)
        return Counter(f"{PREFIX}_{name}", meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        self._row(name, "gauge", meaning, labels)
        return Gauge(f"{PREFIX}_{name}", meaning, labels, registry=self._registry)

    def _histogram(
        self, name: str, meaning: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        self._row(name, "histogram", meaning, labels)
        return Histogram(
            f"{PREFIX}_{name}", meaning, labels, buckets=buckets, registry=self._registry
        )

    def _row(self, name: str, kind: str, meaning: str, labels: Sequence[str]) -> None:
        self._rows.append(MetricRow(f"{PREFIX}_{name}", kind, labels, "process", meaning))
