"""The names of what the gateway keeps in Redis.

::

    {ns}:tokens              hash     id of a token -> its record, see `worker.gateway.tokens`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.queue.ledger.keys import Keys


def tokens_key(keys: Keys) -> str:
    """The records of all tokens; none holds a secret."""
    return f"{keys.prefix}tokens"
