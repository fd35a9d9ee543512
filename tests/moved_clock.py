"""Clocks that a test can move: of a Redis server, as NTP or a failover does, and of a process."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worker.embedded import find_servers

if TYPE_CHECKING:
    from pathlib import Path

# Redis asks for the time by gettimeofday alone; its timers follow a clock that never jumps.
_SOURCE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *offset(void) {
    static volatile int64_t *found;
    static volatile int64_t none = 0;
    if (found) return found;
    const char *path = getenv("MOVED_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    found = page == MAP_FAILED ? &none : (volatile int64_t *)page;
    return found;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (tv) { tv->tv_sec = now.tv_sec + *offset(); tv->tv_usec = now.tv_nsec / 1000; }
    return 0;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += *offset();
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}
"""

# What a process calls its machine's time; timers follow a clock that is left alone.
_PROCESS_SOURCE = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    const char *told = getenv("MOVED_SECONDS");
    return told ? atol(told) : 0;
}

int clock_gettime(clockid_t which, struct timespec *told) {
    int failed = syscall(SYS_clock_gettime, which, told);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE))
        told->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *restrict told, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) { told->tv_sec = now.tv_sec; told->tv_usec = now.tv_nsec / 1000; }
    return 0;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}
"""

NEEDED = "no C compiler (cc) or no redis-server here: nothing can move a server's clock"


@dataclass(frozen=True)
class MovedClock:
    """A server program, and the file that says how far its clock is moved.

    Attributes:
        server: to be started in place of the real one.
    """

    server: Path
    offset: Path

    def move(self, seconds: int) -> None:
        """Sets by how much the server's clock is ahead of this machine's; at once."""
        with self.offset.open("r+b") as file:
            file.write(struct.pack("=q", seconds))


def can_move() -> bool:
    """Whether this machine has what it takes."""
    return shutil.which("cc") is not None and bool(find_servers())


def make_clock(folder: Path) -> MovedClock:
    """Returns a server with a clock of its own, right at first."""
    folder.mkdir(parents=True, exist_ok=True)
    library = _compile(folder, "clock", _SOURCE)
    offset, server = folder / "offset", folder / "server"
    offset.write_bytes(struct.pack("=q", 0))
    variables = f'MOVED_CLOCK="{offset}" LD_PRELOAD="{library}"'
    server.write_text(f'#!/bin/sh\n{variables} exec "{find_servers()[0]}" "$@"\n')
    os.chmod(server, 0o755)  # noqa: PTH101, S103 - it is to be run
    return MovedClock(server, offset)


def moved_machine(folder: Path, seconds: int) -> dict[str, str]:
    """Returns the environment of a process whose machine's clock is so far ahead."""
    folder.mkdir(parents=True, exist_ok=True)
    library = _compile(folder, "machine", _PROCESS_SOURCE)
    return {"LD_PRELOAD": str(library), "MOVED_SECONDS": str(seconds)}


def _compile(folder: Path, name: str, text: str) -> Path:
    source, library = folder / f"{name}.c", folder / f"{name}.so"
    source.write_text(text)
    compiler = shutil.which("cc")
    assert compiler is not None, NEEDED
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library
