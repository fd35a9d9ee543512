"""Commands over HTTP while Redis answers and refuses: who waits, and who is told at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from tests.gateway_process import GatewayServer, serving_gateway
from tests.integration.gateway.conftest import GOOD
from worker.embedded import EmbeddedRedis
from worker.gateway.submission.submitter import PATIENCE_SECONDS
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

    Act = Callable[[Redis, Keys], object]

NAMESPACE = "refused"
JSON = {"content-type": "application/json"}
AT_ONCE_SECONDS = PATIENCE_SECONDS / 2


def change_password(client: Redis, keys: Keys) -> None:
    """Ends every connection, so that each has to say a password that is no longer taken."""
    del keys
    client.acl_setuser("operator", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
    client.acl_setuser("default", enabled=True, reset_passwords=True, passwords=["+another"])
    client.client_kill_filter(_type="normal", skipme=True)


LASTING: dict[str, tuple[Act, str]] = {
    "a full server": (lambda client, _: client.config_set("maxmemory", 1), "is full"),
    "a password that was changed": (change_password, "the user or the password"),
    "something else where the commands are": (
        lambda client, keys: client.set(keys.commands, "text"),
        "of another type",
    ),
    "no right to write": (
        lambda client, _: client.acl_setuser("default", enabled=True, commands=["-xadd"]),
        "may not do this",
    ),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server that no other test uses, for its configuration is changed."""
    with EmbeddedRedis(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[Redis]:
    """An operator's connection to it."""
    with Redis.from_url(server.url) as found:
        yield found


@pytest.fixture
def gateway(server: EmbeddedRedis, tmp_path: Path) -> Iterator[GatewayServer]:
    """A gateway on it."""
    folder = tmp_path / "gateway"
    with serving_gateway(server.url, NAMESPACE, gateway_folder=folder) as served:
        yield served


def send(gateway: GatewayServer) -> tuple[httpx.Response, float]:
    """Sends a command; returns the answer, and after how many seconds it came."""
    begun = time.monotonic()
    answer = gateway.http.post("/v1/commands", content=GOOD, headers=JSON)
    return answer, time.monotonic() - begun


@pytest.mark.parametrize(("refuse", "said"), LASTING.values(), ids=list(LASTING))
def test_what_no_waiting_mends_is_told_at_once(
    gateway: GatewayServer, client: Redis, refuse: Act, said: str
) -> None:
    refuse(client, Keys(NAMESPACE))
    answer, seconds = send(gateway)
    assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")
    assert said in answer.json()["detail"]
    assert seconds < AT_ONCE_SECONDS


def test_a_failover_is_waited_for(gateway: GatewayServer, client: Redis) -> None:
    client.replicaof("127.0.0.1", "9")
    back = threading.Timer(1.0, client.replicaof, ("NO", "ONE"))
    back.start()
    answer, seconds = send(gateway)
    back.join()
    assert answer.status_code == 202
    assert seconds > 0.9


def test_a_failover_that_does_not_come_is_waited_for_once(
    gateway: GatewayServer, client: Redis
) -> None:
    client.replicaof("127.0.0.1", "9")
    answer, seconds = send(gateway)
    assert answer.status_code == 503
    assert "a replica" in answer.json()["detail"]
    assert seconds > AT_ONCE_SECONDS
    answer, seconds = send(gateway)
    assert answer.status_code == 503
    assert seconds < AT_ONCE_SECONDS

    client.replicaof("NO", "ONE")
    assert send(gateway)[0].status_code == 202
    # What comes another time may be a failover.
    client.replicaof("127.0.0.1", "9")
    assert send(gateway)[1] > AT_ONCE_SECONDS
