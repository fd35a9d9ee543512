"""What it means that a Redis that can be reached refuses a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redis.exceptions import AuthenticationError, ClusterError, ResponseError

from trainmaster_client.steps import answer_of, passes

if TYPE_CHECKING:
    from collections.abc import Sequence

# By the first word of what the server answers; what passes by itself says so.
REFUSALS: Final = {
    "NOREPLICAS": (
        "too few replicas are connected: min-replicas-to-write is not met",
        (
            "bring replicas back, or lower it: CONFIG SET min-replicas-to-write 0; "
            "workers wait and go on by themselves"
        ),
    ),
    "READONLY": (
        "this server is a replica and accepts no writes",
        "point TRAINMASTER_REDIS_URL at the primary; sentinel:// finds it after each failover",
    ),
    "OOM": (
        "the server is full: maxmemory is reached",
        "raise maxmemory, or keep ids and events for a shorter time",
    ),
    "MISCONF": (
        "the server can't write to its disk",
        "look at the server's log: is its disk full?",
    ),
    "MASTERDOWN": (
        "this server is a replica that has lost its primary",
        "point TRAINMASTER_REDIS_URL at the primary, or promote a replica",
    ),
    "CLUSTERDOWN": (
        "the cluster is down",
        "look at CLUSTER INFO; workers wait and go on by themselves",
    ),
    "MOVED": (
        "this server is a node of a Redis Cluster, and others hold this namespace",
        "write redis+cluster:// (by TLS rediss+cluster://) in TRAINMASTER_REDIS_URL",
    ),
    "TRYAGAIN": (
        "the cluster is moving this namespace's slot to another node",
        "finish it: redis-cli --cluster fix; workers wait and go on by themselves",
    ),
    "BUSY": (
        "someone's script keeps the server busy",
        "end it: SCRIPT KILL",
    ),
    "WRONGTYPE": (
        "a key of this namespace holds something of another type",
        "see who else writes to it; set TRAINMASTER_NAMESPACE to a name that is only ours",
    ),
}
# They end once a person has done something, and no restart or failover is on its way.
_LASTING: Final = frozenset({"OOM", "MISCONF"})

_WORDS: Final = {
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "MovedError": "MOVED",
    "TryAgainError": "TRYAGAIN",
    "NoPermissionError": "NOPERM",
}


class EndsRefusedError(ResponseError):
    """Keys of their groups refuse some ends; the others were recorded as if they had come alone.

    Attributes:
        done: for each end whether it was recorded, False where it was fenced; None where it is
            refused.
    """

    def __init__(self, reason: str, done: Sequence[bool | None]) -> None:
        super().__init__(reason)
        self.done = done


def is_misplaced(found: object) -> bool:
    """Tells whether a reply, or what was raised, says that a key holds something else.

    Someone wrote over it, so that what it held is gone.
    """
    return isinstance(found, ResponseError) and answer_of(found).startswith("WRONGTYPE")


def word_of(error: BaseException) -> str:
    """Returns the first word of what the server answered."""
    # redis-py takes the word off where it has a class of its own for it.
    return _WORDS.get(type(error).__name__) or answer_of(error).partition(" ")[0]


def refusal_of(error: BaseException | None) -> str | None:
    """Returns why a Redis that answers does not do what it is asked; None where none answers."""
    if isinstance(error, AuthenticationError):
        return "it does not take the user or the password"
    if not isinstance(error, ResponseError | ClusterError):
        return None
    word = word_of(error)
    if word == "NOPERM":
        return "the user that asks may not do this"
    return REFUSALS[word][0] if word in REFUSALS else "it answers with an error"


def is_brief(error: BaseException) -> bool:
    """Tells whether seconds may mend it: a restart, a failover, a connection that was lost."""
    return passes(error) and word_of(error) not in _LASTING
