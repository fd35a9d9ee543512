"""Rules of a supervisor: it goes on by itself, and leaves nothing behind when it stops."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.intake_acts import until
from tests.integration.ledger_acts import now_ms
from tests.signatures import openssh
from tests.stub_api import StubApi, reply
from worker.bootstrap.supervisor import create_supervisor
from worker.environment import load_settings
from worker.queue.ledger.keys import COMMAND_FIELD
from worker.settings import environment_names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.models import Accepted
    from worker.queue.pool.supervisor import Supervisor

MODELS = reply(200, b'{"results": [], "nextPageToken": null}')
SLICE_SECONDS = 1.0
# Longer than a test: what no drain of its own takes is taken by nobody.
SWEEP_SECONDS = 60.0


@pytest.fixture
async def supervisor(
    monkeypatch: pytest.MonkeyPatch, stub: StubApi, redis_url: str, namespace: str
) -> AsyncIterator[Supervisor]:
    """The supervisor of two slots, whose wake-ups reach nobody."""
    for name in environment_names().values():
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "TRAINMASTER_REDIS_URL": redis_url,
        "TRAINMASTER_NAMESPACE": namespace,
        "TRAINMASTER_CONCURRENCY": "2",
        "TRAINMASTER_SLICE_SECONDS": str(SLICE_SECONDS),
        "TRAINMASTER_SWEEP_SECONDS": str(SWEEP_SECONDS),
        "ENCORD_DOMAIN": stub.url,
        "ENCORD_SSH_KEY": openssh(Ed25519PrivateKey.generate()).decode(),
    }.items():
        monkeypatch.setenv(name, value)
    stub.default = MODELS
    made = create_supervisor(load_settings(), lambda: None, lambda: None)
    await asyncio.to_thread(made.start)
    yield made
    await asyncio.to_thread(made.stop)


async def send(redis: Redis, keys: Keys, count: int) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for number in range(count):
            command = {"type": "list_models", "id": f"id-{number}", "data": {}}
            pipe.xadd(keys.commands, {COMMAND_FIELD: orjson.dumps(command)})
        await pipe.execute()


@pytest.mark.usefixtures("supervisor")
async def test_a_time_slice_that_ends_with_commands_due_is_followed_by_another(
    redis: Redis, keys: Keys, stub: StubApi
) -> None:
    """At once: no sweep and no wake-up is waited for."""
    stub.default = replace(MODELS, delay_seconds=0.2)
    begun = time.monotonic()
    await send(redis, keys, 30)

    async def all_ended() -> bool:
        return not await redis.zcard(keys.due_interactive)

    await until(lambda: _accepted(redis, keys, 30))
    async with asyncio.timeout(SWEEP_SECONDS / 2):
        await until(all_ended)
    assert time.monotonic() - begun > 2 * SLICE_SECONDS


async def test_a_stop_hands_back_what_an_accept_has_claimed_whose_reply_it_did_not_wait_for(
    supervisor: Supervisor, redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would wait for the end of a lease that nobody holds any more."""
    components = supervisor._components
    assert components is not None
    accept = components.ledger.accept_and_claim

    async def late(*args: Any, **options: Any) -> Accepted:
        told = await accept(*args, **options)
        if told.leases:
            await asyncio.sleep(SWEEP_SECONDS)
        return told

    monkeypatch.setattr(components.ledger, "accept_and_claim", late)
    await send(redis, keys, 1)

    async def is_claimed() -> bool:
        return await redis.hget(keys.command("id-0"), "s") == b"running"

    await until(is_claimed)
    monkeypatch.setattr(components.ledger, "accept_and_claim", accept)
    await asyncio.to_thread(supervisor.stop)
    due_ms = await redis.zscore(keys.due_interactive, "id-0")
    assert due_ms is not None
    assert due_ms <= await now_ms(redis)
    assert await redis.hmget(keys.command("id-0"), "n", "c") == [b"2", b"0"]


async def _accepted(redis: Redis, keys: Keys, count: int) -> bool:
    return bool(await redis.exists(keys.command(f"id-{count - 1}")))
