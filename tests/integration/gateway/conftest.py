"""A gateway on the test's own namespace."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson
import pytest
from redis import Redis as BlockingRedis

from tests.gateway_process import GatewayServer, serving_gateway
from tests.integration import backfilling
from tests.integration.backfilling import NAME, Backfilling
from tests.integration.ledger_acts import MODEL_UUID
from worker.backfill.status import Origin
from worker.gateway.access.tokens import Scope, Tokens
from worker.queue.ledger.connection import connect
from worker.queue.ledger.dead_letters import FIELD, dead_letter_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

GOOD: Final = orjson.dumps({"type": "get_model", "data": {"model_uuid": MODEL_UUID}})


class ServeGateway(Protocol):
    """Serves a further gateway of the same namespace."""

    def __call__(self, **settings: Any) -> AbstractContextManager[GatewayServer]:
        """Takes settings of `GatewaySettings`."""


@pytest.fixture
def serve_gateway(redis_url: str, namespace: str, tmp_path: Path) -> ServeGateway:
    """Serves gateways with settings of their own."""

    def serve(**settings: Any) -> AbstractContextManager[GatewayServer]:
        told = {
            "redis_url": redis_url,
            "namespace": namespace,
            "gateway_folder": tmp_path / "gateway",
            **settings,
        }
        return serving_gateway(**told)

    return serve


class MakeToken(Protocol):
    """Makes a token as the command line does."""

    def __call__(
        self, *scopes: Scope, types: Collection[str] = (), projects: Collection[str] = ()
    ) -> str:
        """Returns its secret."""


class Bury(Protocol):
    """Puts a dead letter where workers put theirs."""

    def __call__(
        self,
        command_id: str,
        *,
        code: str = "not_found",
        command_type: str = "get_model",
        text: bytes = GOOD,
        at_ms: int = 1000,
    ) -> str:
        """Returns its key, whose time is the one at which it died."""


@pytest.fixture
def make_token(redis_url: str, keys: Keys) -> MakeToken:
    """Makes tokens of the test's namespace."""

    def make(*scopes: Scope, types: Collection[str] = (), projects: Collection[str] = ()) -> str:
        async def create() -> str:
            redis = connect(redis_url)
            try:
                _, secret = await Tokens(redis, keys).create("test", scopes, types, projects)
                return secret
            finally:
                await redis.aclose()

        # A test that has a loop can't run another one itself.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(create())).result()

    return make


@pytest.fixture
def raw_redis(redis_url: str) -> Iterator[BlockingRedis]:
    """A client for tests without a loop; it returns bytes."""
    with BlockingRedis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def bury(raw_redis: BlockingRedis, keys: Keys) -> Bury:
    """Puts dead letters into the test's namespace."""
    numbers = count()

    def put(
        command_id: str,
        *,
        code: str = "not_found",
        command_type: str = "get_model",
        text: bytes = GOOD,
        at_ms: int = 1000,
    ) -> str:
        error = {"code": code, "message": "m"}
        letter = dead_letter_json(
            command_id=command_id,
            command_type=command_type,
            error=error,
            text=text,
            at_ms=at_ms,
            attempts=1,
            history=[{"at": "2025-11-25T12:00:00.000Z", **error}],
        )
        key = f"{at_ms}-{next(numbers)}"
        raw_redis.xadd(keys.dead_letters, {FIELD: letter}, id=key)
        return key

    return put


@pytest.fixture
def gateway(request: pytest.FixtureRequest, serve_gateway: ServeGateway) -> Iterator[GatewayServer]:
    """A gateway; an indirect parameter tells its settings, as a dict."""
    with serve_gateway(**getattr(request, "param", {})) as served:
        yield served


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    """Where manifests are kept; it need not be there."""
    return tmp_path / "uploads"


@pytest.fixture
async def night(redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path) -> Backfilling:
    """A backfill that came through the queue, led by nobody."""
    (tmp_path / "night").mkdir()
    plan = backfilling.make_plan(tmp_path / "night")
    store = backfilling.store_of(redis, keys)
    await store.open(NAME, plan, Origin.QUEUE, "1-1")
    return Backfilling(redis, keys, ledger, store, plan)
