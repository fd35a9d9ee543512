"""A worker's own questions to the API: whether it works, and takes the key."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.stub_api import Answer, reply
from worker.bootstrap.components import create_components
from worker.bootstrap.encord import create_breaker, create_transport
from worker.bootstrap.monitoring import create_monitor
from worker.encord.api.client import MlModelsApi
from worker.environment import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.stub_api import StubApi
    from worker.queue.pool.supervisor import Components

HOUR = 3600.0
PATIENCE_SECONDS = 60
MODELS = reply(200, b'{"results": [], "nextPageToken": null}')


@pytest.fixture
async def parts() -> AsyncIterator[Components]:
    settings = load_settings()
    made = create_components(settings, lambda _: None, create_monitor(settings))
    yield made
    await made.credentials.aclose()
    await made.breaker.aclose()
    await made.close()


@pytest.mark.parametrize(
    ("answer", "works"),
    [
        (MODELS, True),
        (reply(401), True),
        (reply(403), True),
        (reply(404), True),
        (reply(429), True),
        (reply(500), False),
        (reply(503), False),
        (reply(200, b"<html>"), False),
        (Answer(b"", "reset"), False),
    ],
    ids=["200", "401", "403", "404", "429", "500", "503", "no API", "reset"],
)
async def test_an_api_works_that_answers_a_probe_though_it_refuses_it(
    stub: StubApi, answer: Answer, *, works: bool
) -> None:
    """Else a wrong key would pass for an outage, and nobody would ask whether it is right again."""
    stub.default = answer
    settings = load_settings()
    async with create_transport(settings) as transport:
        breaker = create_breaker(settings, MlModelsApi(transport))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await breaker.examine()
        assert breaker.is_open is not works
        await breaker.aclose()


@pytest.mark.parametrize(
    "answer",
    [MODELS, reply(403), reply(404), reply(429), reply(500), Answer(b"", "reset")],
    ids=["200", "403", "404", "429", "500", "reset"],
)
async def test_nothing_but_a_401_holds_a_worker_at_its_start(
    stub: StubApi, parts: Components, answer: Answer
) -> None:
    """A key that may not list models may do much else, and an API that is away says nothing."""
    stub.default = answer
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await parts.credentials.enter(lambda: True)
    stub.default = reply(401)
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert not await parts.credentials.enter(lambda: True)


async def test_a_worker_whose_signatures_look_old_signs_by_the_clock_of_the_api(
    stub: StubApi, parts: Components
) -> None:
    there = formatdate(time.time() - HOUR, usegmt=True)
    stub.answers.append(reply(401, b"", date=there))
    stub.default = MODELS
    async with asyncio.timeout(PATIENCE_SECONDS):
        await parts.credentials.enter(lambda: len(stub.recorded) > 1)
        while len(stub.recorded) < 2:
            await asyncio.sleep(0.01)
    signed_at = [
        int(created[1])
        for each in stub.recorded
        if (created := re.search(r"created=(\d+)", each.headers["signature-input"]))
    ]
    assert signed_at[0] == pytest.approx(time.time(), abs=HOUR / 4)
    assert signed_at[1] == pytest.approx(time.time() - HOUR, abs=HOUR / 4)


async def test_a_key_that_comes_by_a_pipe_is_read_once(
    stub: StubApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Who opens it again waits for its writer, and a worker would do nothing else for ever."""
    pipe = tmp_path / "key"
    os.mkfifo(pipe)
    writing = threading.Thread(target=partial(pipe.write_text, os.environ["ENCORD_SSH_KEY"]))
    monkeypatch.delenv("ENCORD_SSH_KEY")
    monkeypatch.setenv("ENCORD_SSH_KEY_FILE", str(pipe))
    stub.default = MODELS
    writing.start()
    settings = load_settings()
    made = create_components(settings, lambda _: None, create_monitor(settings))
    writing.join()
    assert await made.credentials.enter(lambda: False)
    assert "signature" in stub.recorded[0].headers
    await made.close()
