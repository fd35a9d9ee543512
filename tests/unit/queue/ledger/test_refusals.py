"""What Redis' refusals mean: which end by themselves, and which wait for a person."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from worker.queue.ledger.refusals import is_brief


@pytest.mark.parametrize(
    ("error", "is_soon_over"),
    [
        (RedisConnectionError("refused"), True),
        (ReadOnlyError("You can't write against a read only replica."), True),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), False),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), False),
    ],
)
def test_what_only_a_person_ends_is_not_waited_for(error: Exception, *, is_soon_over: bool) -> None:
    assert is_brief(error) is is_soon_over
