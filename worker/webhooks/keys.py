"""The names of what webhooks keep in Redis, beside the streams of commands and dead letters.

::

    {ns}:delivery:<source>/<id>   hash     one delivery, see `worker.webhooks.records`
    {ns}:deliveries               zset     <source>/<id>, by the time (ms) at which it was recorded
    {ns}:windows                  zset     ids of windows, by the time (ms) at which they are due;
                                           and '', as long as it holds all that there are
    {ns}:window:<window id>       list     what a window says of itself, then what has joined it
    {ns}:window-open:<name>       hash     the window of a rule and a key that others still join

A window's id is its name, a slash and 32 hexadecimal digits; the scripts rely on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.queue.ledger.keys import Keys


def delivery_key(keys: Keys, name: str) -> str:
    """What is known of a delivery."""
    return f"{keys.prefix}delivery:{name}"


def deliveries_key(keys: Keys) -> str:
    """The names of all deliveries."""
    return f"{keys.prefix}deliveries"


def windows_key(keys: Keys) -> str:
    """The ids of all windows."""
    return f"{keys.prefix}windows"


def window_key(keys: Keys, window_id: str) -> str:
    """What has joined a window."""
    return f"{keys.prefix}window:{window_id}"


def open_window_key(keys: Keys, name: str) -> str:
    """The window that others still join."""
    return f"{keys.prefix}window-open:{name}"
