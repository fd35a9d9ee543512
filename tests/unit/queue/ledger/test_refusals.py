"""What Redis' refusals mean: which end by themselves, and which wait for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from trainmaster_client.steps import passes
from worker.embedded import EmbeddedRedis
from worker.queue.ledger.connection import connect
from worker.queue.ledger.refusals import is_brief, is_misplaced, word_of

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize("transaction", [True, False])
async def test_a_refusal_of_one_of_several_commands_is_what_it_is_of_one(
    tmp_path: Path, *, transaction: bool
) -> None:
    """redis-py begins its text with the command, which names an id that others chose."""

    async def refused(*command: object) -> Exception:
        pipe = redis.pipeline(transaction=transaction)
        pipe.execute_command(*command)
        with pytest.raises(ResponseError) as caught:
            await pipe.execute()
        return caught.value

    with EmbeddedRedis(tmp_path) as server:
        redis = connect(server.url)
        await redis.set("text", "one")
        assert is_misplaced(await refused("HGET", "text", "f"))
        await redis.config_set("min-replicas-to-write", 1)
        error = await refused("SET", "text:WRONGTYPE", "one")
        assert (passes(error), word_of(error), is_misplaced(error)) == (True, "NOREPLICAS", False)
        await redis.aclose()
