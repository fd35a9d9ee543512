"""Dead letters, without a worker that wrote them."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Final

import orjson

from tests.integration.ledger_acts import MODEL_UUID
from worker.queue.ledger.dead_letters import FIELD, dead_letter_json

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.integration.gateway.page.browser import Backstage
    from worker.queue.ledger.keys import Keys

GOOD: Final = orjson.dumps({"type": "get_model", "data": {"model_uuid": MODEL_UUID}})
_numbers: Final = count()


def bury(backstage: Backstage, *ids: str, code: str, text: bytes = GOOD) -> None:
    """Puts dead letters where workers put theirs."""
    error = {"code": code, "message": f"for {code}"}

    async def put(redis: Redis, keys: Keys) -> None:
        for each in ids:
            at_ms = int(time.time() * 1000) - 60_000
            letter = dead_letter_json(
                command_id=each,
                command_type="get_model",
                error=error,
                text=text,
                at_ms=at_ms,
                attempts=2,
                history=[{"at": "2025-11-25T12:00:00.000Z", **error}],
            )
            key = f"{at_ms}-{next(_numbers)}"
            await redis.xadd(keys.dead_letters, {FIELD: letter}, id=key)

    backstage.do(put)
