"""The part of `doctor` that looks at this machine's limits."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Final

from schemas.wording import counted
from worker.cli.findings import Finding, Level
from worker.open_files import affordable_concurrency, highest_limit, needed_files

if TYPE_CHECKING:
    from worker.settings import Settings

_CHECK: Final = "machine.open_files"


def check_open_files(settings: Settings) -> Finding:
    """Returns whether a worker started here may open files enough for its slots."""
    limit, needed = highest_limit(), needed_files(settings)
    wanted = f"for {counted(settings.concurrency, 'slot')} {needed} may be needed"
    if limit == resource.RLIM_INFINITY:
        return Finding(_CHECK, Level.OK, f"no limit; {wanted}")
    said = f"{limit} allowed; {wanted}"
    if limit >= needed:
        return Finding(_CHECK, Level.OK, said)
    slots = affordable_concurrency(settings, limit)
    return Finding(
        _CHECK,
        Level.WARN,
        f"{said}, so a worker started here would use {counted(slots, 'slot')}",
        f"raise the limit (ulimit -n {needed}), or set TRAINMASTER_CONCURRENCY to {slots}",
    )
