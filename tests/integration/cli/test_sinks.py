"""`trainmaster sinks` as people type it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.console import finish
from tests.integration.integrations.published import publish, wait_until
from tests.integration.sinks.endpoints import SECRET, Endpoint
from worker.integrations.follower_store import follower_status
from worker.integrations.keys import follower_key
from worker.sinks.keys import unsent_key, waiting_key
from worker.sinks.operations import pause

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
            assert said.out == "ops: 0 events will be sent again\n"
            said = await in_thread(sinks, "sinks", "recover", "ops", "--since", "1h", "--all")
            assert "will be sent again" in said.out
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


def findings_of(said: Said) -> dict[str, tuple[str, str]]:
    return {each["check"]: (each["level"], each["message"]) for each in said.lines}


async def test_doctor_tells_of_sinks_that_do_not_run_are_paused_missed_events_or_are_gone(
    sinks: Console, file: Path, redis: Redis, keys: Keys
) -> None:
    assert not any(
        name.startswith("sinks")
        for name in findings_of(
            sinks.run("doctor", "--json", without=("TRAINMASTER_INTEGRATIONS_FILE",))
        )
    )
    write(file, "http://127.0.0.1:9/")
    now_ms = int(time.time() * 1000)
    await redis.hset(
        follower_key(keys, "sinks.ops"),
        mapping={"missed": "7", "missed_at": str(now_ms - 8 * 86_400_000)},
    )
    found = findings_of(await in_thread(sinks, "doctor", "--json"))
    assert found["sinks.ops"][0] == "warn"
    assert "nobody runs it" in found["sinks.ops"][1]
    assert "sinks.ops.missed" not in found, "it is no news after a week"
    await pause(redis, keys, "ops", "night")
    await redis.hset(follower_key(keys, "sinks.ops"), "missed_at", str(now_ms))
    await redis.xadd(unsent_key(keys, "ops"), {"event": "{}", "entry": "1-0", "error": "no"})
    found = findings_of(await in_thread(sinks, "doctor", "--json"))
    assert "is paused: night" in found["sinks.ops"][1]
    assert found["sinks.ops.missed"] == ("warn", "7 events deleted before it looked at them")
    assert found["sinks.ops.unsent"][0] == "warn"
    for name, leader in (("former", ""), ("elsewhere", "another process")):
        await redis.hset(keys.followers, f"sinks.{name}", f"{now_ms} {now_ms}")
        await redis.hset(
            follower_key(keys, f"sinks.{name}"),
            mapping={"leader": leader, "until": str(now_ms + 600_000)},
        )
        await redis.hset(waiting_key(keys, name), "1-0", "{}")
    found = findings_of(await in_thread(sinks, "doctor", "--json"))
    assert found["sinks.former"][0] == "warn"
    assert "1 event to be tried again" in found["sinks.former"][1]
    assert "sinks.elsewhere" not in found, "another file may have it"
    await asyncio.to_thread(file.write_text, "[sinks.ops", "utf-8")
    found = findings_of(await in_thread(sinks, "doctor", "--json"))
    assert found["sinks"][0] == "warn"


async def test_a_process_of_a_sink_that_dies_is_replaced_and_all_end_together(
    sinks: Console, file: Path, redis: Redis, keys: Keys
) -> None:
    async with Endpoint().serving() as first, Endpoint().serving() as second:
        tables = []
        for name, endpoint in (("one", first), ("two", second)):
            write(file, endpoint.url)
            tables.append(
                (await asyncio.to_thread(file.read_text)).replace("sinks.ops", f"sinks.{name}")
            )
        await asyncio.to_thread(file.write_text, "".join(tables))
        running = sinks.start("sinks", "run")
        try:
            leaders: dict[str, int] = {}
            async with asyncio.timeout(120):
                while len(leaders) < 2:
                    for name in ("one", "two"):
                        status = await follower_status(redis, keys, f"sinks.{name}")
                        if status and status.leader:
                            leaders[name] = int(status.leader.rpartition("-")[2])
                    await asyncio.sleep(0.05)
            assert len({running.pid, *leaders.values()}) == 3
            os.kill(leaders["one"], signal.SIGKILL)
            await publish(redis, keys, "a", range(3))
            await wait_until(lambda: len(second.events()) == 3)
            await wait_until(lambda: len(first.events()) == 3)
        finally:
            ended = await asyncio.to_thread(finish, running, signal.SIGTERM)
    assert ended.code == 0
    with pytest.raises(ProcessLookupError):
        os.kill(leaders["two"], 0)
