"""How redis-py's clients write commands for Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from redis.connection import HiredisRespSerializer
from redis.utils import HIREDIS_AVAILABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

R = TypeVar("R", bound="redis.Redis")


def numbers_as_text(arguments: Iterable[Any]) -> list[Any]:
    """Returns the arguments of a command as hiredis may have them.

    hiredis asks Python for the text of a number. A handler of signals may run there, and where it
    raises, as Ctrl-C's does, hiredis reads what is not there: the process ends with SIGSEGV.
    """
    return [
        str(each) if type(each) is int else repr(each) if isinstance(each, float) else each
        for each in arguments
    ]


class Packer:
    """Packs commands with hiredis, in a process whose handlers of signals may raise."""

    def pack(self, *args: Any) -> list[bytes]:
        """Returns a command as it goes to Redis.

        Raises:
            redis.exceptions.DataError: an argument is neither text nor bytes nor a number.
        """
        packed = HiredisRespSerializer().pack(*numbers_as_text(args))
        return cast("list[bytes]", packed)


def pack_safely(client: R) -> R:
    """Has a client's connections pack by a `Packer` where redis-py would use hiredis; returns it.

    Clients for event loops need none: redis-py packs their commands in Python.
    """
    if HIREDIS_AVAILABLE:
        client.connection_pool.connection_kwargs["command_packer"] = Packer()
    return client
