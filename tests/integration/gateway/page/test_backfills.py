"""`#/backfills`: how far each is, what failed, its report and files, and what steers it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.gateway_process import serving_gateway
from tests.integration import backfilling
from tests.integration.backfilling import ITEMS, NAME, Backfilling
from tests.integration.gateway.page.ends import ledger_of
from worker.backfill.leader import Leader
from worker.backfill.status import BackfillState, Origin
from worker.gateway.access.tokens import Scope
from worker.queue.ledger.actions import ActionLog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.page.browser import Backstage, Desk
    from worker.embedded import EmbeddedRedis
    from worker.queue.ledger.keys import Keys

FAILED: Final = 3
WIDTH: Final = 200
FOUND: Final = {
    "color": "#d33115",
    "feature_id": "6MQ3JWZn",
    "name": "car",
    "value": "car",
    "confidence": 0.9,
    "object_id": "a",
    "bounding_box": {"x": 0.25, "y": 0.5, "w": 0.5, "h": 0.25},
}


@pytest.fixture(scope="module")
def page_gateway(
    redis_server: EmbeddedRedis, page_namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayServer]:
    """A gateway with a place for manifests, which may read pictures."""
    folder = tmp_path_factory.mktemp("page")
    with serving_gateway(
        redis_url=redis_server.url,
        namespace=page_namespace,
        gateway_folder=folder / "gateway",
        gateway_uploads=str(folder / "uploads"),
        gateway_data_roots=str(tmp_path_factory.getbasetemp()),
    ) as gateway:
        yield gateway


def begin(backstage: Backstage, folder: Path, name: str) -> None:
    """Begins a backfill that nobody leads."""

    async def act(redis: Redis, keys: Keys) -> None:
        plan = backfilling.make_plan(folder)
        await backfilling.store_of(redis, keys).open(name, plan, Origin.QUEUE, f"{name}-1")

    backstage.do(act)


def run(backstage: Backstage, folder: Path) -> None:
    """Runs the backfill `NAME` to its end; its first items fail, and some lie at Encord."""
    picture = folder / "street.png"
    Image.new("RGB", (WIDTH, WIDTH // 2), "grey").save(picture)

    async def act(redis: Redis, keys: Keys) -> None:
        store = backfilling.store_of(redis, keys)
        plan = backfilling.make_plan(folder)
        await store.open(NAME, plan, Origin.QUEUE, "1-1")
        night = Backfilling(redis, keys, ledger_of(redis, keys), store, plan)

        async def work() -> None:
            ended = 0
            while ended < ITEMS:
                for lease in await night.claim(5):
                    fails = lease.member < FAILED
                    more: dict[str, Any] = {} if fails else {"frames": {"0": [FOUND]}}
                    if lease.member % 2:
                        more |= {"data_path": str(picture)}
                    await night.settle(lease, "not_found" if fails else "", **more)
                    ended += 1
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            await Leader(store, NAME, announces=True).work(seconds=60)

    backstage.do(act)


def state_of(backstage: Backstage, name: str) -> BackfillState:
    async def look(redis: Redis, keys: Keys) -> BackfillState:
        found = await backfilling.store_of(redis, keys).look(name)
        assert found is not None
        return found.state

    return backstage.do(look)


def acts_of(backstage: Backstage) -> list[str]:
    """Returns what was done over the page, the latest first."""

    async def look(redis: Redis, keys: Keys) -> list[str]:
        return [each.act async for each in ActionLog(redis, keys).list()]

    return backstage.do(look)


def test_one_is_paused_resumed_and_cancelled_each_after_a_question(
    desk: Desk, backstage: Backstage, tmp_path: Path
) -> None:
    begin(backstage, tmp_path, "slow")
    page = desk.go("#/backfills")
    # What failed is in sight on a phone, where the others are reached by a swipe.
    expect(page.locator("thead th").nth(2)).to_have_text("Failed")
    row = page.get_by_role("row").filter(has_text="slow")
    expect(row.get_by_role("progressbar")).to_have_count(1)
    # How many items there are is not known yet, and so no share of them.
    assert row.get_by_role("progressbar").evaluate("bar => bar.position") == -1
    expect(row).to_contain_text("running")
    row.get_by_role("button", name="Pause slow").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("no further ones are started")
    assert desk.violations() == []
    dialog.get_by_role("button", name="Keep as it is").click()
    assert state_of(backstage, "slow") is BackfillState.RUNNING
    row.get_by_role("button", name="Pause slow").click()
    dialog.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    assert state_of(backstage, "slow") is BackfillState.PAUSED
    row.get_by_role("link", name="slow").click()
    page.get_by_role("button", name="Resume…").click()
    dialog.get_by_role("button", name="Resume").click()
    expect(page.locator(".view-acts .state")).to_have_text("running")
    page.get_by_role("button", name="Cancel…").click()
    dialog.get_by_role("button", name="Cancel the backfill").click()
    expect(page.locator(".view-acts .state")).to_have_text("cancelling")
    expect(page.locator(".view-acts").get_by_role("button")).to_have_count(0)
    assert acts_of(backstage) == ["backfill.cancel", "backfill.resume", "backfill.pause"]


def test_its_failures_report_files_and_findings_are_shown_and_the_failed_run_again(
    desk: Desk, backstage: Backstage, tmp_path: Path
) -> None:
    desk.page.clock.install()
    page = desk.go("#/backfills")
    run(backstage, tmp_path)
    # What begins and ends meanwhile is seen without a reload of the page.
    row = page.get_by_role("row").filter(has_text=NAME)
    expect(row).to_contain_text("succeeded")
    expect(row).to_contain_text(f"{ITEMS} of {ITEMS}")
    row.get_by_role("link", name=NAME).click()
    failures = page.get_by_role("table", name="What failed, by reason").locator("tbody tr")
    expect(failures).to_have_count(1)
    expect(failures).to_contain_text("not found")
    expect(failures.get_by_role("cell").first).to_have_text(str(FAILED))
    page.get_by_role("button", name="Show the report").click()
    report = page.locator(".report")
    expect(report.get_by_role("heading", level=4, name="In detail")).to_be_visible()
    expect(report.locator("svg").first).to_be_visible()
    expect(report.get_by_text("failures.jsonl")).to_be_visible()
    expect(report.locator("a, script, style")).to_have_count(0)
    # Its styles are in force, though the policy allows none that stand in a page.
    expect(report.locator(".badge")).to_have_css("border-radius", "99px")
    assert desk.violations() == []

    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download failures.jsonl").click()
    assert downloading.value.suggested_filename == f"{NAME}-failures.jsonl"
    kept = Path(downloading.value.path()).read_bytes()
    assert kept == (tmp_path / "out" / "failures.jsonl").read_bytes()
    assert len([orjson.loads(line) for line in kept.splitlines()]) == FAILED

    page.get_by_role("combobox", name="Part").select_option(index=1)
    found = page.get_by_role("region", name="What was found, item by item")
    expect(found).to_contain_text("failed")
    items = found.get_by_role("slider", name="Item")
    items.fill("6")
    shape = found.locator(".shape rect[stroke='#d33115']")
    expect(shape).to_have_attribute("x", "300")
    expect(found).to_contain_text("the item lies at Encord")
    expect(found.get_by_role("row", name="car 90 %")).to_be_visible()
    # Over its own picture where the gateway may read that.
    asked = desk.requests("/picture?")
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    for place in ("3", "4", "5"):
        items.fill(place)
    page.clock.resume()
    expect(shape).to_have_attribute("x", str(WIDTH // 4))
    found.locator("img[src^='blob:']").wait_for()
    assert len(asked) == 1, "who runs through many asks for none of them"
    assert desk.violations() == []

    page.get_by_role("button", name="Retry failed…").click()
    page.get_by_role("dialog").get_by_role("button", name="Run them again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{NAME}.retry")
    expect(page.locator(".view-acts .state")).to_have_text("submitted")


def test_who_may_only_read_is_offered_nothing_else(
    desk: Desk, backstage: Backstage, tmp_path: Path
) -> None:
    begin(backstage, tmp_path, "watched")
    desk.sign_in(backstage.token(Scope.READ))
    page = desk.go("#/backfills")
    row = page.get_by_role("row").filter(has_text="watched")
    expect(row).to_contain_text("running")
    expect(row.get_by_role("button")).to_have_count(0)
    row.get_by_role("link").click()
    expect(page.get_by_text("Nothing failed so far.")).to_be_visible()
    expect(page.locator(".view-acts").get_by_role("button")).to_have_count(0)


RATES: Final = """
told => Promise.all([import('./page/lib/ui.js'), import('./page/lib/backfills.js')])
.then(([{ html, render }, { useRate }]) => {
  const shown = [];
  function Rate({ backfill, at }) {
    shown.push(useRate()(backfill, at * 1000));
  }
  const place = document.createElement("div");
  told.forEach(([at, succeeded]) => {
    const backfill = { begun_at: new Date(0), state: "running", succeeded, failed: 0 };
    render(html`<${Rate} backfill=${backfill} at=${at} />`, place);
  });
  return shown;
})
"""


def test_the_rate_begins_anew_where_fewer_items_have_ended_than_before(desk: Desk) -> None:
    """As of a backfill that was begun anew under its id."""
    # A test before it may have made a token.
    desk.refused.add("/v1/me")
    told = [[100, 50], [110, 150], [120, 30], [130, 50]]
    assert desk.go().evaluate(RATES, told) == [0.5, 10, 0.25, 2]


FIGURES: Final = """
all => import('./page/lib/backfills.js').then((lib) => all.map((each) => {
  const backfill = { begun_at: new Date(0).toISOString(), ...each };
  const rate = lib.meanRate(backfill, 100_000);
  return [lib.rateText(rate), lib.secondsLeft(backfill, rate), lib.actsFor(backfill)];
}))
"""


def test_figures_of_a_backfill_tell_how_fast_it_is_what_is_left_and_what_can_be_done(
    desk: Desk,
) -> None:
    # A test before it may have made a token.
    desk.refused.add("/v1/me")
    ended: dict[str, Any] = {"total": 90, "succeeded": 40, "failed": 10, "dropped": 5}
    told: list[dict[str, Any]] = [
        {**ended, "state": "running"},
        {**ended, "state": "running", "total": None},
        {**ended, "state": "running", "total": 50},
        {**ended, "state": "running", "succeeded": 0, "failed": 0},
        {**ended, "state": "paused", "succeeded": 990},
        {**ended, "state": "cancelled", "ended_at": "1970-01-01T00:00:10Z"},
        {**ended, "state": "succeeded", "failed": 0, "ended_at": "1970-01-01T00:00:20Z"},
    ]
    running = ["pause", "cancel"]
    assert desk.go().evaluate(FIGURES, told) == [
        ["30 / min", 70, running],
        ["30 / min", None, running],
        ["30 / min", 0, running],
        ["–", None, running],
        ["10 / s", None, ["resume", "cancel"]],
        ["5 / s", None, ["retry-failed"]],
        ["2 / s", None, []],
    ]
