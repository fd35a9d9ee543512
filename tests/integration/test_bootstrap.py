"""What a worker is built of: its own questions to the API, and settings that reach their place."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import replace
from email.utils import formatdate
from enum import Enum
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.signatures import openssh
from tests.stub_api import Answer, reply
from worker.bootstrap import (
    create_breaker,
    create_components,
    create_dependencies,
    create_downloads,
    create_monitor,
    create_supervisor,
    create_transport,
)
from worker.encord.api.client import MlModelsApi
from worker.encord.context import Encord, PollSchedule
from worker.environment import load_settings
from worker.errors import RetryableError
from worker.http.timeouts import Timeouts
from worker.queue.ledger.rate_limits import HEADROOM
from worker.settings import Settings, environment_names
from worker.thread_pools import ThreadPools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.stub_api import StubApi
    from worker.encord.api.throttle import ThrottledTransport
    from worker.queue.ledger.ledger import Ledger
    from worker.queue.ledger.models import Lease
    from worker.queue.pool.supervisor import Components

HOUR = 3600.0
PATIENCE_SECONDS = 60
LEASE_SECONDS = 3.0
NOBODY_HOME = Answer(b"", "hang")
TRICKLING = Answer(b"HTTP/1.1 200 Stub\r\ncontent-length: 1000000\r\n\r\n", "trickle")
MODELS = reply(200, b'{"results": [], "nextPageToken": null}')


@pytest.fixture(autouse=True)
def _settings(
    monkeypatch: pytest.MonkeyPatch, stub: StubApi, redis_url: str, namespace: str
) -> None:
    """A worker of this test's namespace that asks the stub, by a key that nobody knows."""
    for name in environment_names().values():
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "TRAINMASTER_REDIS_URL": redis_url,
        "TRAINMASTER_NAMESPACE": namespace,
        "ENCORD_DOMAIN": stub.url,
        "ENCORD_SSH_KEY": openssh(Ed25519PrivateKey.generate()).decode(),
    }.items():
        monkeypatch.setenv(name, value)


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


def test_a_stop_waits_for_longer_than_an_answer_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off before, a change that was under way would be in doubt."""
    monkeypatch.setenv("TRAINMASTER_READ_TIMEOUT_SECONDS", "777")
    supervisor = create_supervisor(load_settings(), lambda: None, lambda: None)
    assert supervisor._times.grace > 777


async def test_a_stop_keeps_the_lease_of_the_change_that_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, stub: StubApi, ledger: Ledger
) -> None:
    """Claimed by another worker meanwhile, what the change came to could not be recorded."""
    monkeypatch.setenv("TRAINMASTER_LEASE_SECONDS", str(LEASE_SECONDS))
    stub.default = MODELS

    def no_celery() -> None:
        raise RuntimeError("whoever can't send a wake-up drains by itself")

    supervisor = create_supervisor(load_settings(), no_celery, lambda: None)
    await asyncio.to_thread(supervisor.start)
    stub.default = replace(reply(204), delay_seconds=2 * LEASE_SECONDS)
    before = len(stub.recorded)
    command = {"type": "delete_model", "id": "slow", "data": {"model_uuid": str(uuid4())}}
    await asyncio.to_thread(supervisor.submit, orjson.dumps(command))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(stub.recorded) == before:
            await asyncio.sleep(0.01)
    stopping = asyncio.create_task(asyncio.to_thread(supervisor.stop))
    found: list[Lease] = []
    while not stopping.done():
        found += (await ledger.claim(10, suspects=1)).leases
        await asyncio.sleep(LEASE_SECONDS / 20)
    assert found == [], "another worker claims it"
    assert await ledger.redis.hget(ledger.keys.command("slow"), "s") == b"succeeded"


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
    await parts.close()
