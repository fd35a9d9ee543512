"""The names of what followers of the events keep in Redis.

::

    {ns}:follower:<name>     hash     leader, lease and position of a follower, see `follower_store`
    {ns}:followers           hash     name -> time of its position and when it was seen, in ms; the
                                      queue reads it before it trims the events
    {ns}:parked:<name>       stream   fields `event`, `error`, `tries`: what its handler could not
                                      handle, the last 100,000
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.queue.ledger.keys import Keys


def follower_key(keys: Keys, name: str) -> str:
    """Leader, lease and position of a follower."""
    return f"{keys.prefix}follower:{name}"


def parked_key(keys: Keys, name: str) -> str:
    """The events that a follower's handler could not handle."""
    return f"{keys.prefix}parked:{name}"
