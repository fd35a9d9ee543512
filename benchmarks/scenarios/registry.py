"""All scenarios by name, in the order in which they are measured and told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.scenarios import (
    backlog,
    cold,
    crash_recovery,
    endurance,
    footprint,
    gateway,
    images,
    interactive,
    latency,
    monitoring,
    paced,
    repeats,
    throughput,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.plan import Plan


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that is measured.

    Attributes:
        name: for the command line and the raw results.
        run: measures, and yields a record after each measurement.
        long: whether it takes many minutes: measured only when it is named, or with `--long`.
    """

    name: str
    run: Callable[[Plan], Iterator[dict[str, Any]]]
    long: bool = False


SCENARIOS: Final = (
    Scenario("throughput", throughput.run),
    Scenario("throughput-500ms", throughput.run_slow),
    Scenario("tls", throughput.run_tls),
    Scenario("latency", latency.run),
    Scenario("paced", paced.run),
    Scenario("cold", cold.run, long=True),
    Scenario("killed", crash_recovery.run),
    Scenario("repeats", repeats.run),
    Scenario("intake", backlog.run_intake),
    Scenario("backlog", backlog.run),
    Scenario("interactive", interactive.run),
    Scenario("footprint", footprint.run),
    Scenario("gateway", gateway.run),
    Scenario("monitoring", monitoring.run, long=True),
    Scenario("images", images.run),
    Scenario("endurance", endurance.run, long=True),
)
