"""What commands have of the ledger that they look at."""

from __future__ import annotations

import pytest
from redis.exceptions import AuthenticationError, InvalidResponse, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError

from worker.cli.context import LedgerContext


@pytest.mark.parametrize("seconds", [0.0, 7.0])
def test_a_client_waits_for_redis_as_long_as_its_command_does(seconds: float) -> None:
    """Most commands say at once that it is away; only who waits anyway waits for it."""
    # Nothing listens there, and nothing is sent.
    ledger = LedgerContext("redis://127.0.0.1:1/0", "ns-1,ns-2")
    with ledger.partitions[0].client(seconds) as client:
        assert (client.namespace, client._patience_seconds) == ("ns-1", seconds)
    with ledger.clients(seconds) as clients:
        found = [each._patience_seconds for each in clients.clients.values()]
    assert found == [seconds] * 2


@pytest.mark.parametrize(
    ("exc", "advice"),
    [
        (
            RedisConnectionError("no"),
            "; check that it runs, and that TRAINMASTER_REDIS_URL leads to it",
        ),
        (InvalidResponse("no"), "; what answers there is no Redis: check TRAINMASTER_REDIS_URL"),
        (AuthenticationError("no"), "; check user and password in TRAINMASTER_REDIS_URL"),
        (ReadOnlyError("no"), ""),
    ],
)
def test_trouble_with_redis_says_which_setting_to_look_at(exc: Exception, advice: str) -> None:
    assert LedgerContext("redis://127.0.0.1:1/0", None).trouble(exc) == f"Redis: no{advice}"
