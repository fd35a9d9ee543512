"""Groups: commands that belong together, and what whoever made a group says of its members.

A member's row is gone with its end: what it came to is counted and kept by its group. A group has
no events and no dead letters for its members but those that its owner wants.

The hash of a group::

    state, reason            running, paused, cancelling, or an end of its owner's; and why
    entry                    what the entries of its members begin with, and that of its command
    succeeded, failed, failed:<code>, dropped   how members ended; dropped by a cancellation
    most_failures, largest_share   limits at which `finish` pauses it
    acknowledged, acknowledged_of  failures and ends that a resume has made light of
    orphaned                 1 once the command that led it has failed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from schemas.events import EVENT_SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from worker.queue.ledger.models import Lease


@dataclass(frozen=True, slots=True)
class MemberEnd:
    """The end of a member's last run.

    Attributes:
        seconds: that the run took.
    """

    lease: Lease
    command: Command | ClaimCheck
    seconds: float


class GroupOwner(Protocol):
    """Says what is told of a group's members, and what their group keeps of them."""

    def is_silent(self, context: Mapping[str, Any]) -> bool:
        """Returns whether no event tells of a member, by the context that its events would have."""
        ...

    def event_source(self, group_id: str) -> str:
        """Returns the source of events about members, for a command may have a member's id."""
        ...

    def succeeded(self, end: MemberEnd, result: Any, dataref: str | None) -> bytes:
        """Returns the record of a member that succeeded."""
        ...

    def failed(self, end: MemberEnd, error: dict[str, Any], attempts: int) -> bytes:
        """Returns the record of a member that failed."""
        ...

    def unreadable(self, lease: Lease, error: dict[str, Any]) -> bytes:
        """Returns the record of a member whose command no worker can read."""
        ...


def event_source(owner: GroupOwner, lease: Lease) -> str:
    """Returns the source of the events about what a lease is of."""
    return owner.event_source(lease.group) if lease.group else EVENT_SOURCE
