"""Bounded pools of threads for what blocks, each for one kind of work.

What never answers keeps its own kind waiting and nothing else, and no thread of these keeps the
process from ending: those of `concurrent.futures` are waited for at exit, whatever they hang in.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool(Executor):
    """Threads that are started when they are needed, and left behind when the process ends.

    Args:
        name: of the threads.
        most: threads at the same time; further work waits.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self.most = most
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._open = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Has a thread call a function.

        Raises:
            RuntimeError: there is no thread, and this machine can't start one.
        """
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as exc:  # noqa: BLE001 - handed to whoever waits
                future.set_exception(exc)
            else:
                future.set_result(result)

        with self._lock:
            self._open += 1
            if self._open > self._threads and self._threads < self.most:
                self._grow()
        self._work.put(work)
        return future

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns what a function returns that a thread calls."""
        return await asyncio.wrap_future(self.submit(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Does nothing: idle threads cost nothing, and nobody waits for one that hangs."""

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

    def _serve(self) -> Any:
        while True:
            work = self._work.get()
            work()
            # Not kept until the next work comes: it may hold a body of megabytes.
            del work
            with self._lock:
                self._open -= 1
