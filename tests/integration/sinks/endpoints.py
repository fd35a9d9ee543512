"""Endpoints of webhooks: real servers that answer as they are told, and note what came."""

from __future__ import annotations

import asyncio
import base64
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from worker.integrations.secrets import Surroundings
from worker.integrations.sink_config import SinkConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

SECRET: Final = "whsec_" + base64.b64encode(b"k" * 32).decode()
OLD_SECRET: Final = "whsec_" + base64.b64encode(b"o" * 32).decode()


@dataclass
class Endpoint:
    """What came, and what is answered.

    Attributes:
        answers: statuses for the next requests; 200 once they are used up.
        received: headers and body of each request that was answered 200 to 299.
        asked: how many requests came at all.
    """

    answers: list[int] = field(default_factory=list)
    always: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    asked: int = 0
    port: int = 0
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def events(self) -> list[dict[str, Any]]:
        """Returns the events that were taken, each once, in the order of their first coming."""
        seen = {headers["webhook-id"]: body for headers, body in reversed(self.received)}
        first = dict.fromkeys(headers["webhook-id"] for headers, _ in self.received)
        return [orjson.loads(seen[message_id]) for message_id in first]

    def times(self, message_id: str) -> int:
        """Returns how often a message was taken."""
        return sum(headers["webhook-id"] == message_id for headers, _ in self.received)

    def numbers(self, subject: str) -> list[int]:
        return [each["data"]["number"] for each in self.events() if each["subject"] == subject]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.answer is not None:
            return await self.answer(request)
        body = await request.read()
        status = self.answers.pop(0) if self.answers else self.always
        if 200 <= status < 300:
            told = {name.lower(): value for name, value in request.headers.items()}
            self.received.append((told, body))
        return web.Response(status=status, headers=self.headers, text="told")

    @asynccontextmanager
    async def serving(self, **site: Any) -> AsyncIterator[Endpoint]:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        served = web.TCPSite(runner, "127.0.0.1", self.port, **site)
        await served.start()
        assert served._server is not None
        self.port = served._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        try:
            yield self
        finally:
            await runner.cleanup()


def sink_config(name: str, folder: Path, **told: Any) -> SinkConfig:
    """Returns a sink as the file would have it; secrets stand in `SECRET` and `OLD_SECRET`."""
    environ = {"SECRET": SECRET, "OLD_SECRET": OLD_SECRET, **os.environ}
    around = Surroundings(environ, folder)
    return SinkConfig.model_validate({"name": name, **told}, context=around)


def webhook(url: str, **told: Any) -> dict[str, Any]:
    """Returns the table of a webhook on this machine."""
    return {"url": url, "secrets": [{"env": "SECRET"}], "allow_private": True, **told}


async def never(_request: web.Request) -> web.StreamResponse:
    """Answers nothing."""
    await asyncio.Event().wait()
    raise AssertionError
