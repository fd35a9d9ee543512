"""The page over very many commands: `python -m tests.integration.gateway.page.million`.

A real worker at the benchmarks' stub of the API runs the commands, a real gateway follows their
events, and a real browser looks: how soon the list stands in a fresh browser, how long a filter
takes, how long an event takes to the screen at 50 commands a second, what a tab holds meanwhile,
what one who watches costs, and whether what is counted is what is cancelled. Exits with 1 where a
bar is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from playwright.sync_api import expect
from redis import Redis

from benchmarks.statistics import percentile
from tests.console import Console, running_worker
from tests.faults.scenarios.backfills import running_stub
from tests.faults.scenarios.soak import Trend
from tests.gateway_process import running_gateway
from tests.integration.gateway.page.browser import DESKTOP, running_browser
from tests.integration.gateway.page.producer import NAMESPACE, TO_CANCEL, Producer
from worker.embedded import EmbeddedRedis

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.gateway_process import GatewayProcess

FRESH_BROWSERS: Final = 5
EACH_FILTER: Final = 12
LIVE_SECONDS: Final = 90.0
SAMPLE_SECONDS: Final = 10.0
PATIENCE_MS: Final = 600_000
# Bars, in milliseconds; of the tab's memory in MiB of growth.
FIRST_PAINT_MS: Final = 1_000
FILTER_P95_MS: Final = 300
EVENT_P99_MS: Final = 1_000
GROWTH_MIB: Final = 2.0
FILTERS: Final = (
    "state=succeeded",
    "state=failed",
    "state=accepted",
    "type=predict",
    "type=train",
    "id=night-7",
    "id=night-123456",
    "correlationid=batch-7",
    f"correlationid={TO_CANCEL}&state=accepted",
    "text=999",
    "text=no-such-text",
    "state=succeeded&type=predict&id=night-5",
)
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 2**20
# When each id is on the screen for the first time, by the browser's clock, which is this machine's.
_NOTE_ROWS: Final = """() => {
    window.seen = {};
    const note = () => {
        for (const row of document.querySelectorAll('tbody th a')) {
            window.seen[row.title] ??= Date.now();
        }
    };
    const main = document.querySelector('main');
    new MutationObserver(note).observe(main, {subtree: true, childList: true});
    note();
}"""


@dataclass
class Told:
    """What was measured, and which bars were missed."""

    missed: list[str] = field(default_factory=list)

    def line(self, name: str, text: str, *, holds: bool = True) -> None:
        """Prints a figure at once."""
        sys.stdout.write(f"{name:<24} {text}{'' if holds else '   MISSED'}\n")
        sys.stdout.flush()
        if not holds:
            self.missed.append(name)


def _first_paint(gateway: GatewayProcess, told: Told) -> None:
    paints, rows = [], []
    for _ in range(FRESH_BROWSERS):
        with running_browser() as browser:
            page = browser.new_page(viewport=DESKTOP)
            begun = time.monotonic()
            page.goto(f"{gateway.url}/#/commands")
            page.locator("tbody tr").first.wait_for()
            rows.append(1000 * (time.monotonic() - begun))
            paints.append(
                page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            )
    text = f"{min(paints):.0f} to {max(paints):.0f} ms in {FRESH_BROWSERS} fresh browsers"
    told.line("first paint", text, holds=max(paints) < FIRST_PAINT_MS)
    told.line("first row", f"{min(rows):.0f} to {max(rows):.0f} ms, opening the page included")


def _filters(browser: Browser, gateway: GatewayProcess, told: Told) -> None:
    page = _listing(browser, gateway)
    took = []
    for _ in range(EACH_FILTER):
        for each in FILTERS:
            begun = time.monotonic()
            with page.expect_response(lambda answer: "/v1/commands?" in answer.url):
                page.evaluate("hash => { location.hash = hash; }", f"#/commands?{each}")
            page.locator("table[aria-busy=false], .empty").first.wait_for()
            # What was found has been drawn once the browser has drawn again.
            page.evaluate(
                "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
            )
            took.append(1000 * (time.monotonic() - begun))
    p50, p95 = percentile(took, 0.5), percentile(took, 0.95)
    text = (
        f"p50 {p50:.0f}, p95 {p95:.0f}, max {max(took):.0f} ms, {len(FILTERS)} kinds, {len(took)}"
    )
    told.line("a filter", text, holds=p95 < FILTER_P95_MS)
    page.close()


def _live(
    browser: Browser, gateway: GatewayProcess, producer: Producer, seconds: float, told: Told
) -> None:
    page = _listing(browser, gateway)
    page.evaluate(_NOTE_ROWS)
    since = producer.last_event()
    with producer.steady("live"):
        page.wait_for_timeout(1000 * seconds)
    page.wait_for_timeout(5_000)
    seen = page.evaluate("window.seen")
    accepted = {key: at for key, at in producer.accepted_at(since).items() if key[:5] == "live-"}
    took = [seen[key] - at for key, at in accepted.items() if key in seen]
    p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
    text = (
        f"p50 {p50:.0f}, p99 {p99:.0f}, max {max(took):.0f} ms; {len(took)} of {len(accepted)} seen"
    )
    told.line("event to the screen", text, holds=p99 < EVENT_P99_MS and len(took) == len(accepted))
    page.close()


def _watcher(
    browser: Browser, gateway: GatewayProcess, producer: Producer, seconds: float, told: Told
) -> None:
    costs = []
    for watched in (False, True):
        page = _listing(browser, gateway) if watched else None
        with producer.steady(f"watched-{watched}"):
            time.sleep(2.0)
            before = (_cpu_seconds(gateway.pid), producer.redis_cpu_seconds())
            (page.wait_for_timeout if page else lambda ms: time.sleep(ms / 1000))(1000 * seconds)
            after = (_cpu_seconds(gateway.pid), producer.redis_cpu_seconds())
        costs.append([100 * (b - a) / seconds for a, b in zip(before, after, strict=True)])
        if page:
            page.close()
    (gateway_alone, redis_alone), (gateway_watched, redis_watched) = costs
    text = (
        f"gateway {gateway_alone:.1f} to {gateway_watched:.1f} % of a core, "
        f"Redis {redis_alone:.1f} to {redis_watched:.1f} %"
    )
    told.line("cost of a watcher", text)


def _memory(
    browser: Browser, gateway: GatewayProcess, producer: Producer, minutes: float, told: Told
) -> None:
    page = _listing(browser, gateway)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    heap: list[tuple[float, float]] = []
    nodes: list[tuple[float, float]] = []
    end = time.monotonic() + 60 * minutes
    with producer.steady("hour"):
        while time.monotonic() < end:
            page.wait_for_timeout(1000 * SAMPLE_SECONDS)
            session.send("HeapProfiler.collectGarbage")
            found = session.send("Performance.getMetrics")["metrics"]
            metrics = {each["name"]: each["value"] for each in found}
            heap.append((time.monotonic(), metrics["JSHeapUsedSize"] / _MIB))
            nodes.append((time.monotonic(), metrics["Nodes"]))
    grown = Trend.of(heap).grown
    low, high = min(value for _, value in heap), max(value for _, value in heap)
    text = f"{minutes:g} min: {low:.1f} to {high:.1f} MiB, {grown:+.2f} by its trend; nodes "
    text += f"{min(value for _, value in nodes):.0f} to {max(value for _, value in nodes):.0f}"
    told.line("memory of the tab", text, holds=grown < GROWTH_MIB)
    page.close()


def _bulk_cancel(browser: Browser, gateway: GatewayProcess, count: int, told: Told) -> None:
    page = _listing(browser, gateway, f"?correlationid={TO_CANCEL}")
    begun = time.monotonic()
    page.get_by_role("button", name="Cancel these").click()
    act = page.get_by_role("dialog").get_by_role("button", name=f"Cancel {count:,} commands")
    act.wait_for()
    counted = time.monotonic() - begun
    act.click()
    done = f"{count:,} of {count:,} commands cancelled"
    expect(page.get_by_role("dialog")).to_contain_text(done, timeout=PATIENCE_MS)
    took = time.monotonic() - begun - counted
    where = {"correlationid": TO_CANCEL, "state": "cancelled"}
    deadline = time.monotonic() + 60
    while (listed := _count(gateway, where)) < count and time.monotonic() < deadline:
        time.sleep(0.5)
    text = f"{listed:,} of {count:,} in {took:.1f} s, counted in {counted:.1f} s"
    told.line("bulk cancel", text, holds=listed == count)
    page.close()


def _count(gateway: GatewayProcess, where: dict[str, str]) -> int:
    """Counts by walking, for a count of a correlation id may stop early."""
    found, cursor = 0, None
    while True:
        asked = {**where, "limit": "1000"} | ({"cursor": cursor} if cursor else {})
        told = httpx.get(f"{gateway.url}/v1/commands", params=asked, timeout=60).json()
        found, cursor = found + len(told["items"]), told["next_cursor"]
        if cursor is None:
            return found


def _listing(browser: Browser, gateway: GatewayProcess, query: str = "") -> Page:
    page = browser.new_page(viewport=DESKTOP)
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{gateway.url}/#/commands{query}")
    page.locator("tbody tr").first.wait_for()
    expect(page.locator(".connection")).to_have_text("Live", timeout=60_000)
    return page


def _cpu_seconds(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / _TICKS


def measure(folder: Path, commands: int, to_cancel: int, minutes: float, seconds: float) -> Told:
    """Measures all of it, and prints each figure as it is there.

    Args:
        folder: for everything that it leaves.
        commands: in the lists before anything is measured.
        to_cancel: of these, how many wait and are cancelled at once.
        minutes: of a tab whose memory is watched.
        seconds: of each of the measurements of events.
    """
    told = Told()
    with (
        EmbeddedRedis(folder / "redis") as server,
        Redis.from_url(server.url) as client,
        running_stub(folder, 0.005) as api,
    ):
        console = Console(
            server.url,
            NAMESPACE,
            ENCORD_DOMAIN=api,
            TRAINMASTER_BEARER_TOKEN="any",
            TRAINMASTER_GATEWAY_FOLDER=str(folder / "gateway"),
            TRAINMASTER_LOG_FORMAT="json",
        )
        with (
            running_worker(console, folder / "worker.log"),
            running_gateway(console, folder / "gateway.log") as gateway,
        ):
            producer = Producer(client, gateway)
            producer.fill(commands, to_cancel)
            _first_paint(gateway, told)
            with running_browser() as browser:
                _filters(browser, gateway, told)
                _live(browser, gateway, producer, seconds, told)
                _watcher(browser, gateway, producer, seconds, told)
                _bulk_cancel(browser, gateway, to_cancel, told)
                if minutes:
                    _memory(browser, gateway, producer, minutes, told)
    return told


def main() -> int:
    """Measures what was asked for; exits with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.gateway.page.million", description=__doc__
    )
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--to-cancel", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="of the tab's memory")
    parser.add_argument("--folder", type=Path, help="kept; else a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        told = measure(folder, options.commands, options.to_cancel, options.minutes, LIVE_SECONDS)
    return 1 if told.missed else 0


if __name__ == "__main__":
    sys.exit(main())
