"""Every metric of a worker, by name: what Prometheus scrapes, and the table in the docs."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from worker.monitoring.metric_factory import MetricFactory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry

    from worker.monitoring.metric_factory import MetricRow

# What waits may wait for days, what runs may run for hours, a request for minutes.
_WAITS: Final = (0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300, 1800, 7200, 43_200, 259_200)
_RUNS: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3600, 43_200)
_REQUESTS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_LATE: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_MOMENTS: Final = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)


class CommandMetrics:
    """What becomes of commands."""

    def __init__(self, make: MetricFactory) -> None:
        self.accepted = make.counter("commands_accepted", "Commands that were accepted.")
        self.rejected = make.counter("commands_rejected", "Messages that were rejected.")
        self.ended = make.counters(
            "commands_ended",
            "Commands whose success or failure this worker recorded. Cancelled ones end in Redis, "
            "by whoever asks.",
            ("command_type", "outcome"),
        )
        self.failures = make.counters(
            "command_failures", "Those that failed, by the error's code.", ("code",)
        )
        self.command_seconds = make.histograms(
            "command_duration_seconds",
            "From accepting a command to its success.",
            _WAITS,
            ("command_type",),
        )
        self.waiting_seconds = make.histograms(
            "command_waiting_seconds",
            "From accepting a command to its first run.",
            _WAITS,
            ("lane",),
        )
        self.lanes_paused = make.counters(
            "lane_pauses", "How often this worker paused a lane.", ("lane",)
        )
        self.events = make.counters(
            "events_published",
            "Events that this worker published of acceptances, rejections and the ends of runs.",
            ("state",),
        )
        self.dead_letters = make.counters(
            "dead_letters",
            "Messages and commands that this worker made dead letters of, by the error's code.",
            ("code",),
        )


class RunMetrics:
    """How runs go."""

    def __init__(self, make: MetricFactory) -> None:
        self.ended = make.counters(
            "runs",
            "Runs, by what came of them: `succeeded`, `failed`, `retried`, `waits` for something "
            "outside, `spared` as the probe of a paused lane.",
            ("command_type", "outcome"),
        )
        self.run_seconds = make.histograms(
            "run_duration_seconds", "Of one run, waits for the API included.", _RUNS, ("outcome",)
        )
        self.poll_lateness_seconds = make.histogram(
            "poll_lateness_seconds",
            "By how much looks at trainings that are waited for began later than they were due.",
            _LATE,
        )
        self.settling_seconds = make.histogram(
            "settling_seconds", "From the end of a run to its record in Redis.", _MOMENTS
        )
        self.leases_lost = make.counter(
            "leases_lost",
            "Runs whose command had passed to another worker, of which they record nothing.",
        )


class ApiMetrics:
    """How requests to the API go."""

    def __init__(self, make: MetricFactory) -> None:
        self.requests = make.counters(
            "api_requests",
            "Requests to the API by operation and HTTP status; 0 without an answer.",
            ("operation", "status"),
        )
        self.request_seconds = make.histograms(
            "api_request_duration_seconds",
            "From a request's turn to its answer.",
            _REQUESTS,
            ("operation",),
        )
        self.turn_seconds = make.histogram(
            "api_turn_waiting_seconds",
            "How long requests wait for their turn under the fleet's limits.",
            _REQUESTS,
        )
        self.holds = make.counter(
            "api_holds", "How often the API had the whole fleet pause, by a 429."
        )
        self.breaker_open = make.gauge(
            "breaker_open", "1 while this worker takes the API for down and claims nothing, else 0."
        )


class ProcessMetrics:
    """How full and how late the worker process is, and what runs."""

    def __init__(self, make: MetricFactory) -> None:
        self.redis_outages = make.counter("redis_outages", "How often Redis could not be reached.")
        self.loop_lag_seconds = make.histogram(
            "loop_lag_seconds",
            "By how much the event loop is late, looked at twice a second.",
            _MOMENTS,
        )
        self.slots = make.gauge("slots", "Commands that this worker may run at the same time.")
        self.slots_used = make.gauge("slots_used", "Commands that it runs.")
        self.bulk_slots = make.gauge(
            "bulk_slots",
            "Bulk commands that may run at the same time; fewer while interactive ones come.",
        )
        self.unsettled = make.gauge("runs_unsettled", "Runs whose end is not recorded yet.")
        self.build = make.gauge(
            "build_info", "1; the labels tell what runs.", ("version", "python")
        )
        self.build.labels(version("trainmaster"), platform.python_version()).set(1)


class Metrics:
    """The metrics that a process counts itself.

    Args:
        registry: where they are scraped from.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        make = MetricFactory(registry)
        self.commands = CommandMetrics(make)
        self.runs = RunMetrics(make)
        self.api = ApiMetrics(make)
        self.process = ProcessMetrics(make)
        self._rows = make.rows

    def rows(self) -> Iterator[MetricRow]:
        """Yields them in the order in which they are made."""
        yield from self._rows
