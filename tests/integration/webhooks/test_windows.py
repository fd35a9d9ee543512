"""Windows: deliveries that become one command, whoever is killed between which two steps."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, cast

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from tests.integration.webhooks.posting import (
    HEAD,
    PROJECT,
    WINDOWED,
    commands_in,
    integrations_of,
    letters_in,
    receiver_of,
    signed,
    submitted,
)
from worker.webhooks import deliveries as bounds
from worker.webhooks.deliveries import Deliveries
from worker.webhooks.keys import open_window_key, window_key, windows_key
from worker.webhooks.records import RuleResult
from worker.webhooks.windows import MISSING_RULE_SECONDS, WindowCloser, Windows, close_window

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.integrations.file import Integrations
    from worker.integrations.rules import Rule
    from worker.queue.ledger.keys import Keys
    from worker.webhooks.windows import Sealed

NAME = f"encord/train/{PROJECT}"


class Door:
    """A receiver, and what becomes of its windows."""

    def __init__(self, redis: Redis, keys: Keys, integrations: Integrations) -> None:
        self.redis = redis
        self.keys = keys
        self.receiver = receiver_of(redis, keys, integrations)
        self.windows = Windows(redis, keys)
        self.rule: Rule = integrations.sources["encord"].rules[0]
        self.closer = WindowCloser(redis, keys, integrations.sources)
        self.deliveries = Deliveries(redis, keys, retention_seconds=600)

    async def send(self, uid: str, label: str = "00000000-0000-4000-8000-000000000001") -> None:
        post = signed(submitted(uid, labels=[label]))
        answer = await self.receiver.receive("encord", post.headers, post.body)
        assert (answer.status, answer.outcome) == (200, "coalesced")

    async def make_due(self) -> None:
        """Lets time pass for all windows, leases of sealed ones too."""
        key = windows_key(self.keys)
        for window_id in filter(None, await self.redis.zrange(key, 0, -1)):
            await self.redis.execute_command("ZADD", key, 1, window_id)  # type: ignore[no-untyped-call]

    async def commands(self) -> list[dict[str, object]]:
        return await commands_in(self.redis, self.keys.commands)

    async def left(self) -> set[str]:
        """Keys of windows that are left."""
        prefix = self.keys.prefix
        names = self.redis.scan_iter(match=f"{prefix}window[-:]*")
        found = {name.decode().removeprefix(prefix) async for name in names}
        found |= {name.decode() for name in await self.due_at()}
        return found

    async def due_at(self) -> dict[bytes, float]:
        """When each window in the set is due, in ms."""
        told = await self.redis.zrange(windows_key(self.keys), 0, -1, withscores=True)
        return {name: score for name, score in cast("list[tuple[bytes, float]]", told) if name}


def label(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


@pytest.fixture
def door(redis: Redis, keys: Keys, tmp_path: Path) -> Door:
    return Door(redis, keys, integrations_of(tmp_path, HEAD, WINDOWED))


async def test_deliveries_of_one_key_become_one_command_in_their_order(door: Door) -> None:
    for number in range(3):
        await door.send(f"uid-{number}", label(number))
        await door.send(f"uid-{number}", label(number))
    assert await door.closer.close_due() > 0
    assert await door.commands() == []

    await door.make_due()
    await door.closer.close_due()

    (command,) = await door.commands()
    assert command["data"]["labels_uuids"] == [label(number) for number in range(3)]  # type: ignore[index]
    assert str(command["id"]).startswith(f"{NAME}/")
    assert await door.left() == set()
    found = await door.deliveries.get("encord/uid-1")
    assert found is not None
    assert found.command_ids == [command["id"]]
    assert found.window_ends[found.window_ids[0]].result is RuleResult.SUBMITTED


async def test_a_window_that_is_not_due_takes_more(door: Door) -> None:
    await door.send("uid-1")

    assert 0 < await door.closer.close_due() <= 1

    await door.send("uid-2")
    assert len(await door.left()) == 3


async def test_what_joins_a_window_does_not_put_its_end_off(door: Door) -> None:
    """Or one whose deliveries keep coming would never be closed."""
    await door.send("uid-1")
    await door.make_due()
    before = await door.due_at()
    await door.send("uid-2")
    assert await door.due_at() == before


@pytest.mark.parametrize("killed", ["after the seal", "after the read", "after the close"])
async def test_a_closer_that_is_killed_leaves_the_window_to_the_next_one(
    door: Door, killed: str
) -> None:
    await door.send("uid-1", label(1))
    await door.make_due()
    (window_id,) = (await door.windows.seal()).window_ids
    if killed != "after the seal":
        window = await door.windows.read(window_id)
        assert window is not None
        if killed == "after the close":
            assert await close_window(door.windows, window, door.rule)
    # For as long as its lease lasts nobody else works on it.
    assert (await door.windows.seal()).window_ids == []

    await door.make_due()
    await door.closer.close_due()

    (command,) = await door.commands()
    assert command["id"] == window_id
    assert await door.left() == set()


async def test_two_closers_that_have_the_same_window_make_one_command(door: Door) -> None:
    await door.send("uid-1", label(1))
    await door.make_due()
    (window_id,) = (await door.windows.seal()).window_ids
    window = await door.windows.read(window_id)
    assert window is not None

    closed = await asyncio.gather(
        *(close_window(door.windows, window, door.rule) for _ in range(5))
    )

    assert sorted(closed) == [False] * 4 + [True]
    assert len(await door.commands()) == 1


async def test_what_comes_between_seal_and_close_opens_a_window_of_its_own(door: Door) -> None:
    await door.send("uid-1", label(1))
    await door.make_due()
    (first_id,) = (await door.windows.seal()).window_ids
    window = await door.windows.read(first_id)
    assert window is not None
    await door.send("uid-2", label(2))
    # A second seal of the first must not take the second one's name away.
    await door.redis.zadd(windows_key(door.keys), {first_id: 1})
    assert (await door.windows.seal()).window_ids == [first_id]
    await close_window(door.windows, window, door.rule)
    await door.send("uid-3", label(3))

    await door.make_due()
    await door.closer.close_due()

    first, second = await door.commands()
    assert first["data"]["labels_uuids"] == [label(1)]  # type: ignore[index]
    assert second["data"]["labels_uuids"] == [label(2), label(3)]  # type: ignore[index]
    assert first["id"] != second["id"]


async def test_a_full_window_is_due_at_once_and_another_one_opens(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_IN_WINDOW", 2)
    for number in range(5):
        await door.send(f"uid-{number}", label(number))

    await door.closer.close_due()

    made = [one["data"]["labels_uuids"] for one in await door.commands()]  # type: ignore[index]
    assert made == [[label(0), label(1)], [label(2), label(3)]]
    assert len(await door.left()) == 3


async def test_a_window_of_as_many_bytes_as_one_may_have_is_due_at_once_and_another_one_opens(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.send("uid-0", label(0))
    size = await door.redis.hget(open_window_key(door.keys, NAME), "bytes")
    monkeypatch.setattr(bounds, "MOST_WINDOW_BYTES", 2 * int(size or 0))
    for number in range(1, 5):
        await door.send(f"uid-{number}", label(number))

    await door.closer.close_due()

    made = [one["data"]["labels_uuids"] for one in await door.commands()]  # type: ignore[index]
    assert made == [[label(0), label(1)], [label(2), label(3)]]


async def test_more_windows_than_a_step_seals_are_closed_without_a_pause(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_IN_WINDOW", 1)
    monkeypatch.setattr("worker.webhooks.windows._PAGE", 1)
    for number in range(3):
        await door.send(f"uid-{number}", label(number))

    assert [await door.closer.close_due() for _ in range(2)] == [0.0, 0.0]
    assert 0 < await door.closer.close_due() <= 1
    assert len(await door.commands()) == 2


async def test_a_window_outlives_the_retention_of_its_deliveries(door: Door) -> None:
    await door.send("uid-1", label(1))
    await door.redis.delete(f"{door.keys.prefix}delivery:encord/uid-1")
    await door.make_due()

    await door.closer.close_due()

    assert len(await door.commands()) == 1
    # Nothing of the delivery comes back, for it would never expire.
    assert await door.redis.exists(f"{door.keys.prefix}delivery:encord/uid-1") == 0


async def test_deliveries_that_together_make_no_valid_command_are_a_dead_letter(door: Door) -> None:
    await door.send("uid-1", label(1))
    await door.send("uid-2", "no uuid")
    await door.make_due()

    await door.closer.close_due()

    assert await door.commands() == []
    (letter,) = await letters_in(door.redis, door.keys)
    assert letter["error"]["code"] == "invalid_command"
    assert "made no command of 2 deliveries" in letter["error"]["message"]
    assert '"uid-1"' in letter["text"]
    assert '"uid-2"' in letter["text"]
    found = await door.deliveries.get("encord/uid-1")
    assert found is not None
    (end,) = found.window_ends.values()
    assert end.result is RuleResult.INVALID
    assert await door.left() == set()


async def test_a_window_whose_rule_is_gone_waits_for_a_process_that_knows_it(door: Door) -> None:
    await door.send("uid-1", label(1))
    await door.make_due()
    without = WindowCloser(door.redis, door.keys, {})

    await without.close_due()
    assert await letters_in(door.redis, door.keys) == []
    await door.make_due()
    await door.closer.close_due()

    assert len(await door.commands()) == 1


async def test_a_window_whose_rule_never_comes_back_is_a_dead_letter(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    await door.send("uid-1", label(1))
    await door.make_due()
    monkeypatch.setattr("worker.webhooks.windows.MISSING_RULE_SECONDS", -MISSING_RULE_SECONDS)

    await WindowCloser(door.redis, door.keys, {}).close_due()

    (letter,) = await letters_in(door.redis, door.keys)
    assert "in the integrations file no more" in letter["error"]["message"]


async def test_one_window_that_others_broke_keeps_no_other_waiting(door: Door) -> None:
    await door.send("uid-1", label(1))
    broken = f"encord/train/other/{'0' * 32}"
    await door.redis.rpush(window_key(door.keys, broken), "no json")
    empty = f"encord/train/other/{'2' * 32}"
    head = {"source": "encord", "rule": "train", "key": "other", "due_at": 1}
    await door.redis.rpush(window_key(door.keys, empty), json.dumps(head))
    windows = {broken: 1, empty: 1, f"x/{'1' * 32}": 1}
    await door.redis.zadd(windows_key(door.keys), windows)
    await door.redis.set(window_key(door.keys, f"x/{'1' * 32}"), "no list")
    await door.make_due()

    await door.closer.close_due()

    assert len(await door.commands()) == 1


async def test_windows_whose_set_was_deleted_are_found_again_each_at_its_time(
    door: Door,
) -> None:
    await door.send("one", label(1))
    await door.closer.close_due()
    before = await door.due_at()
    await door.redis.delete(windows_key(door.keys))
    broken = f"x/{'0' * 32}"
    await door.redis.rpush(window_key(door.keys, broken), "not JSON")
    with structlog.testing.capture_logs() as logs:
        assert await door.closer.close_due() < 2
        assert [line["windows"] for line in logs if line["event"] == "windows.restored"] == [2]
        (window_id,) = before
        restored = await door.due_at()
        # By the gateway's clock, which set out the window, not by that of Redis.
        assert abs(restored[window_id] - before[window_id]) < 1000
        # It is due at once, and put aside where it can't be read.
        assert broken.encode() in restored
        assert await door.closer.close_due() >= 0
    # Once, until it is deleted again.
    assert [line["event"] for line in logs].count("windows.restored") == 1
    await door.redis.delete(window_key(door.keys, broken))
    # What joins meanwhile hides nothing that stood in the set before.
    await door.make_due()
    await door.windows.seal()
    await door.redis.delete(windows_key(door.keys))
    await door.send("two", label(2))
    assert len(await door.due_at()) == 1
    await door.closer.close_due()
    assert len(await door.due_at()) == 2
    await door.make_due()
    await door.closer.close_due()
    assert len(await door.commands()) == 2
    assert await door.left() == set()


async def test_windows_are_found_again_in_as_many_steps_as_it_takes(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.webhooks.windows._SCANNED", 1)
    windows = {f"x/{number:032x}": number for number in range(1, 31)}
    for window_id, due_at in windows.items():
        await door.redis.rpush(window_key(door.keys, window_id), json.dumps({"due_at": due_at}))

    assert await door.windows.restore() == 30

    found = {name.decode(): due_at for name, due_at in (await door.due_at()).items()}
    assert found == windows
    assert await door.windows.restore() == 0


async def test_a_gateway_that_may_not_look_for_windows_says_so_once_and_closes_what_it_knows(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_args: object, **_named: object) -> None:
        raise NoPermissionError("no permissions to run the 'scan' command")

    monkeypatch.setattr(door.redis, "scan", refuse)
    await door.send("uid-1", label(1))
    await door.make_due()
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await door.closer.close_due()
    assert len(await door.commands()) == 1
    assert [line["event"] for line in logs].count("windows.repair_refused") == 1


async def test_the_closer_runs_until_it_is_told_to_stop(door: Door) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(door.closer.run(stop))
    await door.send("uid-1", label(1))
    async with asyncio.timeout(60):
        while not await door.commands():
            await asyncio.sleep(0.05)
        stop.set()
        await task
    assert await door.redis.exists(open_window_key(door.keys, NAME)) == 0


async def test_the_closer_lives_through_the_loss_of_redis(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 3
    seal = door.closer._windows.seal

    async def refuse() -> Sealed:
        nonlocal failures
        if failures:
            failures -= 1
            raise RedisConnectionError("away")
        return await seal()

    monkeypatch.setattr(door.closer._windows, "seal", refuse)
    monkeypatch.setattr("worker.webhooks.windows.next_pause", lambda pause: pause + 0.01)
    stop = asyncio.Event()
    await door.send("uid-1", label(1))
    await door.make_due()
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(door.closer.run(stop))
        async with asyncio.timeout(60):
            while not await door.commands():
                await asyncio.sleep(0.01)
            stop.set()
            await task
    events = [line["event"] for line in logs]
    assert (events.count("redis.lost"), events.count("redis.back")) == (1, 1)
