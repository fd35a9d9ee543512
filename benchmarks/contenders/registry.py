"""All contenders by name; a peer is known only where it is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.contenders.bare import BARE_AIOHTTP, BARE_HTTPX
from benchmarks.contenders.ours import Trainmaster

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contenders.contender import Contender

OURS: Final = Trainmaster()
CEILINGS: Final[tuple[Contender, ...]] = (BARE_HTTPX, BARE_AIOHTTP)


def contenders(only: Sequence[str] = ()) -> tuple[Contender, ...]:
    """Returns all that are installed, ours first; or those whose name holds one of `only`."""
    found = (OURS, *CEILINGS)
    chosen = tuple(one for one in found if any(part in one.name for part in only))
    return chosen or found
