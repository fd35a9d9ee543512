"""The limit of open files, compared with what a worker's slots may need."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from worker.settings import Settings

# Redis, Celery, the log, downloads, files and results that are open at the same time.
RESERVED_FILES: Final = 160


def raise_limit() -> int:
    """Raises the soft limit of open files to the hard one, as servers do; returns what holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft
    return hard


def highest_limit() -> int:
    """Returns the limit that a process started here can raise its own to."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def needed_files(settings: Settings) -> int:
    """Returns how many files a worker may have open when all its slots are taken."""
    return settings.concurrency + settings.long_poll_concurrency + RESERVED_FILES


def affordable_concurrency(settings: Settings, limit: int) -> int:
    """Returns how many slots a limit of open files is enough for; at least one."""
    if limit == resource.RLIM_INFINITY:
        return settings.concurrency
    return max(
        1, min(settings.concurrency, limit - settings.long_poll_concurrency - RESERVED_FILES)
    )
