"""What `/metrics` costs: the same worker without it, and with it while it is scraped.

A scrape each second is fifteen times what Prometheus does by default.
"""

from __future__ import annotations

import re
import socket
import threading
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.contenders.registry import OURS
from benchmarks.errors import BenchmarkError
from benchmarks.scenarios.throughput import Load, measure_in
from benchmarks.testbed import open_testbed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.plan import Plan

# The two differ by less than two runs of the same one do, so it takes many.
PAIRS: Final = 12
WITHOUT: Final = "without"
WITH: Final = "with"
SCRAPE_SECONDS: Final = 1.0
_ENDED: Final = re.compile(r"^trainmaster_commands_ended_total\{.*\} (\S+)$", re.MULTILINE)


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yields each run as it ends; a round has one of each way, and the first one changes."""
    for number in range(plan.rounds if plan.short else max(plan.rounds, PAIRS)):
        ways = (WITHOUT, WITH) if number % 2 == 0 else (WITH, WITHOUT)
        for way in ways:
            yield {"round": number, "way": way, **_measure(plan, way)}


def _measure(plan: Plan, way: str) -> dict[str, Any]:
    load = Load(plan.seconds)
    with open_testbed(plan.cores, latency_ms=load.latency_ms) as testbed:
        if way == WITHOUT:
            return measure_in(testbed, OURS, load).as_json()
        address = f"127.0.0.1:{_free_port()}"
        scraper = Scraper(f"http://{address}/metrics")
        scraper.start()
        try:
            rate = measure_in(testbed, OURS, load, {"TRAINMASTER_HTTP": address})
        finally:
            scraper.stop()
        # Without this a worker that serves no metrics would seem to serve them for nothing.
        if not scraper.seen.commands:
            raise BenchmarkError(f"no scrape of {address} told of a command")
        return rate.as_json() | {
            "scrapes": scraper.seen.scrapes,
            "scraped_bytes": scraper.seen.bytes,
        }


@dataclass(slots=True)
class Seen:
    """What the scrapes brought.

    Attributes:
        scrapes: how many were answered.
        bytes: of the last one.
        commands: that had ended, as the last one says.
    """

    scrapes: int = 0
    bytes: int = 0
    commands: float = 0.0


class Scraper(threading.Thread):
    """Asks for metrics again and again, from before they are there.

    Args:
        url: of the metrics.
    """

    def __init__(self, url: str) -> None:
        super().__init__(name="scraper", daemon=True)
        self.seen = Seen()
        self._url = url
        self._stopped = threading.Event()

    def run(self) -> None:
        """Asks until it is stopped."""
        while not self._stopped.wait(SCRAPE_SECONDS):
            try:
                with urllib.request.urlopen(self._url, timeout=SCRAPE_SECONDS) as reply:  # noqa: S310 - our worker
                    text: str = reply.read().decode()
            except OSError:
                # The worker has not begun yet, or has ended.
                continue
            self.seen.scrapes += 1
            self.seen.bytes = len(text)
            self.seen.commands = sum(map(float, _ENDED.findall(text)))

    def stop(self) -> None:
        """Stops it and waits for its end."""
        self._stopped.set()
        self.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
