"""The format of the ledger: what a release wrote is read, and what is newer is left to others.

Whoever breaks one of these rules has changed what stands in Redis: docs/upgrades.md says how.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from structlog.testing import capture_logs

from tests.integration.ledger_acts import LIST, accept, lease, now_ms
from tests.recorded_ledger import (
    NIGHT,
    dumped,
    make_rows,
    names,
    read_by_a_worker,
    restore,
    shape_of,
    store_of,
)
from worker.backfill.keys import backfill_key
from worker.backfill.plan import Plan
from worker.backfill.status import BackfillState
from worker.encord.creation.orphans import Orphans
from worker.errors import NewerLedgerError
from worker.queue.ledger import ledger as ledger_module
from worker.queue.ledger.deadlines import Deadlines
from worker.queue.ledger.epoch import Epoch
from worker.queue.ledger.format import FORMAT
from worker.queue.ledger.models import RowState, RunResult
from worker.queue.ledger.repair import Repair

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

RELEASES: Final = sorted((Path(__file__).parent / "recorded").glob("*.json"))
# What stands in Redis since a release, and why its workers can live with it. It goes once that
# release is no longer the last one.
ADDED: Final[dict[str, str]] = {}
# New values of these are told to people and consumers, who must take what they don't know.
OPEN_ENDED: Final = {"event states", "error codes", "commands"}

each_release = pytest.mark.parametrize("release", RELEASES, ids=lambda file: file.stem)


def recorded(release: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(release.read_text("utf-8"))
    return found


def test_there_is_a_release_to_read() -> None:
    assert RELEASES


@each_release
async def test_a_worker_reads_what_a_release_left(redis: Redis, keys: Keys, release: Path) -> None:
    told = recorded(release)
    await restore(redis, keys, told["keys"])
    read = await read_by_a_worker(redis, keys)
    assert read["backfill"] == told["read"]["backfill"]
    assert read["leases"].keys() == told["read"]["leases"].keys()
    for row_id, expected in told["read"]["leases"].items():
        # Of what a release knows nothing may be read otherwise; more may be.
        found = read["leases"][row_id]
        assert {name: found[name] for name in expected} == expected, row_id
    assert len(read["leases"]) > 9, "rows of all states"


@each_release
async def test_a_worker_ends_what_a_release_left(
    redis: Redis, keys: Keys, ledger: Ledger, release: Path
) -> None:
    await restore(redis, keys, recorded(release)["keys"])
    leases = (await ledger.claim(100, bulk_most=100, suspects=1)).leases
    ends = [RunResult(each, RowState.SUCCEEDED, 1, member_result=b"{}") for each in leases]
    assert set(await ledger.finish(ends)) == {True}
    assert await redis.zcard(keys.due_interactive) + await redis.zcard(keys.due_bulk) == 0
    (doubt,) = [each for each in leases if each.command_id == "in_doubt"]
    assert await Orphans(redis, keys).find(doubt) is not None, "word of an orphan is read"
    token, _ = await store_of(redis, keys).lead(NIGHT, 0, lease_ms=60_000)  # type: ignore[arg-type]
    assert token, "another version's backfill can be led"


@each_release
async def test_rows_and_keys_are_those_that_a_release_can_read(
    redis: Redis, keys: Keys, ledger: Ledger, release: Path
) -> None:
    await make_rows(redis, ledger)
    now, before = shape_of(await dumped(redis, keys)), shape_of(recorded(release)["keys"])
    assert before.keys() - now.keys() == set(), "a family of keys is gone or has another name"
    for family, told in before.items():
        assert now[family]["type"] == told["type"], family
        assert set(told["fields"]) - set(now[family]["fields"]) == set(), f"fields of {family}"
    added = {f"{family}:" for family in now.keys() - before.keys()}
    added |= {
        f"{family}: {field}"
        for family in now.keys() & before.keys()
        for field in set(now[family]["fields"]) - set(before[family]["fields"])
    }
    assert added == set(ADDED), "each addition says why the last release can live with it"


@each_release
def test_names_are_those_that_a_release_knows(release: Path) -> None:
    before, now = recorded(release)["names"], names()
    gone = {kind: sorted(set(known) - set(now[kind])) for kind, known in before.items()}
    assert {kind: left for kind, left in gone.items() if left} == {}
    new = {
        f"{kind}: {name}"
        for kind in before.keys() - OPEN_ENDED
        for name in set(now[kind]) - set(before[kind])
    }
    assert new == set(), "the last release's workers know no such value: raise the row's format"


def test_scripts_and_code_mean_the_same_format() -> None:
    file = resources.files("worker.queue.ledger") / "scripts" / "include" / "newer.lua"
    assert re.findall(r"> (\d+)", file.read_text("utf-8")) == [str(FORMAT)]


@pytest.mark.parametrize("lane", ["interactive", "bulk"])
async def test_a_row_of_a_newer_format_is_left_to_newer_workers_and_counts_no_claim(
    redis: Redis, keys: Keys, ledger: Ledger, lane: str
) -> None:
    await accept(redis, ledger, **LIST, id="newer", priority=lane)
    await redis.hset(keys.command("newer"), "u", str(FORMAT + 1))
    before = await redis.hgetall(keys.command("newer"))
    await accept(redis, ledger, **LIST, id="own", priority=lane)
    claim = await ledger.claim(1, bulk_most=1)
    # It takes nobody's place for long: what is due behind it is found by the next claim.
    assert (claim.leases, claim.skipped) == ([], 1)
    assert [each.command_id for each in (await ledger.claim(1, bulk_most=1)).leases] == ["own"]
    assert await redis.hgetall(keys.command("newer")) == before
    due = await redis.zscore(f"{keys.prefix}due:{lane}", "newer")
    assert due is not None
    assert 0 < due - await now_ms(redis) <= 2_000, "a newer worker finds it in a moment"


async def test_rows_of_a_newer_format_are_told_once_a_minute(
    redis: Redis, keys: Keys, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each claim comes upon them again, many times a second."""
    told: list[list[str]] = []
    # After the first claim there is no pause, after the second one a long one.
    for number, told_seconds in enumerate([0.0, 3_600.0, 3_600.0]):
        await accept(redis, ledger, **LIST, id=f"newer-{number}")
        await redis.hset(keys.command(f"newer-{number}"), "u", str(FORMAT + 1))
        monkeypatch.setattr(ledger_module, "NEWER_TOLD_SECONDS", told_seconds)
        with capture_logs() as lines:
            assert (await ledger.claim(10)).leases == []
        told.append([each for line in lines for each in line["ids"]])
    assert told == [["newer-0"], ["newer-1"], []]


@pytest.mark.parametrize("value", [str(FORMAT), "no number", ""])
async def test_a_row_of_this_format_is_claimed_whatever_someone_wrote_there(
    redis: Redis, keys: Keys, ledger: Ledger, value: str
) -> None:
    await accept(redis, ledger, **LIST, id="one")
    await redis.hset(keys.command("one"), "u", value)
    assert len((await ledger.claim(1)).leases) == 1


async def test_the_deadline_of_a_newer_row_is_left_to_newer_workers(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await accept(redis, ledger, **LIST, id="newer", deadline="2026-01-01T00:00:00Z")
    await redis.hset(keys.command("newer"), "u", str(FORMAT + 1))
    expired = await Deadlines(redis, keys, lease_seconds=30).claim(10)
    assert expired.leases == []
    assert await redis.hget(keys.command("newer"), "n") == b"0"


async def test_a_newer_row_is_not_ended_for_what_this_version_misses_in_it(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    await accept(redis, ledger, **LIST, id="newer")
    await redis.hset(keys.command("newer"), "u", str(FORMAT + 1))
    await redis.hdel(keys.command("newer"), "m")
    await redis.delete(keys.due_interactive)
    assert (await Repair(redis, keys, lease_seconds=30).look(10)).lost == 0


async def test_a_worker_refuses_a_ledger_of_a_newer_format(redis: Redis, keys: Keys) -> None:
    epoch = Epoch(redis, keys)
    await epoch.enter()
    await redis.set(keys.format, str(FORMAT))
    await epoch.check()
    await redis.set(keys.format, str(FORMAT + 1))
    with pytest.raises(
        NewerLedgerError, match=rf"format {FORMAT + 1} and this version .* {FORMAT}"
    ):
        await epoch.check()
    with pytest.raises(NewerLedgerError, match="Install that one"):
        await Epoch(redis, keys).enter()


async def test_a_lease_of_what_a_worker_holds_ends_though_the_format_is_raised(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    """What runs already is recorded: it would else be done twice."""
    held = await lease(redis, ledger, **LIST, id="one")
    await redis.set(keys.format, str(FORMAT + 1))
    assert await ledger.finish([RunResult(held, RowState.SUCCEEDED, 1)]) == [True]


@pytest.mark.parametrize(
    ("changes", "unread"),
    [
        ({"most_hours": 3}, ("most_hours",)),
        ({"part_format": "avro"}, ("part_format",)),
        (
            {"source": {"location": "x", "format": "avro", "glob": "*"}},
            ("source.format", "source.glob"),
        ),
        ({"limits": {"most": 3, "per_hour": 1}}, ("limits.per_hour",)),
    ],
)
async def test_the_plan_of_a_newer_backfill_is_shown_as_far_as_it_is_known(
    redis: Redis, keys: Keys, ledger: Ledger, changes: dict[str, Any], unread: tuple[str, ...]
) -> None:
    await make_rows(redis, ledger)
    key = backfill_key(keys, NIGHT)
    kept = json.loads(await redis.hget(key, "plan") or b"")
    await redis.hset(key, "plan", json.dumps(kept | changes))
    status = await store_of(redis, keys).look(NIGHT)
    assert status is not None
    assert (status.plan.unread, status.state) == (unread, BackfillState.RUNNING)
    assert status.plan.output == "/results"
    assert Plan.parse(status.plan.json()).unread == ()
