"""Services of a gateway: each goes on, whatever one of them does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest

from worker.gateway import services
from worker.gateway.bootstrap import create_services
from worker.gateway.services import Following, Services
from worker.gateway_settings import GatewaySettings
from worker.integrations.file import Integrations
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from pathlib import Path

    from worker.gateway.read_model.model import ReadModel


class Steady:
    """Runs until it is told to stop."""

    def __init__(self) -> None:
        self.has_ended = False

    async def run(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self.has_ended = True


class Brief:
    """Ends at once, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = 0
        self._error = error

    async def run(self, stop: asyncio.Event) -> None:  # noqa: ARG002 - it does not wait for it
        self.begun += 1
        # So that without a pause the test fails, and does not hang.
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error


class Stubborn:
    """Ends by a cancellation only, and not by the first."""

    async def run(self, stop: asyncio.Event) -> None:  # noqa: ARG002 - it does not listen
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()


async def test_windows_are_closed_though_the_file_has_no_sources_any_more(tmp_path: Path) -> None:
    keys = Keys("services")
    redis = connect("redis://127.0.0.1:1", keys.prefix)
    told: dict[str, Any] = {"redis_url": "redis://127.0.0.1:1", "namespace": "services"}
    empty = tmp_path / "integrations.toml"
    empty.touch()
    for file, made in ((empty, {"windows"}), (None, set[str]())):
        settings = GatewaySettings(**told, integrations_file=file)
        assert create_services(settings, Integrations({}, {}), redis, keys).keys() == made


async def test_one_that_fails_or_ends_begins_anew_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing, brief, steady = Brief(RuntimeError("broken")), Brief(), Steady()
    running = Services({"failing": failing, "brief": brief, "steady": steady})
    running.start()
    for _ in range(50):
        await asyncio.sleep(0)
    # Without the pause each would have begun at every turn of the loop.
    assert (failing.begun, brief.begun) == (1, 1)
    await running.stop()
    assert steady.has_ended

    monkeypatch.setattr(services, "RESTART_SECONDS", 0.001)
    running = Services({"failing": failing})
    running.start()
    async with asyncio.timeout(60):
        while failing.begun < 3:
            await asyncio.sleep(0.001)
    await running.stop()


async def test_one_that_does_not_stop_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "STOP_SECONDS", 0.01)
    running = Services({"stubborn": Stubborn()})
    running.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await running.stop()


class Model:
    """A read model that follows until it fails, or for ever."""

    def __init__(self, error: Exception | None = None) -> None:
        self.has_ended = False
        self._error = error

    async def follow(self) -> None:
        try:
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        finally:
            self.has_ended = True


async def test_the_lists_are_followed_until_it_is_told_to_stop_and_a_defect_is_told() -> None:
    stop, model = asyncio.Event(), Model()
    running = asyncio.create_task(Following(cast("ReadModel", model)).run(stop))
    await asyncio.sleep(0)
    assert not running.done()
    stop.set()
    await asyncio.wait_for(running, 30)
    assert model.has_ended
    failing = Following(cast("ReadModel", Model(KeyError("defect"))))
    with pytest.raises(KeyError, match="defect"):
        await failing.run(asyncio.Event())


async def test_what_never_began_has_ended() -> None:
    await asyncio.wait_for(Services({"steady": Steady()}).stop(), 30)
