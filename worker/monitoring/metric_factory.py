"""Makes metrics for Prometheus, and a row of each for the docs.

Names follow Prometheus' conventions: base units, `_total` for counters. Labels have few values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    def counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        self._row(f"{name}_total", "counter", meaning, labels)
        return Counter(f"{PREFIX}_{name}", meaning, labels, registry=self._registry)

    def gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        self._row(name, "gauge", meaning, labels)
        return Gauge(f"{PREFIX}_{name}", meaning, labels, registry=self._registry)

    def histogram(
        self, name: str, meaning: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        self._row(name, "histogram", meaning, labels)
        return Histogram(
            f"{PREFIX}_{name}", meaning, labels, buckets=buckets, registry=self._registry
        )

    def _row(self, name: str, kind: str, meaning: str, labels: Sequence[str]) -> None:
        self.rows.append(MetricRow(f"{PREFIX}_{name}", kind, labels, "process", meaning))
