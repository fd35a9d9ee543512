"""A real browser at a real gateway: what tests do there, and what must never happen."""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson
import pytest
from playwright.sync_api import expect, sync_playwright
from redis.exceptions import ResponseError

from tests.integration.ledger_acts import LIST, open_group
from worker.gateway.access.tokens import Tokens
from worker.queue.intake.validation import Entry, validate
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import COMMAND_FIELD, GROUP, Keys
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.models import NewCommand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator

    from playwright.sync_api import (
        Browser,
        BrowserContext,
        ConsoleMessage,
        Error,
        Page,
        Request,
        Response,
        ViewportSize,
    )
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from worker.gateway.access.tokens import Scope

T = TypeVar("T")

# As Debian, Ubuntu, macOS' brew and Google name it.
NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
AXE: Final = Path(__file__).with_name("axe.min.js")
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 860}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
MILLISECONDS: Final = 20_000
# What a browser writes of each answer of 400 or more, whatever the page makes of it.
_STATUS: Final = "Failed to load resource"


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Runs a browser of this machine; skips the test where it has none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser on PATH: one of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        # Tests may run as root, and in containers whose /dev/shm is small.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Desk:
    """A person at a gateway's page.

    Attributes:
        gateway: whose page it is.
        page: the tab.
        refused: what the gateway may answer with a status of 400 or more in this test, by parts of
            the addresses; all else must go well.
    """

    def __init__(self, gateway: GatewayServer, context: BrowserContext) -> None:
        self.gateway = gateway
        self.context = context
        context.set_default_timeout(MILLISECONDS)
        expect.set_options(timeout=MILLISECONDS)
        self.refused: set[str] = set()
        self._wrong: list[str] = []
        self.page = self.open_tab()

    def open_tab(self) -> Page:
        """Returns a new tab, in which nothing may go wrong."""
        page = self.context.new_page()
        page.on("console", self._on_console)
        page.on("pageerror", self._on_error)
        page.on("response", self._on_response)
        return page

    def go(self, address: str = "#/now") -> Page:
        """Goes to an address of the page; returns the tab once its head stands there."""
        self.page.goto(f"{self.gateway.url}/{address}")
        expect(self.page.locator("main h1")).to_be_visible()
        return self.page

    def requests(self, part: str, method: str = "GET") -> list[Request]:
        """Returns what this tab asks from now on of addresses with this part, as it asks it."""
        asked: list[Request] = []

        def on_request(request: Request) -> None:
            if part in request.url and request.method == method:
                asked.append(request)

        self.page.on("request", on_request)
        return asked

    def sign_in(self, secret: str) -> None:
        """Puts a token where the page keeps it, as if it had been put in."""
        self.context.add_init_script(f"sessionStorage.setItem('trainmaster.token', '{secret}')")

    def forgive(self, part: str) -> None:
        """Forgets what went wrong and has this in it."""
        self._wrong = [each for each in self._wrong if part not in each]

    def check(self) -> None:
        """Fails if something went wrong."""
        assert not self._wrong, self._wrong

    def violations(self) -> list[str]:
        """Returns what axe-core finds serious or worse in what is shown."""
        if not self.page.evaluate("'axe' in window"):
            # Not as a <script>: that the page's policy forbids.
            self.page.evaluate(AXE.read_text("utf-8"))
        found = self.page.evaluate("axe.run({resultTypes: ['violations']})")
        return [
            f"{each['id']}: {node['html']} – {node['failureSummary']}"
            for each in found["violations"]
            if each["impact"] in {"serious", "critical"}
            for node in each["nodes"]
        ]

    def _on_console(self, said: ConsoleMessage) -> None:
        # Wherever the page would break its policy the browser tells the console.
        if said.type == "error" and not said.text.startswith(_STATUS):
            self._wrong.append(said.text)

    def _on_error(self, error: Error) -> None:
        self._wrong.append(f"{error.name}: {error.message}")

    def _on_response(self, answer: Response) -> None:
        if answer.status >= 400 and not any(part in answer.url for part in self.refused):
            self._wrong.append(f"{answer.status} {answer.url}")


@contextmanager
def at_desk(browser: Browser, gateway: GatewayServer, **options: Any) -> Iterator[Desk]:
    """Opens a fresh profile; fails at its end if something went wrong in it.

    Args:
        browser: runs it.
        gateway: whose page it is.
        options: of Playwright's context.
    """
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    try:
        desk = Desk(gateway, context)
        yield desk
        desk.check()
    finally:
        context.close()


class Backstage:
    """What a test does behind the page, in a loop of its own: Playwright's is not for others."""

    def __init__(self, redis_url: str, namespace: str) -> None:
        self.redis_url = redis_url
        self.keys = Keys(namespace)

    def do(self, act: Callable[[Redis, Keys], Awaitable[T]]) -> T:
        """Runs an act to its end and returns what it returns."""

        async def run() -> T:
            redis = connect(self.redis_url)
            try:
                return await act(redis, self.keys)
            finally:
                await redis.aclose()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(run())).result()

    def token(self, *scopes: Scope, types: Collection[str] = (), name: str = "test") -> str:
        """Makes a token and returns its secret."""

        async def make(redis: Redis, keys: Keys) -> str:
            _, secret = await Tokens(redis, keys).create(name, scopes, types, ())
            return secret

        return self.do(make)

    def revoke(self, name: str) -> None:
        """Revokes the token of that name."""

        async def revoke(redis: Redis, keys: Keys) -> None:
            assert await Tokens(redis, keys).revoke(name) is not None

        self.do(revoke)


def accept_all(backstage: Backstage, *ids: str, **attributes: Any) -> None:
    """Has commands accepted that no worker claims."""
    texts = [orjson.dumps({**LIST, **attributes, "id": each}) for each in ids]

    async def act(redis: Redis, keys: Keys) -> None:
        ledger = Ledger(
            redis, keys, lease_seconds=30, retention_seconds=3600, reply_retention_seconds=3600
        )
        with suppress(ResponseError):
            await open_group(redis, keys)
        async with redis.pipeline() as pipeline:
            for text in texts:
                pipeline.xadd(keys.commands, {COMMAND_FIELD: text})
            entries = await pipeline.execute()
        await redis.xreadgroup(GROUP, "tester", {keys.commands: ">"}, count=len(texts))
        found = [
            validate(Entry(entry, {COMMAND_FIELD: text}), keys)
            for entry, text in zip(entries, texts, strict=True)
        ]
        await ledger.accept([each for each in found if isinstance(each, NewCommand)])

    backstage.do(act)
