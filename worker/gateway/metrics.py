"""The metrics of a gateway. All of them stand in Redis, so that it does not matter who is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from trainmaster_client.events import ENDS, State
from worker.backfill.errors import UnreadableBackfillError
from worker.gateway.read_model.readers import ModelUnavailableError
from worker.monitoring.ledger_sample import ROWS, LedgerSampler
from worker.monitoring.metric_factory import PREFIX, MetricRow
from worker.sinks.operations import SinkCondition, sink_status
from worker.webhooks.reactions import EVENTS_SCHEME
from worker.webhooks.receiving import REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric
    from redis.asyncio import Redis

    from worker.backfill.store import BackfillStore
    from worker.gateway.read_model.model import ReadModel
    from worker.gateway.tallies import Tallies
    from worker.integrations.file import Integrations
    from worker.monitoring.ledger_sample import Sample
    from worker.queue.ledger.keys import Keys

REQUESTS: Final = "http_requests_total"
DELIVERIES: Final = "webhook_deliveries_total"
IN_DOUBT: Final = "in_doubt"
TRAININGS: Final = "trainings_open"
_TRAINING_TYPES: Final = ("train", "watch_training")
_SINK: Final = ("sink",)
_BACKFILL: Final = ("backfill",)
# Of those that run; more would be more than anybody looks at, and each is a series.
MOST_BACKFILLS: Final = 50

_OWN: Final = tuple(
    MetricRow(f"{PREFIX}_{name}", kind, labels, "namespace", meaning)
    for name, kind, labels, meaning in (
        (
            REQUESTS,
            "counter",
            ("method", "route", "status"),
            (
                "Requests to the gateway; `route` is the pattern that the path fits, `other` "
                "without; `status` is `none` where nobody waited for the answer any more."
            ),
        ),
        (
            DELIVERIES,
            "counter",
            ("source", "outcome"),
            "Deliveries by what became of them; `refused` ones have no valid signature.",
        ),
        ("sink_behind_events", "gauge", _SINK, "Events that a sink has not looked at."),
        ("sink_behind_seconds", "gauge", _SINK, "Age of the oldest of these."),
        ("sink_waiting_events", "gauge", _SINK, "Events that failed and are tried again."),
        ("sink_unsent_events", "gauge", _SINK, "Events whose tries have ended."),
        ("sink_delivered_total", "counter", _SINK, "Events that were delivered."),
        ("sink_failed_attempts_total", "counter", _SINK, "Attempts that failed."),
        ("sink_missed_total", "counter", _SINK, "Events that were trimmed before it saw them."),
        ("sink_paused", "gauge", _SINK, "1 while a person has paused it, else 0."),
        ("sink_running", "gauge", _SINK, "1 while a gateway sends for it, else 0."),
        (
            "backfill_items",
            "gauge",
            ("backfill", "state"),
            "Items of a backfill that has not ended: `succeeded`, `failed`, `open`.",
        ),
        ("backfill_expected_items", "gauge", _BACKFILL, "All of its items, where that is known."),
        ("backfill_paused", "gauge", _BACKFILL, "1 while it is paused, else 0."),
    )
) + tuple(
    MetricRow(f"{PREFIX}_{name}", "gauge", labels, "lists", meaning)
    for name, labels, meaning in (
        (
            IN_DOUBT,
            (),
            "Commands whose change may have happened at the API, and nobody knows: look at Encord.",
        ),
        (
            TRAININGS,
            ("state",),
            (
                "`train` and `watch_training` that have not ended, by their last event: `started` "
                "ones wait for the API."
            ),
        ),
    )
)


def gateway_metric_rows() -> list[MetricRow]:
    """Returns every metric of a gateway: its own, and what the ledger holds."""
    return [*_OWN, *ROWS]


class GatewaySampler:
    """Reads all values; it changes nothing."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        tallies: Tallies,
        integrations: Integrations,
        backfills: BackfillStore,
        read_model: ReadModel,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._ledger = LedgerSampler(redis, keys)
        self._tallies = tallies
        self._sinks = integrations.sinks
        self._sources = [
            name for name, each in integrations.sources.items() if each.scheme != EVENTS_SCHEME
        ]
        self._backfills = backfills
        self._read_model = read_model

    async def sample(self) -> CollectorRegistry:
        """Returns a registry with the values of this moment.

        Raises:
            RedisError: Redis is away.
            OSError: likewise.
        """
        # Of a counter that begins at 1 Prometheus sees no increase.
        found: Sample = {REQUESTS: {}, DELIVERIES: {}}
        for source in self._sources:
            found[DELIVERIES][source, REFUSED] = 0
        found |= await self._ledger.sample()
        for (name, *labels), count in (await self._tallies.read()).items():
            if name in {REQUESTS, DELIVERIES}:
                found[name][tuple(labels)] = count
        await self._add_sinks(found)
        await self._add_backfills(found)
        await self._add_lists(found)
        registry = CollectorRegistry()
        registry.register(_Taken(found))
        return registry

    async def _add_sinks(self, found: Sample) -> None:
        for name, config in self._sinks.items():
            status = await sink_status(self._redis, self._keys, config)
            values = {
                "sink_behind_events": status.behind,
                "sink_behind_seconds": status.behind_seconds,
                "sink_waiting_events": status.waiting,
                "sink_unsent_events": status.unsent,
                "sink_delivered_total": status.delivered,
                "sink_failed_attempts_total": status.failed,
                "sink_missed_total": status.missed,
                "sink_paused": status.state is SinkCondition.PAUSED,
                "sink_running": bool(status.leader),
            }
            for metric, value in values.items():
                if value is not None:
                    found.setdefault(metric, {})[name,] = float(value)

    async def _add_backfills(self, found: Sample) -> None:
        shown = 0
        for backfill_id in reversed(await self._backfills.ids()):
            try:
                status = await self._backfills.look(backfill_id)
            except UnreadableBackfillError:
                # Someone wrote over it: all others are still to be seen.
                continue
            if status is None or status.state.ended:
                continue
            items = found.setdefault("backfill_items", {})
            items[backfill_id, "succeeded"] = status.succeeded
            items[backfill_id, "failed"] = status.failed
            items[backfill_id, "open"] = status.open
            if status.expected is not None:
                found.setdefault("backfill_expected_items", {})[backfill_id,] = status.expected
            paused = found.setdefault("backfill_paused", {})
            paused[backfill_id,] = float(status.state == "paused")
            shown += 1
            if shown == MOST_BACKFILLS:
                return

    async def _add_lists(self, found: Sample) -> None:
        try:
            counts = await self._read_model.type_states()
        except ModelUnavailableError:
            # They are being made; what is no value is not told as 0.
            return
        of_doubt = (count for (_, state), count in counts.items() if state == State.IN_DOUBT)
        found[IN_DOUBT] = {(): sum(of_doubt)}
        found[TRAININGS] = {
            (str(state),): sum(counts.get((each, str(state)), 0) for each in _TRAINING_TYPES)
            for state in State
            if state not in ENDS
        }


class _Taken:
    """Values that were read, as Prometheus' library wants them."""

    def __init__(self, sample: Sample) -> None:
        self._sample = sample

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics that have values."""
        for row in gateway_metric_rows():
            values = self._sample.get(row.name.removeprefix(f"{PREFIX}_"), {})
            is_counter = row.kind == "counter"
            family = (CounterMetricFamily if is_counter else GaugeMetricFamily)(
                row.name, row.meaning, labels=row.labels
            )
            for labels, value in values.items():
                if len(labels) == len(row.labels):
                    family.add_metric(labels, value)
            if family.samples:
                yield family
