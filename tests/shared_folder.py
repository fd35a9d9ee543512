"""A folder that all processes of one run of the tests share, for what is dear to make."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE: Final = "TESTS_SHARED_FOLDER"
# JAX keeps here what it has compiled, which takes longer than all else in a short training.
_LEAST_COMPILE_SECONDS: Final = "0.1"


def make_shared_folder() -> Path:
    """Makes it, for this process and those that it starts."""
    folder = Path(tempfile.mkdtemp(prefix="tests-shared-"))
    os.environ[_VARIABLE] = str(folder)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "jax")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = _LEAST_COMPILE_SECONDS
    return folder


def remove_shared_folder(folder: Path) -> None:
    """Removes it; whoever still writes into it fails."""
    shutil.rmtree(folder, ignore_errors=True)


def shared_folder() -> Path:
    """Returns it; outside of pytest the first who asks makes one for this process."""
    if _VARIABLE not in os.environ:
        atexit.register(remove_shared_folder, make_shared_folder())
    return Path(os.environ[_VARIABLE])


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Lets one process after the other make something."""
    with (shared_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
