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

import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from schemas.json_text import encode_json
from schemas.referral import DATAREF

if TYPE_CHECKING:
    from schemas.commands import Command
    from worker.handlers.run import Run
    from worker.ledger.row import Lease

# What is the same for all items, and stands in the backfill.
_SHARED: Final = {"task", "project_uuid", "project_model_uuid", "training_uuid"}


def is_silent(lease: Lease, command: Command) -> bool:
    """Tells whether the events of a command are not wanted: it is one item of very many."""
    return bool(lease.backfill) and "backfill" not in (command.model_extra or {})


def succeeded_item(run: Run[Command], result: Any, dataref: str | None) -> bytes:
    """Returns the record of an item that succeeded; empty where the run is of no backfill."""
    if not run.lease.backfill:
        return b""
    found: dict[str, Any] = {"dataref": dataref} if dataref else {"frames": result["frames"]}
    said = _said(run)
    named = {name: said[name] for name in ("data_uuid", "data_path") if name in said}
    return _record(run, "succeeded", named | found, run.lease.attempts + 1)


def failed_item(run: Run[Command], error: dict[str, Any], attempts: int) -> bytes:
    """Returns the record of an item that failed; empty where the run is of no backfill."""
    if not run.lease.backfill:
        return b""
    told = {"place": (run.command.model_extra or {}).get("place", "")}
    return _record(run, "failed", told | {"input": _said(run), "error": error}, attempts)


def unreadable_item(lease: Lease, error: dict[str, Any]) -> bytes:
    """Returns the record of an item whose command no worker can read."""
    if not lease.backfill:
        return b""
    return orjson.dumps({
        "item": lease.item,
        "state": "failed",
        "input": {},
        "error": error,
        "attempts": lease.attempts,
        "seconds": 0.0,
    })


def _said(run: Run[Any]) -> dict[str, Any]:
    if run.command.data is None:
        return {DATAREF: run.command.dataref}
    said: dict[str, Any] = run.command.data.model_dump(
        mode="json", exclude_unset=True, exclude=_SHARED
    )
    return said


def _record(run: Run[Command], state: str, told: dict[str, Any], attempts: int) -> bytes:
    seconds = round(time.monotonic() - run.begun, 4)
    return encode_json({
        "item": run.lease.item,
        "state": state,
        **told,
        "attempts": attempts,
        "seconds": seconds,
    })
