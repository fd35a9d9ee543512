"""Makes metrics for Prometheus, and a row of each for the docs.

Names follow Prometheus' conventions: base units, `_total` for counters. Labels have few values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Gauge

from worker.monitoring.loop_metrics import LoopCounters, LoopHistograms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.monitoring.loop_metrics import LoopCounter, LoopHistogram

PREFIX: Final = "trainmaster"


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


class MetricFactory:
    """Makes what a process counts itself.

    Attributes:
        rows: of all that it made, in that order.

    Args:
        registry: where they are scraped from.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.rows: list[MetricRow] = []

    def counter(self, name: str, meaning: str) -> LoopCounter:
        """Returns a counter of one series."""
        return self.counters(name, meaning).labels()

    def counters(self, name: str, meaning: str, labels: Sequence[str] = ()) -> LoopCounters:
        """Returns a counter; its series are made by the values of their labels."""
        self._row(f"{name}_total", "counter", meaning, labels)
        made = LoopCounters(f"{PREFIX}_{name}", meaning, labels)
        self._registry.register(made)
        return made

    def gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        """Returns a gauge, which any thread may set."""
        self._row(name, "gauge", meaning, labels)
        return Gauge(f"{PREFIX}_{name}", meaning, labels, registry=self._registry)

    def histogram(self, name: str, meaning: str, bounds: Sequence[float]) -> LoopHistogram:
        """Returns a histogram of one series."""
        return self.histograms(name, meaning, bounds).labels()

    def histograms(
        self, name: str, meaning: str, bounds: Sequence[float], labels: Sequence[str] = ()
    ) -> LoopHistograms:
        """Returns a histogram; its series are made by the values of their labels."""
        self._row(name, "histogram", meaning, labels)
        made = LoopHistograms(f"{PREFIX}_{name}", meaning, bounds, labels)
        self._registry.register(made)
        return made

    def _row(self, name: str, kind: str, meaning: str, labels: Sequence[str]) -> None:
        self.rows.append(MetricRow(f"{PREFIX}_{name}", kind, labels, "process", meaning))
