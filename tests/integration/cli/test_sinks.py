"""`trainmaster sinks` as people type it."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from tests.console import finish
from tests.integration.integrations.published import publish, wait_until
from tests.integration.sinks.endpoints import SECRET, Endpoint
from worker.integrations.follower_store import follower_status

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.console import Console, Said
    from worker.queue.ledger.keys import Keys


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "integrations.toml"


@pytest.fixture
def sinks(console: Console, file: Path) -> Console:
    """The console script with an integrations file."""
    console.environment |= {"TRAINMASTER_INTEGRATIONS_FILE": str(file), "OPS_SECRET": SECRET}
    return console


def write(file: Path, url: str) -> None:
    file.write_text(
        f"""
        [sinks.ops]
        types = ["*.retrying"]
        [sinks.ops.webhook]
        url = "{url}?key=hidden"
        secrets = [{{ env = "OPS_SECRET" }}]
        allow_private = true
        """,
        "utf-8",
    )


async def in_thread(console: Console, *arguments: str) -> Said:
    """Runs the script while this loop serves its endpoint."""
    return await asyncio.to_thread(console.run, *arguments)


async def test_a_sink_is_run_listed_paused_resumed_and_recovered(
    sinks: Console, file: Path, redis: Redis, keys: Keys
) -> None:
    async with Endpoint().serving() as endpoint:
        write(file, endpoint.url)
        said = await in_thread(sinks, "sinks", "list", "--json")
        assert [(each["name"], each["state"]) for each in said.lines] == [("ops", "not running")]
        running = sinks.start("sinks", "run")
        try:
            async with asyncio.timeout(120):
                while not (status := await follower_status(redis, keys, "sinks.ops")):
                    await asyncio.sleep(0.05)
            assert status.leader
            await publish(redis, keys, "a", range(3))
            await wait_until(lambda: len(endpoint.events()) == 3)
            assert (await in_thread(sinks, "sinks", "pause", "ops", "--reason", "night")).code == 0
            (told,) = (await in_thread(sinks, "sinks", "list", "--json")).lines
            assert (told["state"], told["reason"]) == ("paused", "night")
            assert "hidden" not in str(told)
            said = await in_thread(sinks, "sinks", "resume", "ops")
            assert said.out == "ops: resumed\n"
            said = await in_thread(sinks, "sinks", "recover", "ops", "--since", "1h")
            assert said.out == "ops: 0 events sent again\n"
            said = await in_thread(sinks, "sinks", "recover", "ops", "--since", "1h", "--all")
            assert "is sent again" in said.out
            await wait_until(lambda: len(endpoint.received) == 6)
            shown = (await in_thread(sinks, "sinks", "list")).out
            assert "ops" in shown
            assert "running" in shown
        finally:
            ended = await asyncio.to_thread(finish, running, signal.SIGTERM)
    assert ended.code == 0
    assert "hidden" not in ended.out + ended.err


async def test_a_test_shows_what_the_endpoint_answers(sinks: Console, file: Path) -> None:
    async with Endpoint().serving() as endpoint:
        write(file, endpoint.url)
        said = await in_thread(sinks, "sinks", "test", "ops")
        assert said.code == 0
        assert "answered 200" in said.out
        assert "told" in said.out
        endpoint.always = 403
        said = await in_thread(sinks, "sinks", "test", "ops", "--json")
    assert said.code == 1
    assert said.lines[0]["delivered"] is False
    assert said.lines[0]["told"] == "answered 403"
    (event,) = endpoint.events()
    assert event["type"] == "trainmaster.test"


def test_wrong_names_and_files_are_told_in_one_line(sinks: Console, file: Path) -> None:
    said = sinks.run("sinks", "list")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "TRAINMASTER_INTEGRATIONS_FILE" in said.err
    write(file, "http://127.0.0.1:9/")
    said = sinks.run("sinks", "pause", "opps")
    assert said.code == 2
    assert "Did you mean 'ops'?" in said.err or "ops" in said.err
    write(file, "http://0x7f.1/")
    said = sinks.run("sinks", "run")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "[sinks.ops.webhook] url" in said.err
    said = sinks.run("sinks", "list", without=("TRAINMASTER_INTEGRATIONS_FILE",))
    assert said.code == 2
