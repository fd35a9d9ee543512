"""Every number of the settings reaches its place, and what was begun ends with the components."""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import Enum
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from tests.stub_api import reply
from worker.bootstrap.components import create_components
from worker.bootstrap.monitoring import create_monitor
from worker.bootstrap.supervisor import create_supervisor
from worker.encord.context import Encord, PollSchedule
from worker.environment import load_settings
from worker.queue.ledger.event_retention import EventRetention
from worker.queue.ledger.rate_limits import HEADROOM
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stub_api import StubApi

# What more parts than one need, and how many hold it.
SHARED = {
    "id_retention_seconds": 2,  # ledger, backfills
    "event_retention_seconds": 3,  # ledger, backfills, the sweep
    "download_timeout_seconds": 4,  # downloads, files on disks, results, witness
    "breaker_min_seconds": 2,  # breaker, credentials
    "breaker_max_seconds": 2,
    "pause_probe_seconds": 2,  # when a probe is drawn, and when one that failed may be again
}


def odd_values() -> dict[str, Any]:
    """Returns a value for each number of the settings, within its range and like no other."""
    odd: dict[str, Any] = {}
    for name, info in Settings.model_fields.items():
        least = max(getattr(rule, "ge", getattr(rule, "gt", 0)) for rule in info.metadata or [0])
        most = max(getattr(rule, "le", 0) for rule in info.metadata or [0])
        if info.annotation is int:
            odd[name] = least + 37 + 7 * len(odd)
        elif info.annotation is float:
            odd[name] = round(least + (most - least) * (0.3 + 0.001 * len(odd)), 4)
    # Below those of `max`, or within ranges that end below what the others get.
    odd |= {"retry_min_seconds": 11.5, "poll_min_seconds": 12.5, "breaker_min_seconds": 13.5}
    return odd | {"max_claims": 17}


def numbers_in(*roots: object) -> Counter[float]:
    """Returns every number that an object reaches by its attributes and what its functions hold.

    Each is counted as often as it is held.
    """
    found: Counter[float] = Counter()
    seen: dict[int, object] = {}
    left = list(roots)
    while left:
        each = left.pop()
        if isinstance(each, int | float):
            found[float(each)] += 1
        if id(each) in seen or isinstance(each, type | ModuleType | Enum | Settings | str | bytes):
            continue
        seen[id(each)] = each
        if isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list | tuple | set | frozenset):
            left += each
        elif isinstance(each, partial):
            left += (each.func, each.args, each.keywords)
        elif isinstance(each, MethodType):
            left.append(each.__self__)
        elif isinstance(each, FunctionType):
            left += (cell.cell_contents for cell in each.__closure__ or ())
        else:
            left += getattr(each, "__dict__", {}).values()
            slots = {slot for base in type(each).__mro__ for slot in getattr(base, "__slots__", ())}
            left += (getattr(each, slot) for slot in slots if hasattr(each, slot))
    return found


async def test_every_number_of_the_settings_reaches_a_part_of_the_worker(redis_url: str) -> None:
    """One that is forgotten on its way leaves its default in force, and nothing else shows it."""
    odd = odd_values()
    assert len(set(odd.values())) == len(odd)
    settings = Settings(redis_url=redis_url, bearer_token="t", **odd)
    parts = create_components(settings, lambda _: None, create_monitor(settings))
    supervisor = create_supervisor(settings, lambda: None, lambda: None)
    found = numbers_in(parts, supervisor)
    # What these come to is another number.
    odd["consumer_idle_seconds"] *= 1000
    odd["requests_per_second"] *= 1 - HEADROOM
    held = {name: found[float(value)] for name, value in odd.items()}
    assert [name for name, times in held.items() if not times] == []
    assert {name: held[name] for name in SHARED} == SHARED
    # Those that could stand in each other's place.
    assert parts.sweep._event_retention == EventRetention(
        least=odd["event_retention_seconds"],
        most=odd["event_retention_max_seconds"],
        follower_expiry=odd["follower_expiry_seconds"],
    )
    encord = parts.pool._executor.dependencies.service(Encord)
    assert encord.polls == PollSchedule(
        minimum_seconds=odd["poll_min_seconds"],
        maximum_seconds=odd["poll_max_seconds"],
        share=odd["poll_share"],
    )
    # A poll holds its connection, and takes none from a request.
    transport = encord.transport._transport
    assert transport._connections == odd["concurrency"] + odd["long_poll_concurrency"]
    # Each text of a command takes four times its size.
    assert parts.pool.slots.free_bytes == odd["inflight_body_bytes"] // 4
    await parts.close()


@pytest.mark.parametrize("name", ["http", "health_file"])
async def test_whether_a_worker_is_ready_is_looked_at_for_whoever_asks(
    redis_url: str, tmp_path: Path, name: str
) -> None:
    """The file of one that nobody looks at would never be there, and its probe end it."""
    told: dict[str, Any] = {"http": "127.0.0.1:0", "health_file": str(tmp_path / "healthy")}
    settings = Settings(redis_url=redis_url, bearer_token="t", **{name: told[name]})
    monitor = create_monitor(settings)
    monitor.start()
    parts = create_components(settings, lambda _: None, monitor)
    await parts.close()
    monitor.stop()
    assert "monitor" in parts.watches


async def test_a_close_ends_the_renewal_of_permits_too(
    monkeypatch: pytest.MonkeyPatch, stub: StubApi
) -> None:
    """It begins with the first request, and would go on over a connection that is closed."""
    monkeypatch.setenv("TRAINMASTER_CONCURRENT_REQUESTS", "1")
    stub.default = reply(200, b"[]")
    settings = load_settings()
    before = asyncio.all_tasks()
    parts = create_components(settings, lambda _: None, create_monitor(settings))
    dependencies = parts.pool._executor.dependencies
    (await dependencies.service(Encord).transport.send("GET", "/ml-models")).accept()
    assert [each.get_name() for each in asyncio.all_tasks() - before] == ["permits"]
    await parts.close()
    assert asyncio.all_tasks() == before
