"""Acts of people that come as commands, recorded as those that have an address of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.control import Cancel, Resolve
from worker.acts import Act
from worker.gateway.access.callers import CONTROL_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.gateway.access.callers import Caller
    from worker.gateway.gateway import Gateway
    from worker.gateway.submission.submission import Submission


async def record_sent(gateway: Gateway, caller: Caller, added: Sequence[Submission]) -> None:
    """Records what of these commands is an act; what became of it their own events tell.

    Args:
        gateway: that took them.
        caller: sent them.
        added: those that came into their stream, none that had been sent before.
    """
    acts = [each for each in added if each.command.type in CONTROL_TYPES]
    cancels = [each for each in acts if each.command.type == "cancel"]
    if len(cancels) > 1:
        subjects = [_subject(each) for each in cancels]
        async with gateway.recorded(
            caller, Act.COMMANDS_CANCEL, sent=len(cancels), ids=subjects
        ) as entry:
            entry.done()
    for each in acts:
        is_cancel = each.command.type == "cancel"
        if is_cancel and len(cancels) > 1:
            continue
        act = Act.COMMAND_CANCEL if is_cancel else Act.COMMAND_RESOLVE
        async with gateway.recorded(caller, act, _subject(each), sent_as=each.command_id) as entry:
            entry.done()


def _subject(submission: Submission) -> str | None:
    """Returns the command that an act is about; None where its data lie elsewhere."""
    command = submission.command
    return command.data.command_id if isinstance(command, Cancel | Resolve) else None
