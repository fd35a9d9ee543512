"""The names of what the gateway keeps in Redis.

::

    {ns}:tokens              hash     id of a token -> its record, see `access.tokens`
    {ns}:submitted:<id>      string   fingerprint and type of a command, read or not
    {ns}:requests:<second>:<token>    string   requests of a token in one second
    {ns}:answered:<digest>   string   an act that was begun, and its answer, see `act_route`
    {ns}:tallies             hash     a metric and the values of its labels -> how often
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.queue.ledger.keys import Keys


def tokens_key(keys: Keys) -> str:
    """The records of all tokens; none holds a secret."""
    return f"{keys.prefix}tokens"


def submitted_key(keys: Keys, command_id: str) -> str:
    """The fingerprint and type of a command that was sent over HTTP, until a worker has read it."""
    return f"{keys.prefix}submitted:{command_id}"


def requests_key(keys: Keys, caller: str, second: int) -> str:
    """How many requests a caller has sent in one second."""
    return f"{keys.prefix}requests:{second}:{caller}"


def answer_key(keys: Keys, name: str) -> str:
    """An act that came with a key, and what it was answered."""
    return f"{keys.prefix}answered:{name}"


def tallies_key(keys: Keys) -> str:
    """What the gateway has counted, see `worker.gateway.tallies`."""
    return f"{keys.prefix}tallies"
