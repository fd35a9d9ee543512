"""`#/commands`: found by any filter, in pages, alive, and many acted upon at once."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.integration.gateway.page.browser import PHONE, accept_all, at_desk
from tests.stream_events import event_text
from worker.gateway.routes import bulk
from worker.queue.ledger.keys import EVENT_FIELD
from worker.queue.ledger.queries import LedgerReader

if TYPE_CHECKING:
    import pytest
    from playwright.sync_api import Browser, Route
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.page.browser import Backstage, Desk
    from worker.queue.ledger.keys import Keys


def states(backstage: Backstage, *ids: str) -> list[str]:
    """Returns where commands stand in the ledger."""

    async def look(redis: Redis, keys: Keys) -> list[str]:
        rows = [await LedgerReader(redis, keys).status(each) for each in ids]
        return [row.state for row in rows if row is not None]

    return backstage.do(look)


def test_a_filter_stands_in_the_address_and_can_be_passed_on(
    desk: Desk, backstage: Backstage
) -> None:
    accept_all(backstage, "find-me-1", "find-me-2", "other-1", correlationid="night-7")
    page = desk.go("#/commands?correlationid=night-7")
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_text("3 commands", exact=True)).to_be_visible()
    page.get_by_label("Text").fill("ME-2")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert page.url.endswith("#/commands?correlationid=night-7&text=ME-2")
    page.get_by_label("State").select_option("failed")
    expect(page.get_by_text("No command fits this filter.")).to_be_visible()
    page.get_by_label("State").select_option("")
    page.get_by_label("Type").select_option("list_models")
    expect(page.get_by_role("link", name="find-me-2")).to_be_visible()
    other = desk.open_tab()
    other.goto(page.url)
    expect(other.locator("tbody tr")).to_have_count(1)
    expect(other.get_by_label("Text")).to_have_value("ME-2")
    page.get_by_label("Changed before").fill("2020-01-01T00:00:00")
    expect(page.get_by_text("No command fits this filter.")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("link", name="other-1")).to_be_visible()
    assert page.url.endswith("#/commands")


def test_an_id_that_is_a_step_to_browsers_is_a_command_like_any_other(
    desk: Desk, backstage: Backstage
) -> None:
    accept_all(backstage, ".", "..")
    for command in (".", ".."):
        page = desk.go("#/commands?type=list_models")
        page.get_by_role("link", name=command, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(command)
        expect(page.get_by_role("region", name="Its data")).to_contain_text(f'"id": "{command}"')
        expect(page.locator(".timeline .state").first).to_have_text("accepted")
        page.get_by_role("button", name="Cancel…").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel the command").click()
        expect(page.locator(".timeline .state").last).to_have_text("cancelled")
    assert states(backstage, ".", "..") == ["cancelled", "cancelled"]


def test_why_one_failed_is_seen_on_a_phone_and_every_column_on_a_laptop(
    browser: Browser, page_gateway: GatewayServer, backstage: Backstage
) -> None:
    async def fail(redis: Redis, keys: Keys) -> None:
        error = {"code": "not_found", "message": "no such model, " * 40}
        # What ended long ago is forgotten at the next look.
        at_ms = int(time.time() * 1000)
        for number in range(3):
            data = {"error": error, "attempts": 3}
            name = f"night/{number:030}"
            told = {"correlationid": f"{'c' * 30}{number}"}
            text = event_text(name, "update_model.failed", at_ms=at_ms, data=data, **told)
            await redis.xadd(keys.events, {EVENT_FIELD: text})

    backstage.do(fail)
    with at_desk(browser, page_gateway, viewport=PHONE) as desk:
        page = desk.go("#/commands?id=night/")
        expect(page.locator("tbody th").first.get_by_text("not found")).to_be_in_viewport()
        # They differ in their last letter alone.
        hidden = "a => a.map(e => e.scrollWidth - e.clientWidth + e.scrollHeight - e.clientHeight)"
        assert page.locator("tbody th a").evaluate_all(hidden) == [0, 0, 0]
    with at_desk(browser, page_gateway, viewport={"width": 1360, "height": 860}) as desk:
        page = desk.go("#/commands?id=night/")
        expect(page.locator("tbody tr")).to_have_count(3)
        last = page.locator("tbody tr").first.get_by_role("cell").last
        expect(last).to_be_in_viewport(ratio=1)


def test_a_million_are_walked_through_by_pages(desk: Desk, backstage: Backstage) -> None:
    accept_all(backstage, *(f"page-{number:03}" for number in range(130)))
    page = desk.go("#/commands?id=page-")
    seen: list[str] = []
    for rows in (50, 50, 30):
        expect(page.locator("tbody tr")).to_have_count(rows)
        expect(page.locator("table")).to_have_attribute("aria-busy", "false")
        seen += page.locator("tbody th").all_inner_texts()
        if rows == 50:
            page.get_by_role("link", name="Older").click()
            expect(page.get_by_role("link", name=seen[-1], exact=True)).to_have_count(0)
    assert seen == [f"page-{number:03}" for number in reversed(range(130))]
    page.get_by_role("link", name="Newest").click()
    expect(page.get_by_role("link", name="page-129")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("link", name="page-000")).to_be_visible()


def test_a_page_is_filled_though_the_gateway_finds_one_row_at_a_time(
    desk: Desk, backstage: Backstage
) -> None:
    """As a busy one does, which gives a search no more than some milliseconds."""
    accept_all(backstage, *(f"short-{number:03}" for number in range(30)))
    page = desk.page
    page.route(
        re.compile(r"/v1/commands\?"),
        lambda route: route.continue_(url=re.sub(r"limit=\d+", "limit=1", route.request.url)),
    )
    desk.go("#/commands?id=short-")
    expect(page.locator("tbody tr")).to_have_count(30)


def test_what_comes_is_shown_within_a_second_and_what_is_read_stays(
    desk: Desk, backstage: Backstage
) -> None:
    page = desk.go("#/commands?id=live-")
    expect(page.locator(".connection")).to_have_text("Live")
    for number in range(3):
        begun = time.monotonic()
        accept_all(backstage, f"live-{number}")
        page.get_by_role("link", name=f"live-{number}").wait_for()
        assert time.monotonic() - begun < 5, "on a busy machine; it takes 300 ms"
    # Who stands on a row reads: nothing moves until they ask.
    page.get_by_role("link", name="live-1").focus()
    accept_all(backstage, "live-3", "live-4")
    page.get_by_role("button", name="Show 2 new commands").click()
    expect(page.locator("tbody th").first).to_have_text("live-4")
    page.get_by_role("button", name="Pause").click()
    accept_all(backstage, "live-5")
    expect(page.get_by_role("button", name="Follow")).to_be_visible()
    expect(page.get_by_role("link", name="live-5")).to_have_count(0)
    page.get_by_role("button", name="Follow").click()
    expect(page.get_by_role("link", name="live-5")).to_be_visible()


def test_a_tab_holds_a_bounded_list_and_draws_seldom(desk: Desk, backstage: Backstage) -> None:
    page = desk.go("#/commands?id=many-")
    expect(page.locator(".connection")).to_have_text("Live")
    page.evaluate("""() => {
        window.draws = 0;
        let last = 0;
        new MutationObserver(() => {
            // What one draw changes is told in one call.
            if (performance.now() - last > 5) window.draws += 1;
            last = performance.now();
        }).observe(document.querySelector('main'), {subtree: true, childList: true});
    }""")
    begun = time.monotonic()
    for first in range(0, 1_000, 50):
        accept_all(backstage, *(f"many-{number}" for number in range(first, first + 50)))
    expect(page.get_by_role("link", name="many-999", exact=True)).to_be_visible()
    seconds = time.monotonic() - begun
    assert page.locator("tbody tr").count() <= 300
    # A batch each quarter of a second, a page now and then, the count.
    assert page.evaluate("window.draws") <= 10 * seconds + 10


def test_what_is_counted_is_what_is_cancelled(desk: Desk, backstage: Backstage) -> None:
    accept_all(backstage, *(f"bulk-{number}" for number in range(30)), correlationid="bulk")
    accept_all(backstage, "spared", correlationid="spared")
    page = desk.go("#/commands?correlationid=bulk")
    expect(page.locator("tbody tr")).to_have_count(30)
    page.get_by_role("button", name="Cancel these").click()
    dialog = page.get_by_role("dialog", name="Cancel commands")
    expect(dialog).to_contain_text("correlationid=bulk")
    act = dialog.get_by_role("button", name="Cancel 30 commands")
    expect(act).to_be_visible()
    assert desk.violations() == []
    dialog.get_by_role("button", name="Keep as it is").click()
    assert states(backstage, "bulk-0") == ["accepted"]
    page.get_by_role("button", name="Cancel these").click()
    act.click()
    expect(dialog).to_contain_text("30 of 30 commands cancelled")
    dialog.get_by_role("button", name="Close").last.click()
    expect(page.locator("tbody .state.cancelled")).to_have_count(30)
    assert set(states(backstage, *(f"bulk-{number}" for number in range(30)))) == {"cancelled"}
    assert states(backstage, "spared") == ["accepted"]


def test_a_filter_that_only_the_list_knows_is_acted_upon_by_ids(
    desk: Desk, backstage: Backstage
) -> None:
    accept_all(backstage, "only-this", "only-that", "not-those", correlationid="ids")
    page = desk.go("#/commands?correlationid=ids&text=only")
    asked = desk.requests("/v1/commands/cancel", "POST")
    page.get_by_role("button", name="Cancel these").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel 2 commands").click()
    expect(dialog).to_contain_text("2 of 2 commands cancelled")
    (body,) = [each.post_data_json for each in asked]
    assert body == {"ids": ["only-that", "only-this"], "dry_run": False}
    assert states(backstage, "only-this", "only-that", "not-those") == [
        "cancelled",
        "cancelled",
        "accepted",
    ]


def test_more_than_one_request_takes_are_counted_and_cancelled_to_the_last(
    desk: Desk, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ten thousand otherwise; the gateway runs in this process.
    monkeypatch.setattr(bulk, "MOST_AT_A_TIME", 10)
    accept_all(backstage, *(f"more-{number}" for number in range(25)), correlationid="more")
    page = desk.go("#/commands?correlationid=more")
    asked = desk.requests("/v1/commands/cancel", "POST")
    page.get_by_role("button", name="Cancel these").click()
    dialog = page.get_by_role("dialog", name="Cancel commands")
    dialog.get_by_role("button", name="Cancel 25 commands").click()
    expect(dialog).to_contain_text("25 of 25 commands cancelled")
    assert [(each.post_data_json or {}).get("dry_run") for each in asked] == [
        True,
        False,
        False,
        False,
    ]
    assert set(states(backstage, *(f"more-{number}" for number in range(25)))) == {"cancelled"}


def test_an_act_whose_answer_breaks_off_is_said_to_have_none(
    desk: Desk, backstage: Backstage
) -> None:
    accept_all(backstage, "cut-off")
    desk.refused.add("/cut-off/message")
    page = desk.go("#/commands/cut-off")

    def cut(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text()[:9])

    page.route("**/cancel", cut)
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the command").click()
    expect(page.locator(".notice.bad")).to_contain_text("The cancellation got no answer.")
    # What it came to is seen all the same.
    expect(page.locator(".view-acts .state")).to_have_text("cancelled")
