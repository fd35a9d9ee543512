"""The witness of a ledger: a file in the result store that remembers its epoch.

A Redis that was emptied while no worker ran looks like a new one. So every worker leaves the epoch
outside of Redis too, in `ledgers/<namespace>-<digest of Redis' address>.json` of the result store.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import orjson
import structlog

from worker.errors import ShortageError

if TYPE_CHECKING:
    from worker.queue.pool.results import ResultStore
    from worker.redis_address import RedisAddress

log = structlog.get_logger(__name__)

# A store that does not answer keeps a worker from starting for no longer.
STORE_SECONDS: Final = 10.0
# Stores may delete what is old.
REFRESH_SECONDS: Final = 24 * 3600.0
_LOOPBACK: Final = frozenset({"localhost", "::1"})


class Witness:
    """What the result store remembers of one ledger.

    Args:
        store: where results lie.
        address: of Redis.
        namespace: of the ledger.
    """

    def __init__(self, store: ResultStore, address: RedisAddress, namespace: str) -> None:
        self._store = store
        digest = hashlib.sha256(_place(address).encode()).hexdigest()[:16]
        self.name = f"ledgers/{namespace}-{digest}.json"

    async def recall(self) -> str | None:
        """Returns the epoch that was left; None where there is none, or the store is away."""
        try:
            found = await self._store.read(self.name, STORE_SECONDS)
            epoch = None if found is None else orjson.loads(found)["epoch"]
        except (OSError, ShortageError, ValueError, KeyError, TypeError) as exc:
            self._warn(exc)
            return None
        return epoch if isinstance(epoch, str) else None

    async def remember(self, epoch: str) -> None:
        """Leaves the epoch; a store that can't be written is a warning."""
        written_at = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            payload = orjson.dumps({"epoch": epoch, "written_at": written_at})
            await self._store.write(self.name, payload, STORE_SECONDS)
        except (OSError, ShortageError) as exc:
            self._warn(exc)

    async def keep(self, epoch: str) -> None:
        """Leaves the epoch, again each day, until it is cancelled."""
        while True:
            await self.remember(epoch)
            await asyncio.sleep(REFRESH_SECONDS)

    def _warn(self, exc: Exception) -> None:
        # The text of such an error names paths and URLs; what the system calls it is enough.
        reason = exc.strerror if isinstance(exc, OSError) else None
        log.warning(
            "ledger.witness_unreachable",
            file=self.name,
            reason=reason or type(exc).__name__,
            advice="without it nobody sees that Redis was emptied while no worker ran: look at "
            "TRAINMASTER_RESULT_STORE",
        )


def _place(address: RedisAddress) -> str:
    """Returns what tells one Redis from another, without user and password.

    The same loopback address is another server on each machine.
    """
    hosts = []
    for host, port in sorted(address.hosts):
        is_here = host.lower() in _LOOPBACK or host.startswith("127.")
        hosts.append(f"{socket.gethostname() + '/loopback' if is_here else host.lower()}:{port}")
    return f"{','.join(hosts)}/{address.db}/{address.service}"
