"""Leases as the ledger gives them, for tests of what a pool does with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.queue.ledger.models import Lease, RowState, Token

if TYPE_CHECKING:
    from schemas.enums import Priority


def lease_of(lane: Priority, state: RowState = RowState.ACCEPTED, *, text: bytes = b"{}") -> Lease:
    """Returns a lease of a command that is due at once."""
    return Lease("one", Token(1), lane, state, 0, 1, 0, "1-0", None, [], text)
