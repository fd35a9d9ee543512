"""The format of what lies in Redis, by which a version knows that it is too old for it.

Two marks tell it, and both are absent as long as the format is 1:

- `u` of a row: whoever reads no such format leaves the row to others, however long, and counts
  no claim: `claim`, `claim_expired` and `restore` pass it over.
- `{ns}:format` for all of a ledger: a worker that reads no such format does not start, and one that
  runs stops. What is raised is not lowered.

What may change without a mark, and when one is raised, stands in `docs/upgrades.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from worker.errors import NewerLedgerError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

# What this version reads and writes. `scripts/include/newer.lua` has it too.
FORMAT: Final = 1


async def refuse_newer(redis: Redis, keys: Keys) -> None:
    """Does nothing where this version reads what the ledger holds.

    Raises:
        NewerLedgerError: it is too old for it.
    """
    found = cast("bytes | None", await redis.get(keys.format))
    # What is no number was written by someone else, and says nothing.
    if found is None or not found.isdigit() or int(found) <= FORMAT:
        return
    raise NewerLedgerError(
        f"the ledger has format {int(found)} and this version of trainmaster reads {FORMAT}: a "
        "newer version has written what this one could not carry out. Install that one "
        "(`trainmaster workers` names it where one runs); nothing was touched"
    )
