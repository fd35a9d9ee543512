"""The read model follows the stream, whatever becomes of its file, of Redis and of its writer."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from schemas.events import item_source
from tests.console import TIMEOUT_SECONDS
from tests.stream_events import entry, event_text
from worker.gateway.read_model import database, readers
from worker.gateway.read_model import model as model_module
from worker.gateway.read_model.database import WriterLock, current_file, model_folder
from worker.gateway.read_model.event_source import EventSource
from worker.gateway.read_model.model import Lag, ReadModel
from worker.gateway.read_model.queries import CommandFilter
from worker.gateway.read_model.readers import ModelUnavailableError
from worker.gateway.read_model.writing import Progress
from worker.gateway_settings import GatewaySettings
from worker.queue.ledger.streams import newest_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

RETENTION_SECONDS = 7 * 86_400


@asynccontextmanager
async def following(
    redis: Redis, keys: Keys, folder: Path, retention_seconds: float = 10**9
) -> AsyncIterator[ReadModel]:
    """A model that is kept up until the block ends."""
    # Looks at the stream again with every batch.
    model = ReadModel(redis, keys, folder, retention_seconds=retention_seconds, check_seconds=0)
    task = asyncio.create_task(model.follow())
    try:
        yield model
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        model.close()


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not await holds():
            await asyncio.sleep(0.05)
    assert what


async def states(model: ReadModel) -> dict[str, str]:
    """The state of each command, in the order of the list; empty without a model."""
    try:
        page = await model.query(CommandFilter(), limit=1_000)
    except ModelUnavailableError:
        return {}
    return {row.id: row.state for row in page.rows}


async def tells(model: ReadModel, **expected: str) -> None:
    async def holds() -> bool:
        return await states(model) == expected

    await until(holds, f"{expected}")


async def add(redis: Redis, keys: Keys, command_id: str, event_type: str, **told: Any) -> str:
    text = event_text(command_id, event_type, **told)
    added = cast("bytes", await redis.xadd(keys.events, {"event": text}))
    return added.decode()


async def test_the_list_follows_the_stream(redis: Redis, keys: Keys, tmp_path: Path) -> None:
    await add(redis, keys, "a", "train.accepted")
    async with following(redis, keys, tmp_path) as model:
        await tells(model, a="accepted")
        await add(redis, keys, "b", "attach.accepted")
        await redis.xadd(keys.events, {"something": "else"})
        await redis.xadd(keys.events, {"event": "no JSON"})
        await add(redis, keys, "night/1", "predict.failed", source=item_source("night"))
        last = await add(redis, keys, "a", "train.succeeded")
        await tells(model, b="accepted", a="succeeded")
        (row,) = (await model.query(CommandFilter(id_prefix="a"))).rows
        assert row.entry_id == last


async def test_the_lag_is_what_was_not_taken_in(redis: Redis, keys: Keys, tmp_path: Path) -> None:
    model = ReadModel(redis, keys, tmp_path, retention_seconds=RETENTION_SECONDS)
    assert (await model.lag()).events == 0
    for number in range(5):
        await add(redis, keys, f"c{number}", "train.accepted")
    assert (await model.lag()).events == 5
    with pytest.raises(ModelUnavailableError):
        await model.query(CommandFilter())
    async with following(redis, keys, tmp_path):
        await until(lambda: _caught_up(model), "the model to catch up")
        assert len(await states(model)) == 5
    await redis.xadd(keys.events, {"event": event_text("late", "train.accepted")})
    lag = await model.lag()
    assert lag.events == 1
    assert lag.seconds >= 0
    model.close()


async def _caught_up(model: ReadModel) -> bool:
    return (await model.lag()).events == 0


async def test_a_model_goes_on_where_it_ended(redis: Redis, keys: Keys, tmp_path: Path) -> None:
    await add(redis, keys, "a", "train.accepted")
    async with following(redis, keys, tmp_path) as model:
        await tells(model, a="accepted")
    file = current_file(tmp_path)
    await add(redis, keys, "b", "train.accepted")
    # What it has taken in may be gone from the stream, as long as nothing behind it is.
    await redis.xtrim(keys.events, maxlen=1, approximate=False)
    async with following(redis, keys, tmp_path) as model:
        await tells(model, b="accepted", a="accepted")
        await add(redis, keys, "a", "train.failed")
        await tells(model, b="accepted", a="failed")
    assert current_file(tmp_path) == file


async def test_a_model_that_missed_events_is_made_anew(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    await add(redis, keys, "a", "train.accepted")
    async with following(redis, keys, tmp_path) as model:
        await tells(model, a="accepted")
    await add(redis, keys, "a", "train.failed")
    await add(redis, keys, "b", "train.accepted")
    await redis.xtrim(keys.events, maxlen=1, approximate=False)
    async with following(redis, keys, tmp_path) as model:
        # Nobody can tell any more how `a` ended: it must not stand there as accepted for ever.
        await tells(model, b="accepted")


async def _emptied(redis: Redis, keys: Keys) -> None:
    await redis.delete(keys.events)


async def _emptied_and_begun(redis: Redis, keys: Keys) -> None:
    await redis.delete(keys.events)
    await redis.xadd(keys.events, {"event": event_text("b", "train.accepted")}, id="1-1")


async def _rewritten(redis: Redis, keys: Keys) -> None:
    """As after a failover to a replica that had not got the last event."""
    newest = await newest_entry(redis, keys.events)
    assert newest is not None
    await redis.xdel(keys.events, newest[0])
    await add(redis, keys, "b", "train.accepted")


async def _with_less_before_its_end(redis: Redis, keys: Keys) -> None:
    """As where somebody has copied the end of a stream to another Redis."""
    newest = await newest_entry(redis, keys.events)
    assert newest is not None
    await redis.delete(keys.events)
    await redis.xadd(keys.events, {"event": event_text("b", "train.accepted")}, id=newest[0])


async def _of_another_epoch(redis: Redis, keys: Keys) -> None:
    await redis.set(keys.epoch, "another")
    await redis.delete(keys.events)
    for command_id in ("x", "y", "z"):
        await add(redis, keys, command_id, "train.accepted")


@pytest.mark.parametrize(
    ("act", "left"),
    [
        (_emptied, []),
        (_emptied_and_begun, ["b"]),
        (_rewritten, ["b", "a"]),
        (_with_less_before_its_end, ["b"]),
        (_of_another_epoch, ["z", "y", "x"]),
    ],
)
@pytest.mark.parametrize("runs", [True, False], ids=["while it follows", "while nobody follows"])
async def test_a_model_of_a_stream_that_is_gone_is_made_anew(
    redis: Redis,
    keys: Keys,
    tmp_path: Path,
    act: Callable[[Redis, Keys], Awaitable[None]],
    left: list[str],
    *,
    runs: bool,
) -> None:
    await redis.set(keys.epoch, "the first")
    await add(redis, keys, "a", "train.accepted")
    await add(redis, keys, "gone", "train.accepted")
    async with following(redis, keys, tmp_path) as model:
        await tells(model, gone="accepted", a="accepted")
        if runs:
            await act(redis, keys)
            await tells(model, **dict.fromkeys(left, "accepted"))
    if not runs:
        await act(redis, keys)
        async with following(redis, keys, tmp_path) as model:
            await tells(model, **dict.fromkeys(left, "accepted"))
            assert list(await states(model)) == left


async def test_a_stream_that_was_given_fewer_than_were_read_is_another_one(
    redis: Redis, keys: Keys
) -> None:
    await add(redis, keys, "later", "train.accepted")
    source = EventSource(redis, keys)
    assert await source.goes_on_from(Progress(epoch="", cursor="1-1", added=1))
    assert not await source.goes_on_from(Progress(epoch="", cursor="1-1", added=2))


def _delete_file(folder: Path) -> None:
    file = current_file(folder)
    assert file is not None
    file.unlink()


def _delete_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def _damage(folder: Path) -> None:
    """Writes over the middle of every page but the first, and over what the log holds."""
    file = current_file(folder)
    assert file is not None
    for each in (file, Path(f"{file}-wal")):
        if not each.exists():
            continue
        size = each.stat().st_size
        with each.open("r+b") as opened:
            for page in range(4096 if each == file else 0, size, 4096):
                opened.seek(page)
                opened.write(os.urandom(min(4096, size - page)))


def _cut(folder: Path) -> None:
    file = current_file(folder)
    assert file is not None
    file.write_bytes(b"no database")


def _of_another_version(folder: Path) -> None:
    file = current_file(folder)
    assert file is not None
    connection = database.open_writer(file)
    connection.execute("PRAGMA user_version = 99")
    connection.execute("DROP TABLE commands")
    connection.close()


@pytest.mark.parametrize("act", [_delete_file, _delete_folder, _damage, _cut, _of_another_version])
@pytest.mark.parametrize("runs", [True, False], ids=["while it follows", "while nobody follows"])
async def test_a_file_that_is_lost_or_damaged_is_made_anew(
    redis: Redis, keys: Keys, tmp_path: Path, act: Callable[[Path], None], *, runs: bool
) -> None:
    folder = tmp_path / "model"
    for number in range(200):
        await add(redis, keys, f"c{number}", "train.accepted", correlationid="x" * 100)
    async with following(redis, keys, folder) as model:
        await until(lambda: _has(model, 200), "the first model")
        if runs:
            act(folder)
            # Some damage is only met when something is read or written, and some never matters.
            await add(redis, keys, "late", "train.accepted")
            await until(lambda: _has(model, 201), "a model made anew")
    if not runs:
        act(folder)
        await add(redis, keys, "late", "train.accepted")
        async with following(redis, keys, folder) as model:
            await until(lambda: _has(model, 201), "a model made anew")


async def _has(model: ReadModel, number: int) -> bool:
    return len(await states(model)) == number


async def test_of_two_processes_one_writes_and_the_other_takes_over(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    await add(redis, keys, "a", "train.accepted")
    async with following(redis, keys, tmp_path) as first:
        await tells(first, a="accepted")
        async with following(redis, keys, tmp_path) as second:
            await tells(second, a="accepted")
            await add(redis, keys, "b", "train.accepted")
            await tells(second, b="accepted", a="accepted")
            await tells(first, b="accepted", a="accepted")
            file = current_file(tmp_path)
    async with following(redis, keys, tmp_path) as third:
        await add(redis, keys, "c", "train.accepted")
        await tells(third, c="accepted", b="accepted", a="accepted")
        assert current_file(tmp_path) == file


FOLLOWER = """
import asyncio, sys
from pathlib import Path
from worker.gateway.read_model.model import ReadModel
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys

async def main():
    url, namespace, folder = sys.argv[1:]
    model = ReadModel(connect(url), Keys(namespace), Path(folder), retention_seconds=10**9)
    await model.follow()

asyncio.run(main())
"""


async def test_writers_that_are_killed_lose_nothing_and_take_nothing_in_twice(
    redis: Redis, keys: Keys, redis_url: str, tmp_path: Path
) -> None:
    commands = 4_000
    pipe = redis.pipeline(transaction=False)
    for number in range(commands):
        pipe.xadd(keys.events, {"event": event_text(f"c{number}", "train.accepted")})
        pipe.xadd(keys.events, {"event": event_text(f"c{number}", "train.retrying")})
    await pipe.execute()
    command = [sys.executable, "-c", FOLLOWER, redis_url, keys.namespace, str(tmp_path)]
    model = ReadModel(redis, keys, tmp_path, retention_seconds=RETENTION_SECONDS)
    seen = 2 * commands
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(*command)
        # Killed as soon as it has got any further.
        await until(lambda known=seen: _is_behind_less(model, known), "the model to go on")  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        await process.wait()
        seen = (await model.lag()).events
    async with following(redis, keys, tmp_path) as last:
        await until(lambda: _caught_up(last), "the model to catch up")
        found, cursor = [], None
        while True:
            page = await last.query(CommandFilter(state="retrying"), cursor, 1_000)
            found += [row.id for row in page.rows]
            if (cursor := page.next_cursor) is None:
                break
    assert found == [f"c{number}" for number in reversed(range(commands))]
    model.close()


async def _is_behind_less(model: ReadModel, events: int) -> bool:
    found = (await model.lag()).events
    return found < events or found == 0


async def test_what_ended_long_ago_is_forgotten(redis: Redis, keys: Keys, tmp_path: Path) -> None:
    # Events whose time is long past, and one of now that has not ended.
    for number, event_type in enumerate(("train.accepted", "train.failed", "train.accepted")):
        _, fields = entry(number, "old" if number < 2 else "open", event_type)
        await redis.xadd(keys.events, {"event": fields[b"event"]})
    async with following(redis, keys, tmp_path, retention_seconds=60) as model:
        await tells(model, open="accepted")


def test_each_namespace_of_each_redis_has_a_folder(tmp_path: Path) -> None:
    def folder(url: str, namespace: str = "a") -> Path:
        told = {"redis_url": url, "namespace": namespace, "gateway_folder": tmp_path}
        return model_folder(GatewaySettings.model_validate(told))

    known = folder("redis://:secret@one:6379/0")
    assert known == folder("redis://user:changed@one/0"), "another password is no other Redis"
    assert known.parent == tmp_path
    assert known.name.startswith("a-")
    assert "secret" not in str(known)
    others = {
        folder("redis://two/0"),
        folder("redis://one/1"),
        folder("redis://one:1/0"),
        folder("redis://one/0", "b"),
    }
    assert len({known, *others}) == 5


async def test_the_lag_is_told_in_events_and_in_the_time_between_them(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    async def add_at(*ids: str) -> None:
        for entry_id in ids:
            text = event_text(entry_id, "train.accepted")
            await redis.xadd(keys.events, {"event": text}, id=entry_id)

    model = ReadModel(redis, keys, tmp_path, retention_seconds=RETENTION_SECONDS)
    await add_at("1000-0", "2000-0", "5500-0")
    # As if the first one had just been missed.
    assert await model.lag() == Lag(3, 4.5)
    await redis.xtrim(keys.events, maxlen=2, approximate=False)
    assert await model.lag() == Lag(2, 3.5)
    async with following(redis, keys, tmp_path):
        await until(lambda: _caught_up(model), "the model to catch up")
    assert await model.lag() == Lag(0, 0.0)
    await add_at("6500-0", "7000-0", "9000-0")
    assert await model.lag() == Lag(3, 3.5)
    # What is deleted before it was taken in is not waited for; that there is something is.
    await redis.xdel(keys.events, "6500-0", "7000-0", "1000-0", "2000-0", "5500-0")
    assert (await model.lag()).events == 1
    model.close()


async def test_of_two_that_follow_only_the_one_that_writes_can_be_in_trouble_with_its_disk(
    redis: Redis, keys: Keys, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.write_text("no folder")
    async with following(redis, keys, folder) as model:

        async def is_told() -> bool:
            return model.trouble is not None

        await until(is_told, "the trouble")
        assert "TRAINMASTER_GATEWAY_FOLDER" in str(model.trouble)
        with pytest.raises(ModelUnavailableError, match="TRAINMASTER_GATEWAY_FOLDER"):
            await model.query(CommandFilter())
        folder.unlink()
        folder.mkdir()
        lock = WriterLock.take(folder)
        assert lock is not None

        async def is_over() -> bool:
            return model.trouble is None

        await until(is_over, "another process that writes")
        lock.release()
        await add(redis, keys, "a", "train.accepted")
        await tells(model, a="accepted")


async def test_lists_that_can_not_be_read_now_say_why_and_the_file_is_kept(
    redis: Redis, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(redis, keys, "a", "train.accepted")
    async with following(redis, keys, tmp_path) as model:
        await tells(model, a="accepted")
        file = current_file(tmp_path)
        goes_on = threading.Event()

        def broken(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        def stopped(*_: object) -> None:
            goes_on.wait(30)

        with monkeypatch.context() as patch:
            patch.setattr(model_module, "find", broken)
            with pytest.raises(ModelUnavailableError, match="disk of the read model is in trouble"):
                await model.query(CommandFilter())
            patch.setattr(readers, "_QUERY_SECONDS", 0.05)
            patch.setattr(model_module, "find", stopped)
            for _ in range(4):
                with pytest.raises(ModelUnavailableError, match="does not answer"):
                    await model.query(CommandFilter())
            # All threads that read hang by now.
            with pytest.raises(ModelUnavailableError, match="too many lists"):
                await model.query(CommandFilter())
            goes_on.set()
        assert current_file(tmp_path) == file
        await tells(model, a="accepted")


async def test_a_defect_is_told_and_no_trouble_of_the_disk(
    redis: Redis, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ReadModel(redis, keys, tmp_path, retention_seconds=60)

    async def fail(_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(model._follower, "_keep_up", fail)
    with pytest.raises(KeyError):
        await model.follow()
    assert "a defect" in str(model.trouble)
    model.close()
