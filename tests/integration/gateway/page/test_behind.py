"""Lists that are behind the events, as those of a busy gateway: what they do not know is shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import expect

from tests.integration.gateway.page.browser import accept_all
from worker.queue.ledger.streams import newest_entry

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route
    from redis.asyncio import Redis

    from tests.integration.gateway.page.browser import Backstage, Desk
    from worker.queue.ledger.keys import Keys


# Has the lists take longer than the page waits between two looks.
SLOW_LISTS = """
const answered = window.fetch;
window.fetch = async (...asked) => {
  const isList = String(asked[0]).includes("v1/commands?");
  if (isList) await new Promise((told) => setTimeout(told, 1000));
  return answered(...asked);
};
"""


class Behind:
    """Has the gateway's answers tell no more than it knew once.

    Attributes:
        asked: how many were.
        left: how many more are behind.
    """

    def __init__(self, page: Page, path: str, known: str, items: slice) -> None:
        self.asked = 0
        self.left = 3
        self._known = known
        self._items = items
        page.route(re.compile(path), self._answer)

    def _answer(self, route: Route) -> None:
        said = route.fetch()
        self.asked += 1
        if self.left > 0:
            self.left -= 1
            found: dict[str, Any] = said.json()
            head = {**said.headers, "last-event-id": self._known}
            body = {**found, "items": found["items"][self._items]}
            route.fulfill(response=said, headers=head, json=body)
        else:
            route.fulfill(response=said)


def newest(backstage: Backstage) -> str:
    """Returns the entry of the newest event."""

    async def look(redis: Redis, keys: Keys) -> str:
        found = await newest_entry(redis, keys.events)
        assert found is not None
        return found[0].decode()

    return backstage.do(look)


def test_what_the_list_did_not_know_when_the_page_was_opened_is_shown_once_it_does(
    desk: Desk, backstage: Backstage
) -> None:
    accept_all(backstage, *(f"behind-{number}" for number in range(8)))
    behind = Behind(desk.page, r"/v1/commands\?", "1-0", slice(5, None))
    page = desk.go("#/commands?id=behind-")
    expect(page.locator("tbody tr")).to_have_count(8)
    told = behind.asked
    page.wait_for_timeout(2_000)
    assert behind.asked <= told + 1, "it is asked no more than it has to be"


def test_what_the_timeline_did_not_know_when_the_page_was_opened_is_shown_once_it_does(
    desk: Desk, backstage: Backstage
) -> None:
    # Of what has ended no message is kept.
    desk.refused.add("/late-step/message")
    accept_all(backstage, "late-step")
    cancelled = desk.gateway.http.post("/v1/commands/late-step/cancel")
    assert cancelled.status_code == 200
    Behind(desk.page, r"/late-step/events", "1-0", slice(1))
    page = desk.go("#/commands/late-step")
    expect(page.locator(".timeline .state").last).to_have_text("cancelled")


def test_what_came_before_a_view_was_opened_is_shown_once_its_list_knows_it(
    desk: Desk, backstage: Backstage
) -> None:
    """The events went to the view before it; this one never heard of them."""
    accept_all(backstage, "view-old")
    known = newest(backstage)
    page = desk.go("#/commands?id=view-")
    expect(page.locator(".connection")).to_have_text("Live")
    accept_all(backstage, "view-1", "view-2")
    cancelled = desk.gateway.http.post("/v1/commands/view-2/cancel")
    assert cancelled.status_code == 200
    expect(page.locator("tbody .state.cancelled")).to_have_count(1)
    desk.go("#/now")
    desk.refused.add("/view-2/message")
    Behind(page, r"/v1/commands\?", known, slice(2, None))
    Behind(page, r"/view-2/events", known, slice(0))
    desk.go("#/commands?id=view-")
    expect(page.locator("tbody tr")).to_have_count(3)
    desk.go("#/commands/view-2")
    expect(page.locator(".timeline .state").last).to_have_text("cancelled")


def test_one_that_comes_to_a_state_is_listed_by_it_once_the_list_knows_that(
    desk: Desk, backstage: Backstage
) -> None:
    accept_all(backstage, "state-1", "state-2")
    known = newest(backstage)
    page = desk.go("#/commands?id=state-&state=cancelled")
    expect(page.locator(".connection")).to_have_text("Live")
    expect(page.get_by_text("No command fits this filter.")).to_be_visible()
    Behind(page, r"/v1/commands\?", known, slice(0))
    for command in ("state-1", "state-2"):
        assert desk.gateway.http.post(f"/v1/commands/{command}/cancel").status_code == 200
    expect(page.locator("tbody tr")).to_have_count(2)


def test_a_list_that_comes_no_nearer_is_asked_for_more_and_more_seldom(
    desk: Desk, backstage: Backstage
) -> None:
    """As where Redis was emptied, or nobody writes the list."""
    accept_all(backstage, "stuck")
    behind = Behind(desk.page, r"/v1/commands\?", "0-0", slice(0))
    behind.left = 1_000
    page = desk.go("#/commands?id=stuck")
    while behind.asked < 4:
        page.wait_for_timeout(100)
    page.wait_for_timeout(3_000)
    assert behind.asked <= 5


def test_a_list_that_was_paused_stays_as_it_is_until_it_is_followed(
    desk: Desk, backstage: Backstage
) -> None:
    accept_all(backstage, "paused-1", "paused-2")
    behind = Behind(desk.page, r"/v1/commands\?", "0-0", slice(1, None))
    behind.left = 1_000
    page = desk.go("#/commands?id=paused-")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(500)
    behind.left = 0
    page.wait_for_timeout(4_000)
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Follow").click()
    expect(page.locator("tbody tr")).to_have_count(2)


def test_what_was_in_a_redis_that_was_emptied_is_listed_no_more(
    desk: Desk, backstage: Backstage
) -> None:
    accept_all(backstage, "emptied-1")
    page = desk.go("#/commands?id=emptied-")
    expect(page.locator(".connection")).to_have_text("Live")
    accept_all(backstage, "emptied-2")
    expect(page.locator("tbody tr")).to_have_count(2)
    behind = Behind(page, r"/v1/commands\?", "0-0", slice(0))
    behind.left = 1_000
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Follow").click()
    expect(page.get_by_text("No command fits this filter.")).to_be_visible()


def test_a_list_that_takes_longer_than_the_events_pause_is_shown_while_they_come(
    desk: Desk, backstage: Backstage
) -> None:
    ids = [f"slow-{number}" for number in range(60)]
    accept_all(backstage, *ids)
    page = desk.page
    page.add_init_script(SLOW_LISTS)
    desk.go("#/commands?id=slow-&state=cancelled")
    expect(page.get_by_text("No command fits this filter.")).to_be_visible()
    for command in ids:
        assert desk.gateway.http.post(f"/v1/commands/{command}/cancel").status_code == 200
        page.wait_for_timeout(250)
        if page.locator("tbody tr").count():
            break
    else:
        pytest.fail("nothing is shown as long as events come")


LEAVE: Final = """
stays => Promise.all([import('./page/lib/ui.js'), import('./page/lib/data.js')])
.then(([{ html, render, useEffect }, { useThrottled }]) => new Promise((resolve) => {
  const place = document.createElement("div");
  let calls = 0;
  function View() {
    const ask = useThrottled(() => { calls += 1; }, 1);
    useEffect(() => {
      ask();
      if (!stays) render(null, place);
      // Of two timers that are due the one that was set first comes first.
      setTimeout(() => resolve(calls), 5);
    }, []);
  }
  render(html`<${View} />`, place);
}))
"""


def test_a_view_that_was_left_asks_for_nothing_more(desk: Desk) -> None:
    page = desk.go()
    assert [page.evaluate(LEAVE, True), page.evaluate(LEAVE, False)] == [1, 0]


LOSSES: Final = """
ids => import('./page/lib/live.js').then(({ Live }) => new Promise((resolve) => {
  const asked = [], batches = [], left = [...ids];
  const fetch = async (_path, { headers }) => {
    asked.push(headers["Last-Event-ID"] ?? null);
    const id = left.shift();
    const text = `id: ${id}\\nevent: train.accepted\\ndata: {"subject": "${id}"}\\n\\n`;
    return new Response(text, { headers: { "Last-Event-ID": "0-1" } });
  };
  const live = new Live({ fetch });
  live.subscribe(({ events, isGap, begin }) => {
    batches.push([events.map(({ subject }) => subject), isGap, begin]);
    if (batches.length < ids.length) return;
    live.stop();
    resolve([asked, batches]);
  });
  live.start();
}))
"""


def test_each_connection_goes_on_behind_the_last_event_of_the_one_before(desk: Desk) -> None:
    asked, batches = desk.go().evaluate(LOSSES, ["1-1", "2-1", "3-1"])
    assert asked == [None, "1-1", "2-1"]
    assert batches == [
        [["1-1"], True, "0-1"],
        [["2-1"], False, "1-1"],
        [["3-1"], False, "2-1"],
    ]
