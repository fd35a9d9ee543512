"""What an item of a backfill came to, as the backfill's results keep it.

::

    {"item": 17, "state": "succeeded", "data_path": "…", "frames": {"0": …},
     "attempts": 1, "seconds": 0.21}
    {"item": 18, "state": "failed", "place": "line 19",
     "input": {"data_path": "…", "conf_thresh": 0.5},
     "error": {"code": …, "message": …}, "attempts": 10, "seconds": 0.02}

`seconds` are those of the last attempt. A result in the result store has `dataref` in place of
`frames`. `place` is where the item stands in the source, `input` what that said, so that a failure
can be a source's row again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.claim_check import DATAREF
from schemas.events import item_source
from schemas.json_text import encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.claim_check import ClaimCheck
    from schemas.commands import Command
    from worker.queue.groups import MemberEnd
    from worker.queue.ledger.models import Lease

# What is the same for all items, and stands in the backfill.
_SHARED: Final = {"task", "project_uuid", "project_model_uuid", "training_uuid"}


class BackfillItems:
    """What is told of items, and what their backfill keeps of them; see `worker.queue.groups`."""

    def is_silent(self, context: Mapping[str, Any]) -> bool:
        """Whether an item's events are not wanted: it is one of very many."""
        return "backfill" not in context

    def event_source(self, group_id: str) -> str:
        """Returns the source of the events about a backfill's items."""
        return item_source(group_id)

    def succeeded(self, end: MemberEnd, result: Any, dataref: str | None) -> bytes:
        """Returns the record of an item that succeeded."""
        found: dict[str, Any] = {"dataref": dataref} if dataref else {"frames": result["frames"]}
        said = _said(end.command)
        named = {name: said[name] for name in ("data_uuid", "data_path") if name in said}
        return _record(end, "succeeded", named | found, end.lease.attempts + 1)

    def failed(self, end: MemberEnd, error: dict[str, Any], attempts: int) -> bytes:
        """Returns the record of an item that failed."""
        told = {"place": (end.command.model_extra or {}).get("place", "")}
        return _record(
            end, "failed", told | {"input": _said(end.command), "error": error}, attempts
        )

    def unreadable(self, lease: Lease, error: dict[str, Any]) -> bytes:
        """Returns the record of an item whose command no worker can read."""
        return orjson.dumps({
            "item": lease.member,
            "state": "failed",
            "input": {},
            "error": error,
            "attempts": lease.attempts,
            "seconds": 0.0,
        })


def _said(command: Command | ClaimCheck) -> dict[str, Any]:
    if command.data is None:
        return {DATAREF: command.dataref}
    said: dict[str, Any] = command.data.model_dump(mode="json", exclude_unset=True, exclude=_SHARED)
    return said


def _record(end: MemberEnd, state: str, told: dict[str, Any], attempts: int) -> bytes:
    return encode_json({
        "item": end.lease.member,
        "state": state,
        **told,
        "attempts": attempts,
        "seconds": round(end.seconds, 4),
    })
