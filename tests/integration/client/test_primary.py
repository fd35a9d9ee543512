"""Failovers of which a client's connections know nothing: they stay with what was the primary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ReadOnlyError, ResponseError

from tests.failover import running_pair
from trainmaster_client.primary import is_of_no_primary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_what_was_the_primary_refuses_a_client_once_and_is_left_for_the_new_one(
    open_client: Callable[..., Any], tmp_path: Path
) -> None:
    with running_pair(tmp_path) as pair:
        client = open_client(pair.url, patience_seconds=5)
        before = client.submit("list_models", {}, id="before")
        pair.fail_over()
        added = client.submit_many({"type": "list_models", "id": f"after-{n}"} for n in range(3))
        assert [*added] == ["after-0", "after-1", "after-2"]
        assert before.entry_id < added[0].entry_id
        # One more, over the connection that has moved.
        opened = pair.connections
        client.submit("list_models", {}, id="later")
        assert pair.connections == opened


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ReadOnlyError("You can't write against a read only replica."), True),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (ResponseError("MASTERDOWN Link with MASTER is down"), True),
        (ResponseError("WRONGTYPE Operation against a key"), False),
    ],
)
def test_only_who_may_be_no_primary_is_left(error: ResponseError, found: bool) -> None:
    assert is_of_no_primary(error) is found
