"""The names of what sinks keep in Redis, beside their followers.

::

    {ns}:sink:<name>          hash     counts, last error, pause of a sink, see `deferred`
    {ns}:sink-waiting:<name>  hash     entry id -> event that is put off, or waits behind such one
    {ns}:sink-retries:<name>  hash     command id -> JSON: tries and times of what it waits for
    {ns}:sink-unsent:<name>   stream   fields `event`, `entry`, `error`: what could not be sent
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.queue.ledger.keys import Keys


def follower_name(sink: str) -> str:
    """The name under which a sink follows the events."""
    return f"sinks.{sink}"


def sink_key(keys: Keys, sink: str) -> str:
    """Counts, last error and pause of a sink."""
    return f"{keys.prefix}sink:{sink}"


def waiting_key(keys: Keys, sink: str) -> str:
    """The events that are put off."""
    return f"{keys.prefix}sink-waiting:{sink}"


def retries_key(keys: Keys, sink: str) -> str:
    """Tries and times of the commands whose events are put off."""
    return f"{keys.prefix}sink-retries:{sink}"


def unsent_key(keys: Keys, sink: str) -> str:
    """The events that could not be sent."""
    return f"{keys.prefix}sink-unsent:{sink}"
