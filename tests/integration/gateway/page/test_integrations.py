"""`#/webhooks`, `#/sinks`, `#/actions`: what comes in, what goes out, and who did what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from playwright.sync_api import expect

from tests.gateway_process import serving_gateway
from tests.integration.integrations.published import event_text
from tests.integration.sinks.endpoints import SECRET as SINK_SECRET
from tests.integration.webhooks.posting import GET_MODEL, HEAD, MODEL, SECRET, signed, submitted
from worker.gateway.access.tokens import Scope
from worker.queue.ledger.actions import ActionLog
from worker.sinks.keys import unsent_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Route
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.page.browser import Backstage, Desk
    from worker.embedded import EmbeddedRedis
    from worker.queue.ledger.keys import Keys

SECOND: Final = """
[[sources.encord.rules]]
name = "second"
for_each = "body.payload.data_hashes"
[sources.encord.rules.command]
type = "get_model"
data.model_uuid = "item"
"""
SINK: Final = """
[sinks.ops]
types = ["*.retrying"]
[sinks.ops.webhook]
url = "http://127.0.0.1:9/?key=hidden"
secrets = [{ env = "OPS_SECRET" }]
allow_private = true
"""


@pytest.fixture(scope="module")
def page_gateway(
    redis_server: EmbeddedRedis, page_namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayServer]:
    """A gateway with a source of deliveries and a sink."""
    folder = tmp_path_factory.mktemp("page")
    file = folder / "integrations.toml"
    file.write_text(HEAD + GET_MODEL + SECOND + SINK)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ENCORD_WEBHOOK_SECRET", SECRET)
        environment.setenv("OPS_SECRET", SINK_SECRET)
        with serving_gateway(
            redis_url=redis_server.url,
            namespace=page_namespace,
            gateway_folder=folder / "gateway",
            integrations_file=file,
        ) as gateway:
            yield gateway


def deliver(gateway: GatewayServer, body: bytes) -> None:
    post = signed(body)
    told = {name.decode(): value.decode() for name, value in post.headers}
    del told["authorization"]
    answer = gateway.http.post("/v1/webhooks/encord", content=post.body, headers=told)
    answer.raise_for_status()


def test_a_delivery_is_watched_from_its_arrival_to_its_replay(desk: Desk) -> None:
    page = desk.go("#/webhooks")
    source = page.get_by_role("table", name="Sources of deliveries").locator("tbody tr")
    expect(source).to_contain_text("/v1/webhooks/encord")
    expect(source).to_contain_text("look, second")
    expect(page.get_by_text("No delivery came")).to_be_visible()
    deliver(desk.gateway, submitted("a b/ü", data=[17]))
    deliver(desk.gateway, submitted("right", data=[MODEL]))
    rows = page.get_by_role("table", name="Deliveries, newest first").locator("tbody tr")
    # Nobody loads the page anew.
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("right")
    assert desk.violations() == []
    page.get_by_label("Outcome of a rule").select_option("invalid")
    expect(rows).to_have_count(1)
    rows.get_by_role("link", name="a b/ü", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("a b/ü")
    rules = page.get_by_role("table", name="What each rule made of it").locator("tbody tr")
    expect(rules.first).to_contain_text("submitted")
    expect(rules.last).to_contain_text("data.model_uuid must be a UUID")
    expect(page.get_by_role("group", name="the body")).to_contain_text('"uid": "a b/ü"')
    expect(page.locator("main")).not_to_contain_text("very-secret")
    assert desk.violations() == []

    page.get_by_role("button", name="Replay…").click()
    dialog = page.get_by_role("dialog", name="Replay this delivery")
    dialog.get_by_role("button", name="Only show").click()
    expect(dialog.get_by_role("status")).to_contain_text("0 commands")
    dialog.get_by_label("Make that once more too").check()
    dialog.get_by_role("button", name="Only show").click()
    expect(dialog.get_by_role("status")).to_contain_text("1 command")
    expect(dialog.get_by_role("group", name="the commands")).to_contain_text(MODEL)
    assert desk.violations() == []
    dialog.get_by_role("button", name="Replay", exact=True).click()
    expect(page.locator(".notice")).to_contain_text("1 command sent.")
    expect(rules.first.get_by_role("link")).to_have_count(2)


def test_a_delivery_whose_id_is_a_step_to_browsers_is_one_like_any_other(desk: Desk) -> None:
    deliver(desk.gateway, submitted("..", data=[MODEL]))
    page = desk.go("#/webhooks")
    page.get_by_role("link", name="..", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("..")
    expect(page.get_by_role("group", name="the body")).to_contain_text('"uid": ".."')
    page.get_by_role("button", name="Replay…").click()
    dialog = page.get_by_role("dialog", name="Replay this delivery")
    dialog.get_by_role("button", name="Only show").click()
    expect(dialog.get_by_role("status")).to_contain_text("0 commands")


def test_what_is_made_once_more_is_made_once_though_its_answer_got_lost(desk: Desk) -> None:
    deliver(desk.gateway, submitted("lost", data=[MODEL]))
    page = desk.go("#/webhooks/encord%2Flost")
    rules = page.get_by_role("table", name="What each rule made of it").locator("tbody tr")
    expect(rules.first.get_by_role("link")).to_have_count(1)
    lost: list[str] = []

    def lose_two(route: Route) -> None:
        if len(lost) < 2:
            lost.append(route.fetch().text())
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/replay", lose_two)
    dialog = page.get_by_role("dialog", name="Replay this delivery")

    def ask() -> None:
        page.get_by_role("button", name="Replay…").click()
        dialog.get_by_label("Make that once more too").check()

    ask()
    dialog.get_by_role("button", name="Only show").click()
    expect(dialog.get_by_role("alert")).to_contain_text("The gateway does not answer.")
    assert "may have been done" not in dialog.get_by_role("alert").inner_text()
    dialog.get_by_role("button", name="Replay", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("may have been done all the same")
    # As who looks how it stands, which says nothing of what was asked for before.
    page.reload()
    ask()
    dialog.get_by_role("button", name="Only show").click()
    expect(dialog.get_by_role("status")).to_contain_text("It would come to")
    dialog.get_by_role("button", name="Replay", exact=True).click()
    expect(page.locator(".notice")).to_contain_text("2 commands sent.")
    expect(rules.first.get_by_role("link")).to_have_count(2)
    desk.forgive("net::ERR")


def test_a_sink_is_paused_with_a_reason_resumed_and_sends_again(
    desk: Desk, backstage: Backstage
) -> None:
    async def give_up(redis: Redis, keys: Keys) -> None:
        for number in range(3):
            fields: Any = {
                "event": event_text("lost", number),
                "entry": f"{number + 1}-0",
                "error": f"no answer {number}",
            }
            await redis.xadd(unsent_key(keys, "ops"), fields)

    backstage.do(give_up)
    page = desk.go("#/sinks")
    row = page.get_by_role("table", name="Sinks").locator("tbody tr")
    expect(row).to_contain_text("http://127.0.0.1:9")
    expect(page.locator("main")).not_to_contain_text("hidden")
    expect(row.get_by_role("cell").nth(3)).to_have_text("3")
    row.get_by_role("button", name="Pause ops").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("the night's rest")
    assert desk.violations() == []
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    row.get_by_role("link", name="ops").click()
    expect(page.get_by_role("region", name="Why it is paused")).to_contain_text("the night's rest")
    unsent = page.get_by_role("table", name="Events that could not be sent").locator("tbody tr")
    expect(unsent).to_have_count(3)
    expect(unsent.first).to_contain_text("no answer 2")
    assert desk.violations() == []
    page.get_by_role("button", name="Recover…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("What could not be sent: 3 events")
    dialog.get_by_role("button", name="Send again").click()
    expect(page.locator(".notice").last).to_contain_text("3 events sent again.")
    expect(unsent).to_have_count(0)
    page.get_by_role("button", name="Resume…").click()
    dialog.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("region", name="Why it is paused")).to_have_count(0)


def test_who_did_what_is_found_by_person_act_and_subject_in_pages(
    desk: Desk, backstage: Backstage
) -> None:
    async def act(redis: Redis, keys: Keys) -> None:
        log = ActionLog(redis, keys)
        for number in range(103):
            who = "cli:ann@desk" if number % 2 else "nightly"
            async with log.recorded(who, "command.cancel", f"job-{number:03}") as entry:
                entry.done(state_before="accepted")

    backstage.do(act)
    page = desk.go("#/actions?act=command.cancel")
    rows = page.get_by_role("table", name="Acts, newest first").locator("tbody tr")
    expect(rows).to_have_count(100)
    expect(rows.first).to_contain_text("job-102")
    expect(rows.first).to_contain_text("state before accepted")
    assert desk.violations() == []
    page.get_by_role("link", name="Older").click()
    expect(rows).to_have_count(3)
    page.get_by_role("link", name="Newest").click()
    page.get_by_label("Who").fill("cli:ann@desk")
    expect(rows).to_have_count(51)
    page.get_by_label("On", exact=True).fill("job-001")
    expect(rows).to_have_count(1)
    assert page.url.endswith("#/actions?act=command.cancel&who=cli%3Aann%40desk&subject=job-001")
    expect(rows.get_by_role("link", name="job-001")).to_have_attribute("href", "#/commands/job-001")


def test_who_may_only_read_is_offered_no_act(desk: Desk, backstage: Backstage) -> None:
    desk.sign_in(backstage.token(Scope.READ))
    page = desk.go("#/sinks/ops")
    expect(page.get_by_text("Failed attempts")).to_be_visible()
    expect(page.locator(".view-acts").get_by_role("button")).to_have_count(0)
    page = desk.go("#/sinks")
    expect(page.locator("tbody tr").get_by_role("button")).to_have_count(0)
    page = desk.go("#/webhooks/encord%2Fright")
    expect(page.get_by_role("group", name="the body")).to_be_visible()
    expect(page.get_by_role("button", name="Replay…")).to_have_count(0)
