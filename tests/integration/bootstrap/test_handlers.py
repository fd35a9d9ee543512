"""What handlers share has the times and limits of the settings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.stub_api import Answer, reply
from worker.bootstrap.encord import create_transport
from worker.bootstrap.handlers import create_dependencies, create_downloads
from worker.encord.context import Encord, PollSchedule
from worker.environment import load_settings
from worker.errors import RetryableError
from worker.http.timeouts import Timeouts
from worker.thread_pools import ThreadPools

if TYPE_CHECKING:
    from tests.stub_api import StubApi
    from worker.encord.api.throttle import ThrottledTransport
    from worker.queue.ledger.ledger import Ledger

PATIENCE_SECONDS = 60
NOBODY_HOME = Answer(b"", "hang")
TRICKLING = Answer(b"HTTP/1.1 200 Stub\r\ncontent-length: 1000000\r\n\r\n", "trickle")


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("TRAINMASTER_DOWNLOAD_IDLE_TIMEOUT_SECONDS", NOBODY_HOME),
        ("TRAINMASTER_DOWNLOAD_TIMEOUT_SECONDS", TRICKLING),
    ],
)
async def test_a_download_ends_by_either_of_its_times(
    stub: StubApi, monkeypatch: pytest.MonkeyPatch, setting: str, answer: Answer
) -> None:
    for each in ("DOWNLOAD_IDLE_TIMEOUT", "DOWNLOAD_TIMEOUT"):
        monkeypatch.setenv(f"TRAINMASTER_{each}_SECONDS", "3600")
    monkeypatch.setenv(setting, "0.3")
    stub.default = answer
    downloads = create_downloads(load_settings(), ThreadPools())
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(RetryableError):
            await downloads.read(f"{stub.url}/a.jpg", 1_000_000, "field")
    await downloads.aclose()


async def test_a_worker_of_a_single_slot_can_read_what_lies_behind_a_url(
    stub: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server gets half of the slots at most, and one at least."""
    monkeypatch.setenv("TRAINMASTER_CONCURRENCY", "1")
    stub.default = reply(200, b"a picture")
    downloads = create_downloads(load_settings(), ThreadPools())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await downloads.read(f"{stub.url}/a.jpg", 1_000_000, "field") == b"a picture"
    await downloads.aclose()


async def test_each_time_of_a_request_and_of_a_poll_is_that_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger
) -> None:
    seconds = {
        name: float(number)
        for number, name in enumerate(
            (
                *("connect_timeout", "read_timeout", "write_timeout", "pool_timeout"),
                *("poll_min", "poll_max", "long_poll", "doubt"),
            ),
            start=11,
        )
    }
    for name, value in seconds.items():
        monkeypatch.setenv(f"TRAINMASTER_{name.upper()}_SECONDS", str(value))
    monkeypatch.setenv("TRAINMASTER_POLL_SHARE", "0.25")
    settings = load_settings()
    async with create_transport(settings) as transport:
        assert transport.timeouts == Timeouts(connect=11, read=12, write=13, pool=14)
        gate: ThrottledTransport = transport  # type: ignore[assignment] # nothing is sent
        downloads = create_downloads(settings, ThreadPools())
        dependencies = create_dependencies(settings, ledger, gate, downloads, ThreadPools())
    encord = dependencies.service(Encord)
    assert encord.polls == PollSchedule(15, 16, 0.25)
    with encord.long_polls.slot(100) as open_seconds:
        assert open_seconds == 17
    assert encord.doubt_seconds == 18
