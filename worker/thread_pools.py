"""Bounded pools of threads for what blocks, each for one kind of work.

What never answers keeps its own kind waiting and nothing else, and no thread of these keeps the
process from ending: those of `concurrent.futures` are waited for at exit, whatever they hang in.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.events import ErrorCode
from worker.errors import BusyThreadsError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class ThreadPool:
    """Threads that are started when they are needed, and left behind when the process ends.

    Args:
        name: of the threads.
        most: threads at the same time; further work waits.
        lasting: whether a thread waits for further work.
    """

    def __init__(self, name: str, most: int, *, lasting: bool = True) -> None:
        self._lasting = lasting
        self._name = name
        self._most = most
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._open = 0
        self._slots = asyncio.Semaphore(most)

    def submit(self, fn: Callable[..., T], /, *args: Any) -> Future[T]:
        """Has a thread call a function.

        Raises:
            RuntimeError: there is no thread, and this machine can't start one.
        """
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args)
            except BaseException as exc:  # noqa: BLE001 - handed to whoever waits
                future.set_exception(exc)
            else:
                future.set_result(result)

        with self._lock:
            self._open += 1
            if self._open > self._threads and self._threads < self._most:
                self._grow()
        self._work.put(work)
        return future

    async def run(self, seconds: float, fn: Callable[..., T], /, *args: Any) -> T:
        """Returns what a function returns that a thread calls.

        Args:
            seconds: for the function, and for a free thread before; a thread that takes longer is
                left alone, and no other work is given to it before it is done.
            fn: what is called.
            args: of the function.

        Raises:
            BusyThreadsError: no thread is free in time.
            RuntimeError: none can be started.
            TimeoutError: the function takes too long.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError as exc:
            raise BusyThreadsError(
                f"all {self._most} threads for this kind of work ({self._name}) are busy",
                code=ErrorCode.RESOURCE_EXHAUSTED,
            ) from exc
        loop = asyncio.get_running_loop()

        def free(_: object) -> None:
            # Nobody waits for a thread once the loop has ended.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._slots.release)

        try:
            working = self.submit(fn, *args)
        except BaseException:
            self._slots.release()
            raise
        working.add_done_callback(free)
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(working)

    def _grow(self) -> None:
        try:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        except RuntimeError:
            if not self._threads:
                self._open -= 1
                raise
            # Fewer threads than wanted do the work too, only later.
            return
        self._threads += 1

    def _serve(self) -> None:
        while True:
            work = self._work.get()
            work()
            if not self._lasting:
                return
            # Not kept until the next work comes: it may hold a body of megabytes.
            del work
            with self._lock:
                self._open -= 1


async def in_thread(fn: Callable[..., T], /, *args: Any) -> T:
    """Returns what a function returns, called in a thread of its own.

    For work of which there is little at a time and each may take long, like a backfill's steps.

    Raises:
        RuntimeError: this machine can't start a thread.
    """
    return await asyncio.wrap_future(ThreadPool("step", 1, lasting=False).submit(fn, *args))


@dataclass(frozen=True, slots=True)
class ThreadPools:
    """The pools of a worker process; wake-ups have a thread of their own.

    Attributes:
        downloads: for stores that are no web servers, each of which keeps a thread.
        files: for files on this machine's disks, some of which may be another machine's.
        results: for the result store.
        parsing: for what is too large to be read on the event loop.
    """

    downloads: ThreadPool = field(default_factory=lambda: ThreadPool("downloads", 32))
    files: ThreadPool = field(default_factory=lambda: ThreadPool("files", 8))
    results: ThreadPool = field(default_factory=lambda: ThreadPool("results", 8))
    parsing: ThreadPool = field(default_factory=lambda: ThreadPool("parsing", 2))
