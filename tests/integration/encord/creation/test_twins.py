"""Identical creations in doubt: whatever one of them adopts, the other's own is left for it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.creations import data_of, made
from tests.sandbox_process import SIMULATED
from worker.encord.creation.orphans import OrphanedCreation, Orphans
from worker.errors import FencedError
from worker.queue.ledger.models import Phase

if TYPE_CHECKING:
    from tests.integration.worker_bench import Bench

LISTED: dict[str, object] = {"operation": "*", "effect": "running_trainings", "shown": "listed"}
LOST: dict[str, Any] = {"effect": "commit_then_fail", "status": 502, "count": 1}
LOST_TRAINING = {"operation": "create_training_job", **LOST}
NEVER_SENT = {"operation": "create_training_job", "effect": "reset", "count": 1}
HOUR = 3600
SOMEONES = "3f0d7e0e-37b5-4c83-b7b3-5a3f0c4f2a11"


async def test_what_a_frozen_run_creates_late_is_left_to_the_twin_whose_own_was_adopted(
    bench: Bench,
) -> None:
    """A run stands still before its POST. Its command, in doubt, adopts what its twin has lost.

    The POST that goes out at last creates one more: owned by the same command it would be nobody's.
    """
    data = data_of(bench, "train")
    first, twin = [await bench.send("train", data, id=name) for name in ("first", "twin")]
    bench.sandbox.faults(
        SIMULATED, LISTED, {"operation": "create_training_job", "effect": "latency", "seconds": 8}
    )
    frozen = bench.begin(await bench.claim(first))
    late = asyncio.create_task(bench.executor.carry_out(frozen))
    while not frozen.changing:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.2)
    await bench.attempt(first)
    assert await bench.state(first) == "in_doubt"
    bench.sandbox.faults(SIMULATED, LISTED, LOST_TRAINING)
    await bench.attempt(twin)
    assert await bench.state(twin) == "in_doubt"
    await bench.attempt(first)
    assert await bench.state(first) == "succeeded"
    assert not late.done(), "the late POST has yet to be carried out"
    with pytest.raises(FencedError):
        await late
    ends = [(await bench.told(first))[-1], await bench.end(twin)]
    assert {end["type"] for end in ends} == {"train.succeeded"}, ends
    assert len({end["data"]["result"]["training_uuid"] for end in ends}) == 2
    assert made(bench, "train", data) == 2


async def test_nothing_that_is_listed_is_adopted_once_word_of_the_own_one_is_left(
    bench: Bench,
) -> None:
    """It may come while the API is asked, and says more than any list."""
    data = data_of(bench, "train")
    bench.sandbox.faults(SIMULATED, LISTED, LOST_TRAINING)
    sent = await bench.send("train", data)
    await bench.attempt(sent)
    row = bench.ledger.keys.command(sent)
    bench.sandbox.faults(
        SIMULATED, LISTED, {"operation": "get_model", "effect": "latency", "seconds": 1}
    )
    lease = await bench.claim(sent)
    asking = asyncio.create_task(bench.executor.carry_out(bench.begin(lease)))
    await asyncio.sleep(0.3)
    orphans = Orphans(bench.redis, bench.ledger.keys)
    lock = bench.ledger.keys.lock(f"training:{SOMEONES}")
    assert await orphans.leave(lease, OrphanedCreation(SOMEONES, None, lock, 600), drop_lock="")
    await bench.ledger.finish([await asking])
    assert await bench.redis.hget(row, "h") == b"in_doubt"


async def test_word_of_what_a_twin_has_adopted_does_not_keep_a_doubt_from_its_end(
    bench: Bench,
) -> None:
    data = data_of(bench, "train")
    bench.sandbox.faults(SIMULATED, LISTED, LOST_TRAINING)
    sent = await bench.send("train", data)
    await bench.attempt(sent)
    lock = bench.ledger.keys.lock(f"training:{SOMEONES}")
    await bench.redis.set(lock, "its twin")
    orphans = Orphans(bench.redis, bench.ledger.keys)
    lease = await bench.claim(sent)
    await orphans.leave(lease, OrphanedCreation(SOMEONES, None, lock, 600), drop_lock="")
    end = await bench.end(sent)
    assert end["type"] == "train.succeeded"
    assert made(bench, "train", data) == 1


async def test_whoever_adopts_by_word_lets_identical_ones_go_on(bench: Bench) -> None:
    """A run that ended in the middle of an adoption, for Redis went, has left their lock taken."""
    data = data_of(bench, "train")
    bench.sandbox.faults(SIMULATED, LISTED, LOST_TRAINING)
    first = await bench.send("train", data, id="first")
    await bench.attempt(first)
    keys = bench.ledger.keys
    intents = [key async for key in bench.redis.scan_iter(f"{keys.prefix}lock:creating-*")]
    assert intents == []
    lease = await bench.claim(first)
    run = bench.begin(lease)
    (training,) = [
        each["training_uuid"]
        for each in bench.sandbox.truth()["created"]["trainings"]
        if each["model_uuid"] == data["model_uuid"]
    ]
    word = OrphanedCreation(training, None, keys.lock(f"training:{training}"), 600)
    lock = await _lock_of(bench, data)
    await run.checkpoint(run.progress, take_lock=lock, lock_lapses=True)
    await Orphans(bench.redis, keys).leave(lease, word, drop_lock="")
    await bench.attempt(first)
    assert await bench.redis.get(lock) is None
    bench.sandbox.faults(SIMULATED)
    second = await bench.end(await bench.send("train", data, id="second"))
    assert second["type"] == "train.succeeded"


async def _lock_of(bench: Bench, data: dict[str, Any]) -> str:
    """Returns the lock that identical creations share, as one that is being made holds it."""
    bench.sandbox.faults(
        SIMULATED, LISTED, {"operation": "create_training_job", "effect": "latency", "seconds": 1}
    )
    probe = bench.begin(await bench.claim(await bench.send("train", data, id="probe")))
    creating = asyncio.create_task(bench.executor.carry_out(probe))
    keys = bench.ledger.keys
    found: list[bytes] = []
    while not found:
        await asyncio.sleep(0.01)
        found = [key async for key in bench.redis.scan_iter(f"{keys.prefix}lock:creating-*")]
    await bench.ledger.finish([await creating])
    return found[0].decode()


async def test_a_doubt_adopts_first_what_its_twin_can_not(bench: Bench) -> None:
    """Models are listed newest first, and the later of two had the earlier one's in its list."""
    data = data_of(bench, "create_model")
    ids = []
    for number in range(2):
        bench.sandbox.faults({"operation": "create_model", **LOST})
        ids.append(await bench.send("create_model", data, id=f"doubt-{number}"))
        await bench.attempt(ids[-1])
        assert await bench.state(ids[-1]) == "in_doubt"
    ends = [await bench.end(each) for each in ids]
    uuids = {end["data"]["result"]["model_group"]["model_uuid"] for end in ends}
    assert len(uuids) == 2
    assert made(bench, "create_model", data) == 2


async def test_a_doubt_is_not_given_up_by_a_time_that_redis_does_not_show_any_more(
    bench: Bench,
) -> None:
    """The clock was set back an hour, and this worker has not looked at it since."""
    data = data_of(bench, "train") | {"timeout_seconds": 600}
    bench.sandbox.faults(SIMULATED, NEVER_SENT)
    sent = await bench.send("train", data)
    await bench.attempt(sent)
    _set_clock_ahead(bench)
    await bench.attempt(sent)
    assert await bench.state(sent) == "in_doubt"


async def test_a_training_is_waited_for_by_the_time_that_redis_shows(bench: Bench) -> None:
    data = data_of(bench, "train") | {"timeout_seconds": 600}
    bench.sandbox.faults({**SIMULATED, "seconds": 300})
    sent = await bench.send("train", data)
    await bench.attempt(sent)
    _set_clock_ahead(bench)
    await bench.attempt(sent)
    assert await bench.state(sent) == "polling"


def _set_clock_ahead(bench: Bench) -> None:
    dependencies = replace(bench.executor.dependencies, now=lambda: time.time() + HOUR)
    bench.executor = replace(bench.executor, dependencies=dependencies)


@pytest.mark.parametrize(
    ("row", "left"),
    [
        ({"s": "in_doubt", "h": Phase.IN_DOUBT}, True),
        ({"s": "cancelled"}, True),
        ({"s": "polling", "h": Phase.APPLIED}, False),
        ({"s": "succeeded"}, False),
        # A later command of the same id.
        ({"s": "succeeded", "q": "9-9"}, True),
    ],
)
async def test_word_is_left_unless_the_command_has_another_one(
    bench: Bench, row: dict[str, str], left: bool
) -> None:
    sent = await bench.send("train", data_of(bench, "train"))
    lease = await bench.claim(sent)
    await bench.redis.hset(bench.ledger.keys.command(sent), mapping=row)  # type: ignore[arg-type]
    lock = bench.ledger.keys.lock(f"training:{SOMEONES}")
    orphans = Orphans(bench.redis, bench.ledger.keys)
    word = OrphanedCreation(SOMEONES, None, lock, 600)
    assert await orphans.leave(lease, word, drop_lock="") is left
    assert (await bench.redis.get(lock) is not None) is left
    assert (await orphans.find(lease) is not None) is left
