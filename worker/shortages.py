"""What an error of the system says: something about a path, or only about this moment.

A machine that has no open file, thread, memory or room left says nothing about the command that
came upon it, nor does a disk or a network file system in trouble: another attempt may succeed.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from schemas.events import ErrorCode
from worker.errors import RetryableError, ShortageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Errors about a path or what lies there; every other error may pass.
_ABOUT_THE_PATH: Final = frozenset({
    errno.EACCES,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENODEV,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
    errno.EROFS,
})
_SHORTAGES: Final = {
    errno.EMFILE: "open files: raise ulimit -n, or lower TRAINMASTER_CONCURRENCY",
    errno.ENFILE: "open files in the whole system: raise fs.file-max",
    errno.ENOSPC: "room on a disk: free some",
    errno.EDQUOT: "room on a disk, by a quota: free some, or raise it",
    errno.EAGAIN: "threads or processes: raise ulimit -u, or the container's limit of pids",
    errno.ENOBUFS: "memory for connections",
}
_NO_THREAD: Final = "can't start new thread"


def may_pass(error: OSError) -> bool:
    """Tells whether an error says nothing about the path that was opened or read."""
    return error.errno not in _ABOUT_THE_PATH


def shortage_in(error: BaseException) -> str | None:
    """Returns what this machine lacks, and what to do; None where the error is about another thing.

    An error that wraps another one, as those of libraries do, is looked through.
    """
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in _SHORTAGES:
            return _SHORTAGES[each.errno]
        if isinstance(each, RuntimeError) and _NO_THREAD in str(each):
            return _SHORTAGES[errno.EAGAIN]
    return None


def shortage_error(error: BaseException) -> RetryableError | None:
    """Returns what an attempt ends with that this machine's state has ended; None for other errors.

    Memory costs an attempt, for it may be the command itself that takes it all.
    """
    if isinstance(error, MemoryError):
        return RetryableError(
            "the worker has no memory left for this command", code=ErrorCode.RESOURCE_EXHAUSTED
        )
    lacking = shortage_in(error)
    if lacking is None:
        return None
    return ShortageError(
        f"the worker's machine is out of {lacking}", code=ErrorCode.RESOURCE_EXHAUSTED
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    left: BaseException | None = error
    while left is not None and id(left) not in seen:
        seen.add(id(left))
        yield left
        left = left.__cause__ or left.__context__
