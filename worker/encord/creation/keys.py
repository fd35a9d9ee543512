"""The names of what creations keep in Redis, beside their commands and locks.

::

    {ns}:orphan:<id>         string   what a worker created for a command that it holds no more
    {ns}:unsent:<id>         string   which intent of such a command came to nothing
    {ns}:ambiguous:<name>    zset     what each creates and its id, where creations look the same,
                                      by the time (s) at which it began
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.queue.ledger.keys import Keys


def orphan_key(keys: Keys, command_id: str) -> str:
    """What a worker created for a command that it holds no more."""
    return f"{keys.prefix}orphan:{command_id}"


def unsent_key(keys: Keys, command_id: str) -> str:
    """Which intent of a worker that holds the command no more came to nothing."""
    return f"{keys.prefix}unsent:{command_id}"


def ambiguous_key(keys: Keys, name: str) -> str:
    """The commands whose creations the API can't tell apart."""
    return f"{keys.prefix}ambiguous:{name}"
