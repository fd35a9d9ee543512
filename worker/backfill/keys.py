"""The names of what backfills keep in Redis, beside their group and its members.

::

    {ns}:backfills           zset     ids of backfills, by the time (ms) at which they began
    {ns}:backfill:<id>       hash     plan, cursor and leader of one, see `worker.backfill.store`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.queue.ledger.keys import Keys


def backfills_key(keys: Keys) -> str:
    """The ids of all backfills."""
    return f"{keys.prefix}backfills"


def backfill_key(keys: Keys, backfill_id: str) -> str:
    """Plan, cursor and leader of a backfill."""
    return f"{keys.prefix}backfill:{backfill_id}"
