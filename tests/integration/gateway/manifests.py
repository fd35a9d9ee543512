"""What a gateway is sent to start a backfill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from worker.queue.ledger.keys import COMMAND_FIELD

if TYPE_CHECKING:
    from worker.queue.ledger.keys import Keys

BACKFILLS = "/v1/backfills"
CSV = {"content-type": "text/csv"}
PROJECT = "0b8b8b8a-1111-4222-8333-444455556666"
ASKED = {
    "task": "object_detection",
    "project_uuid": PROJECT,
    "project_model_uuid": "0b8b8b8a-1111-4222-8333-444455557777",
    "training_uuid": "0b8b8b8a-1111-4222-8333-444455558888",
}
MANIFEST = b"file\n/data/a.jpg\n/data/b.jpg\n"


def start(http: Any, body: bytes = MANIFEST, *, headers: dict[str, str] = CSV, **query: Any) -> Any:
    """Sends a manifest; returns the answer."""
    return http.post(BACKFILLS, params={**ASKED, **query}, content=body, headers=headers)


def sent(raw_redis: Any, keys: Keys) -> list[dict[str, Any]]:
    """Returns the commands that wait for a worker."""
    return [orjson.loads(fields[COMMAND_FIELD]) for _, fields in raw_redis.xrange(keys.commands)]
