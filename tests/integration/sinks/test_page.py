"""The page about sinks: what it shows in Python verifies what is sent."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from tests.integration.integrations.published import event_text
from tests.integration.sinks.endpoints import SECRET, sink_config, webhook
from trainmaster_client.events import event_of
from worker.sinks.destinations import DeliveryError
from worker.sinks.webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE = Path(__file__).parents[3] / "docs" / "sinks.md"


@pytest.fixture
async def url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """The receiver of the page, as it stands there."""
    monkeypatch.setenv("OPS_SECRET", SECRET)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, str(PAGE), "exec", dont_inherit=True), names)  # noqa: S102 - it is ours
    server = uvicorn.Server(uvicorn.Config(names["app"], port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(60):
        while not server.started:
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/hooks/trainmaster"
    server.should_exit = True
    await task


async def test_the_receiver_of_the_page_takes_what_is_sent_and_nothing_with_another_secret(
    url: str, tmp_path: Path
) -> None:
    text = event_text("a", 1)
    event = event_of(b"1-0", {b"event": text})
    assert event is not None
    for secret, status in (("SECRET", 204), ("OLD_SECRET", 401)):
        config = sink_config("ops", tmp_path, webhook=webhook(url, secrets=[{"env": secret}]))
        assert config.webhook is not None
        destination = Webhook("ops", config.webhook)
        if status == 204:
            assert (await destination.send(event, text)).told == "answered 204"
        else:
            with pytest.raises(DeliveryError, match="answered 401"):
                await destination.send(event, text)
        await destination.close()
