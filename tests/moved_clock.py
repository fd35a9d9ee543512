"""A Redis server whose clock a test can move, as a person, NTP or a failover does."""

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
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(_SOURCE)
    compiler = shutil.which("cc")
    assert compiler is not None, NEEDED
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    offset, server = folder / "offset", folder / "server"
    offset.write_bytes(struct.pack("=q", 0))
    variables = f'MOVED_CLOCK="{offset}" LD_PRELOAD="{library}"'
    server.write_text(f'#!/bin/sh\n{variables} exec "{find_servers()[0]}" "$@"\n')
    os.chmod(server, 0o755)  # noqa: PTH101, S103 - it is to be run
    return MovedClock(server, offset)
