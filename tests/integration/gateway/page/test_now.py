"""`#/now`: what is due, what keeps workers from it, and the button that ends that."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from playwright.sync_api import expect

from schemas.enums import Priority
from tests.console import wait_until
from tests.integration.gateway.page.browser import accept_all
from tests.stream_events import event_text
from worker.gateway.access.tokens import Scope
from worker.queue.ledger.holds import Holds
from worker.queue.ledger.keys import EVENT_FIELD
from worker.queue.ledger.lanes import Lanes

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.integration.gateway.page.browser import Backstage, Desk
    from worker.queue.ledger.keys import Keys


DRAWN: Final = """
window.drawn = [];
const fillText = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    const left = this.getTransform().e + x - this.measureText(text).width;
    if (this.textAlign === "right") window.drawn.push([text, left]);
    return fillText.call(this, text, x, y);
};
"""


def test_what_is_due_is_seen_and_grows_as_it_comes(desk: Desk, backstage: Backstage) -> None:
    async def tell_of_tomorrow(redis: Redis, keys: Keys) -> None:
        text = event_text("new", "train.started").replace(b"started", b"dreaming")
        await redis.xadd(keys.events, {EVENT_FIELD: text})

    accept_all(backstage, *(f"due-{number}" for number in range(3)))
    backstage.do(tell_of_tomorrow)
    page = desk.go()
    due = page.locator(".figure", has_text="Due now").locator(".value")
    expect(due).to_have_text("3")
    row = page.get_by_role("table", name="Lanes").get_by_role("row", name="interactive")
    expect(row.get_by_role("cell").first).to_have_text("3")
    accept_all(backstage, "due-3")
    expect(due).to_have_text("4")
    expect(page.get_by_text("No worker runs")).to_be_visible()
    # A state that only a newer version knows is told behind those that are known.
    states = page.get_by_role("table", name="Commands by state").locator("tbody tr")
    expect(states).to_have_text([re.compile("accepted.*4"), re.compile("dreaming.*1")])
    # Charts are pictures; who does not see them has their figures.
    expect(page.locator(".plot canvas")).to_have_count(2)
    figures = page.locator("figure", has_text="Commands a minute")
    figures.get_by_text("As a table").click()
    expect(figures.get_by_role("row")).to_have_count(61)
    assert desk.violations() == []


def test_the_labels_of_a_chart_are_read_whole_however_large_its_figures(
    desk: Desk, backstage: Backstage
) -> None:
    async def take_hours(redis: Redis, keys: Keys) -> None:
        now_ms = int(time.time() * 1000)
        for state, at_ms in (("accepted", now_ms - 9_000_000), ("succeeded", now_ms)):
            text = event_text("slow", f"train.{state}", at_ms=at_ms)
            await redis.xadd(keys.events, {EVENT_FIELD: text})

    backstage.do(take_hours)
    desk.context.add_init_script(DRAWN)
    page = desk.go()
    # Playwright's own wait would have the page evaluate a text, which its policy forbids.
    is_drawn = "window.drawn.some(([text]) => text.length > 8)"
    wait_until(lambda: bool(page.evaluate(is_drawn)), "long labels")
    # By how much each label on the left would begin before its canvas does.
    assert page.evaluate("window.drawn.filter(([, left]) => left < 0)") == []


def test_a_hold_and_a_paused_lane_tell_their_reason_and_are_ended(
    desk: Desk, backstage: Backstage
) -> None:
    async def stop_all(redis: Redis, keys: Keys) -> None:
        await redis.set(keys.hold, "60000 1000 the API wants a pause", px=60_000)
        await Lanes(redis, keys).pause(Priority.BULK, "nearly all fail: not_found", 30)

    async def held(redis: Redis, keys: Keys) -> tuple[int, int]:
        return len(await Holds(redis, keys).list()), len(await Lanes(redis, keys).paused())

    backstage.do(stop_all)
    page = desk.go()
    hold = page.get_by_role("region", name="All workers are held")
    expect(hold).to_contain_text("the API wants a pause")
    lane = page.get_by_role("region", name="The lane bulk is paused")
    expect(lane).to_contain_text("nearly all fail: not_found")
    assert desk.violations() == []
    hold.get_by_role("button", name="Release").click()
    page.get_by_role("dialog").get_by_role("button", name="Keep as it is").click()
    assert backstage.do(held) == (1, 1)
    hold.get_by_role("button", name="Release").click()
    page.get_by_role("dialog").get_by_role("button", name="Release").click()
    expect(hold).to_have_count(0)
    lane.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(lane).to_have_count(0)
    expect(page.locator(".notice")).to_have_count(2)
    assert backstage.do(held) == (0, 0)


def test_who_may_only_read_sees_the_reason_and_no_button(desk: Desk, backstage: Backstage) -> None:
    async def pause(redis: Redis, keys: Keys) -> None:
        await Lanes(redis, keys).pause(Priority.BULK, "nearly all fail", 30)

    async def resume(redis: Redis, keys: Keys) -> None:
        await Lanes(redis, keys).resume(Priority.BULK)

    desk.sign_in(backstage.token(Scope.READ))
    backstage.do(pause)
    page = desk.go()
    lane = page.get_by_role("region", name="The lane bulk is paused")
    expect(lane).to_contain_text("nearly all fail")
    expect(lane.get_by_role("button")).to_have_count(0)
    # Whoever else resumes it, the page sees it.
    backstage.do(resume)
    expect(lane).to_have_count(0)
