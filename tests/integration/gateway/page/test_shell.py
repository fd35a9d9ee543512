"""What stands around every view: who is signed in, keys, colours, the connection."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from playwright.sync_api import expect
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.commands import COMMAND_CLASSES
from schemas.enums import EventState
from schemas.events import ErrorCode
from tests.console import Console, wait_until
from tests.gateway_process import running_gateway, serving_gateway
from tests.integration.gateway.page.browser import PHONE, accept_all, at_desk
from tests.integration.gateway.page.letters import bury
from tests.pages import anchors
from worker.acts import Act
from worker.gateway.access.tokens import Scope, Tokens
from worker.gateway.events import stream as event_stream
from worker.webhooks.records import RuleResult

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.page.browser import Backstage, Desk
    from worker.embedded import EmbeddedRedis
    from worker.queue.ledger.keys import Keys

ROOT: Final = Path(__file__).parents[4]
# What the view "Now" asks for.
NOW: Final = ("overview", "workers", "holds", "lanes")
VIEWS: Final = (
    "#/now",
    "#/commands",
    "#/dead-letters",
    "#/trainings",
    "#/backfills",
    "#/webhooks",
    "#/sinks",
    "#/actions",
)


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_each_view_can_be_used_by_everybody(
    browser: Browser, page_gateway: GatewayServer, backstage: Backstage, colours: str
) -> None:
    accept_all(backstage, f"for-{colours}")
    with at_desk(browser, page_gateway, color_scheme=colours) as desk:
        for view in VIEWS:
            desk.go(view)
            expect(desk.page.locator(".skeleton")).to_have_count(0)
            assert desk.violations() == [], view
        desk.page.keyboard.press("?")
        expect(desk.page.get_by_role("dialog", name="Keyboard")).to_be_visible()
        assert desk.violations() == [], "the help"


def test_nothing_is_wider_than_a_phone(browser: Browser, page_gateway: GatewayServer) -> None:
    with at_desk(browser, page_gateway, viewport=PHONE) as desk:
        for view in VIEWS:
            page = desk.go(view)
            expect(page.locator(".skeleton")).to_have_count(0)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], view


def test_the_keyboard_alone_reaches_everything(desk: Desk, backstage: Backstage) -> None:
    accept_all(backstage, "key-1", "key-2")
    page = desk.go("#/now")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.get_by_role("heading", level=1)).to_have_text("Commands")
    expect(page.locator("main")).to_be_focused()
    expect(page.get_by_label("Text")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Text")).to_be_focused()
    page.keyboard.type("KEY-")
    expect(page.locator("tbody tr")).to_have_count(2)
    # In a field a letter is a letter.
    page.keyboard.type("?j")
    expect(page.get_by_label("Text")).to_have_value("KEY-?j")
    # Or the list that comes next would not be the last one, and take the focus along.
    expect(page.locator("tbody tr")).to_have_count(0)
    page.keyboard.press("Control+a")
    page.keyboard.type("key-")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.keyboard.press("Tab")
    for key, command in (("j", "key-2"), ("j", "key-1"), ("j", "key-1"), ("k", "key-2")):
        # The list of a field takes letters for itself.
        page.evaluate("document.activeElement.matches('select') && document.activeElement.blur()")
        page.keyboard.press(key)
        expect(page.get_by_role("link", name=command)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("key-2")


def test_single_keys_can_be_turned_off(desk: Desk) -> None:
    page = desk.go("#/now")
    page.keyboard.press("?")
    page.get_by_label("Single keys do these").uncheck()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("?")
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_have_text("Now")


def test_colours_follow_the_system_until_they_are_chosen(desk: Desk) -> None:
    page = desk.go("#/now")
    surface = "getComputedStyle(document.querySelector('.top')).backgroundColor"
    light = page.evaluate(surface)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(surface)
    assert light != dark
    page.get_by_role("button", name="Colours: as the system").click()
    assert page.evaluate(surface) == light
    page.reload()
    page.get_by_role("button", name="Colours: light").click()
    assert page.evaluate(surface) == dark


def test_an_address_that_is_none_says_so(desk: Desk) -> None:
    page = desk.go("#/nowhere")
    expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
    expect(page).to_have_title("Not found · trainmaster")
    page.get_by_role("link", name="Go to Now").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Now")
    expect(page).to_have_title("Now · trainmaster")


def test_the_page_knows_the_contract_as_it_is(desk: Desk) -> None:
    known: dict[str, Any] = desk.go().evaluate(
        "import('./page/lib/contract.js').then(m => ({...m}))"
    )
    assert known["COMMAND_TYPES"] == sorted(COMMAND_CLASSES)
    assert known["EVENT_STATES"] == [str(state) for state in EventState]
    assert {code: said["means"] for code, said in known["ERRORS"].items()} == {
        str(code): code.meaning for code in ErrorCode
    }
    assert known["ACTS"] == [str(act) for act in Act]
    for told in known["ERRORS"].values():
        page, _, heading = told["more"].partition(", ")
        there = anchors(ROOT / "docs" / page)
        assert not heading or heading.lower().replace(" ", "-") in there, told["more"]
    said = desk.page.evaluate(
        "import('./page/lib/deliveries.js').then(m => Object.keys(m.OUTCOMES))"
    )
    assert said == [str(outcome) for outcome in RuleResult]


def test_a_span_of_time_is_told_in_two_units_at_most(desk: Desk) -> None:
    told = {
        0.34: "340 ms",
        0.9996: "1 s",
        4.2: "4.2 s",
        9.96: "10 s",
        59.96: "1 min",
        200: "3 min 20 s",
        3599.6: "1 h",
        7199: "1 h 59 min",
        86_399: "23 h 59 min",
        345_599: "3 d 23 h",
        -200: "−3 min 20 s",
    }
    shown = desk.go().evaluate(
        "all => import('./page/lib/format.js').then(m => all.map(m.duration))", list(told)
    )
    assert shown == list(told.values())
    ago = {
        -400: "now",
        -60_400: "1 min ago",
        -7_199_000: "1 h 59 min ago",
        200_000: "in 3 min 20 s",
    }
    shown = desk.page.evaluate(
        "all => import('./page/lib/format.js').then(m => all.map(at => m.ago(at + 1e12, 1e12)))",
        list(ago),
    )
    assert shown == list(ago.values())


ASK: Final = """
next => import('./page/lib/api.js').then(async ({ Api }) => {
  const told = [];
  const api = new Api((problem) => told.push(problem.code));
  api.token = "former";
  const answer = api.get("v1/me").catch((problem) => problem.status);
  if (next) api.token = next;
  return [await answer, told];
})
"""


def test_only_the_token_that_was_refused_is_asked_for_anew(desk: Desk) -> None:
    """The answer to a request by the one before may come late."""
    desk.refused |= {"/v1/"}  # What the page itself asks meanwhile.
    page = desk.go()
    assert page.evaluate(ASK, None) == [401, ["unauthorized"]]
    assert page.evaluate(ASK, "another") == [401, []]


def test_what_breaks_off_is_said_and_caught_up_with(
    browser: Browser, redis_server: EmbeddedRedis, backstage: Backstage, tmp_path: Path
) -> None:
    told: dict[str, Any] = {
        "redis_url": redis_server.url,
        "namespace": backstage.keys.namespace,
        "gateway_folder": tmp_path,
    }
    with serving_gateway(**told) as first:
        port = int(first.url.rpartition(":")[2])
        with at_desk(browser, first) as desk:
            page = desk.go("#/commands")
            asked = desk.requests("/v1/events")
            state = page.locator(".connection")
            expect(state).to_have_text("Live")
            accept_all(backstage, "before")
            expect(page.get_by_role("link", name="before")).to_be_visible()
            first.stop()
            expect(state).to_have_text("Connection lost, trying again")
            accept_all(backstage, "meanwhile")
            with serving_gateway(**told, gateway_port=port):
                expect(state).to_have_text("Live")
                expect(page.get_by_role("link", name="meanwhile")).to_be_visible()
            # What was asked while nobody answered is no fault of the page.
            desk.forgive("net::ERR")
    assert re.fullmatch(r"\d+-\d+", asked[-1].headers["last-event-id"])


def test_a_connection_that_has_gone_silent_is_given_up_and_made_anew(
    browser: Browser, redis_server: EmbeddedRedis, backstage: Backstage, tmp_path: Path
) -> None:
    """Nobody closes a connection whose other side is frozen, or cut off by a network."""
    console = Console(
        redis_server.url, backstage.keys.namespace, TRAINMASTER_GATEWAY_FOLDER=str(tmp_path)
    )
    with (
        running_gateway(console, tmp_path / "gateway.log") as gateway,
        # Of a gateway it needs the address alone.
        at_desk(browser, cast("GatewayServer", gateway)) as desk,
    ):
        desk.page.clock.install()
        page = desk.go("#/commands?id=silent-")
        state = page.locator(".connection")
        expect(state).to_have_text("Live")
        os.kill(gateway.pid, signal.SIGSTOP)
        try:
            page.clock.run_for(15_000)
            # So long the gateway itself may say nothing.
            expect(state).to_have_text("Live")
            page.clock.run_for(6_000)
            expect(state).to_have_text("Connection lost, trying again")
        finally:
            os.kill(gateway.pid, signal.SIGCONT)
        accept_all(backstage, "silent-1")
        page.clock.run_for(30_000)
        expect(state).to_have_text("Live")
        expect(page.get_by_role("link", name="silent-1")).to_be_visible()
        desk.forgive("net::ERR")


def test_events_that_can_not_come_are_said_to_wait(
    desk: Desk, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = desk.go("#/commands?id=stalled-")
    state = page.locator(".connection")
    expect(state).to_have_text("Live")

    async def lose(*_told: Any, **_more: Any) -> None:
        raise RedisConnectionError

    with monkeypatch.context() as away:
        away.setattr(event_stream, "entries_after", lose)
        # Whoever waits for an event in Redis has waited.
        accept_all(backstage, "stalled-1")
        expect(state).to_have_text("Redis is away, waiting")
    expect(state).to_have_text("Live")
    accept_all(backstage, "stalled-2")
    expect(page.get_by_role("link", name="stalled-2")).to_be_visible()


def test_a_tab_that_nobody_sees_takes_no_connection_and_catches_up_once_seen(
    desk: Desk, backstage: Backstage
) -> None:
    """Browsers open six connections to a host: a seventh tab would get nothing at all."""
    hide = """isHidden => {
      Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page = desk.go("#/commands?id=unseen-")
    state = page.locator(".connection")
    expect(state).to_have_text("Live")
    events = desk.gateway.app.state.gateway.events
    page.evaluate(hide, True)
    expect(state).to_have_text("Connecting")
    wait_until(lambda: events.watchers == 0, "no watcher")
    accept_all(backstage, "unseen-1")
    page.evaluate(hide, False)
    expect(state).to_have_text("Live")
    expect(page.get_by_role("link", name="unseen-1")).to_be_visible()


def test_a_token_is_asked_for_and_kept_in_the_tab_alone(
    browser: Browser, redis_server: EmbeddedRedis, backstage: Backstage, tmp_path: Path
) -> None:
    namespace = f"{backstage.keys.namespace}-tokens"
    own = type(backstage)(redis_server.url, namespace)
    with serving_gateway(
        redis_url=redis_server.url, namespace=namespace, gateway_folder=tmp_path
    ) as gateway:
        secret = own.token(Scope.READ, name="ada")
        sending = own.token(Scope.SUBMIT, name="sender")
        limited = own.token(Scope.READ, Scope.OPERATE, types=["train"], name="trainer")
        with at_desk(browser, gateway) as desk:
            desk.refused |= {"/v1/"}  # What the page itself asks meanwhile.
            page = desk.go()
            field = page.get_by_role("textbox", name="Token")
            expect(field).to_be_focused()
            assert desk.violations() == []
            page.keyboard.press("Escape")
            page.keyboard.press("Escape")
            expect(field).to_be_visible()
            field.fill("tm_nobody")
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_contain_text(
                "not known, has expired or was revoked"
            )
            field.fill(secret)
            page.keyboard.press("Enter")
            expect(page.locator(".identity")).to_have_text("ada")
            assert page.evaluate(
                "[document.cookie, localStorage.length, sessionStorage.length]"
            ) == ["", 0, 1]
            assert secret not in page.url
            # It may read, and is offered nothing else.
            page.get_by_role("link", name="Commands").click()
            expect(page.get_by_role("button", name="Pause")).to_be_visible()
            expect(page.get_by_role("button", name=re.compile("Cancel|Send again"))).to_have_count(
                0
            )
            page.reload()
            expect(page.locator(".identity")).to_have_text("ada")
            # Another tab of the same profile asks anew.
            other = desk.open_tab()
            other.goto(f"{gateway.url}/")
            expect(other.get_by_role("textbox", name="Token")).to_be_visible()
            other.close()
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_role("textbox", name="Token")).to_be_visible()
            page.get_by_role("textbox", name="Token").fill(sending)
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", level=1)).to_have_text("Nothing to see")
            page.get_by_role("button", name="Sign out").click()
            page.get_by_role("textbox", name="Token").fill(limited)
            page.keyboard.press("Enter")
            expect(page.get_by_label("Type")).to_have_value("train")
            page.keyboard.press("g")
            page.keyboard.press("n")
            expect(page.get_by_text("This token sees train only")).to_be_visible()


def test_a_token_that_is_revoked_under_an_open_tab_is_asked_for_anew(
    browser: Browser, redis_server: EmbeddedRedis, backstage: Backstage, tmp_path: Path
) -> None:
    namespace = f"{backstage.keys.namespace}-revoked"
    own = type(backstage)(redis_server.url, namespace)
    with (
        serving_gateway(
            redis_url=redis_server.url, namespace=namespace, gateway_folder=tmp_path
        ) as gateway,
        at_desk(browser, gateway) as desk,
    ):
        desk.refused |= {f"/v1/{each}" for each in ("me", "events", *NOW)}
        first = own.token(Scope.READ, name="ada")
        second = own.token(Scope.READ, name="grace")
        page = desk.go()
        page.get_by_role("textbox", name="Token").fill(first)
        page.keyboard.press("Enter")
        expect(page.locator(".identity")).to_have_text("ada")
        own.revoke("ada")
        asking = page.get_by_role("dialog", name="Sign in with a token")
        expect(asking.get_by_role("alert")).to_contain_text("has expired or was revoked")
        asking.get_by_role("textbox", name="Token").fill(second)
        page.keyboard.press("Enter")
        expect(page.locator(".identity")).to_have_text("grace")
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.get_by_text("Live")).to_be_visible()


def test_a_form_that_is_being_filled_in_outlives_its_token(
    browser: Browser, redis_server: EmbeddedRedis, backstage: Backstage, tmp_path: Path
) -> None:
    own = type(backstage)(redis_server.url, f"{backstage.keys.namespace}-form")
    with (
        serving_gateway(
            redis_url=redis_server.url, namespace=own.keys.namespace, gateway_folder=tmp_path
        ) as gateway,
        at_desk(browser, gateway) as desk,
    ):
        desk.refused |= {"/v1/"}  # What the page itself asks meanwhile.
        bury(own, "kept", code="not_found")
        desk.sign_in(own.token(Scope.READ, Scope.OPERATE, name="ada"))
        second = own.token(Scope.READ, Scope.OPERATE, name="grace")
        page = desk.go("#/dead-letters/kept")
        page.get_by_role("button", name="Send again…").click()
        form = page.get_by_role("dialog", name="Send again")
        form.get_by_role("textbox").fill('{"model_uuid": "typed by a person"}')
        # As the gateway says it of a token that has ended, which it looks up once a second.
        told = {"status": 401, "code": "unauthorized", "title": "Not authenticated", "detail": ""}
        page.route("**/replay", lambda route: route.fulfill(status=401, json=told))
        form.get_by_role("button", name="Send again").click()
        asking = page.get_by_role("dialog", name="Sign in with a token")
        asking.get_by_role("textbox", name="Token").fill(second)
        page.keyboard.press("Enter")
        expect(asking).to_have_count(0)
        expect(form.get_by_role("textbox")).to_have_value('{"model_uuid": "typed by a person"}')


def test_what_a_token_may_no_longer_do_is_offered_no_more(
    browser: Browser, redis_server: EmbeddedRedis, backstage: Backstage, tmp_path: Path
) -> None:
    own = type(backstage)(redis_server.url, f"{backstage.keys.namespace}-less")
    secret = f"tm_{'0' * 12}_{'a' * 43}"

    def allow(*scopes: Scope) -> None:
        async def adopt(redis: Redis, keys: Keys) -> None:
            await Tokens(redis, keys).adopt(secret, "ada", scopes)

        own.do(adopt)

    with (
        serving_gateway(
            redis_url=redis_server.url, namespace=own.keys.namespace, gateway_folder=tmp_path
        ) as gateway,
        at_desk(browser, gateway) as desk,
    ):
        desk.refused |= {"/v1/commands/fewer/"}
        accept_all(own, "fewer")
        allow(Scope.READ, Scope.OPERATE)
        desk.sign_in(secret)
        page = desk.go("#/commands/fewer")
        cancel = page.get_by_role("button", name="Cancel…")
        cancel.click()
        allow(Scope.READ)
        with gateway.client(secret) as http:
            wait_until(lambda: http.get("/v1/me").json()["scopes"] == ["read"], "fewer scopes")
        page.get_by_role("button", name="Cancel the command").click()
        expect(page.locator(".notice")).to_contain_text("needs a token with the scope operate")
        expect(cancel).to_have_count(0)
        expect(page.locator(".connection")).to_have_text("Live")
