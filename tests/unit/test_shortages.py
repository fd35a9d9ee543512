"""A shortage of this machine says nothing of a command: it is tried again, and costs no attempt."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import threading
import time
from typing import TYPE_CHECKING

import pytest

from schemas.enums import SourceFormat
from schemas.events import ErrorCode
from tests.processes import no_more_files
from tests.stub_api import StubApi
from tests.web_server import Bodies
from worker.backfill.errors import SourceUnavailableError
from worker.backfill.plan import SourcePlan
from worker.backfill.sources.formats import open_source
from worker.encord.api.signing import BearerToken
from worker.encord.api.throttle import ThrottledTransport
from worker.encord.api.transport import Transport
from worker.errors import BusyThreadsError, InputError, NotSentError, RetryableError, ShortageError
from worker.files.downloads import Downloads
from worker.files.file_access import AllowedFiles
from worker.open_files import affordable_concurrency, raise_limit
from worker.queue.circuit_breaker import CircuitBreaker
from worker.queue.pool.retry import RetryPolicy, decide
from worker.settings import Settings
from worker.shortages import shortage_error
from worker.thread_pools import ThreadPool, in_thread

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_that_can_t_be_opened_for_want_of_descriptors_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    files = AllowedFiles((tmp_path.resolve(),), "data.data_path", 10)
    with no_more_files(), pytest.raises(ShortageError, match="ulimit -n"):
        files.read(tmp_path / "a.jpg")
    assert files.read(tmp_path / "a.jpg") == b"x"


def test_a_source_that_can_t_be_opened_for_want_of_descriptors_is_tried_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "items.jsonl").write_bytes(b'{"data_path": "a.png"}\n')
    source = open_source(SourcePlan(str(tmp_path / "items.jsonl"), SourceFormat.JSONL))
    with no_more_files(), pytest.raises(SourceUnavailableError, match="Too many open files"):
        list(source.rows(""))
    assert len(list(source.rows(""))) == 1


@pytest.mark.parametrize(
    "number",
    [
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EIO,
        errno.ESTALE,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ETIMEDOUT,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
    ],
)
@pytest.mark.parametrize("act", ["open", "fdopen"])
def test_what_the_system_can_t_give_at_the_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, act: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    files = AllowedFiles((tmp_path.resolve(),), "data.data_path", 10)

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, act, fail)
    with pytest.raises(RetryableError):
        files.read(tmp_path / "a.jpg")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG])
def test_what_is_wrong_with_a_path_stays_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(InputError):
        AllowedFiles((tmp_path.resolve(),), "data.data_path", 10).read(tmp_path / "a.jpg")


async def test_a_call_without_a_socket_was_not_sent_and_is_no_failure_of_the_api() -> None:
    asked = []

    async def works() -> bool:
        asked.append("by the breaker")
        return True

    breaker = CircuitBreaker(works, failures=1, minimum_seconds=1, maximum_seconds=1)
    with StubApi() as api:
        async with Transport(api.url, BearerToken("t")) as transport:
            with no_more_files(), pytest.raises(ShortageError, match="out of open files") as caught:
                await ThrottledTransport(transport, None, breaker).send("GET", "/x")
            assert isinstance(caught.value, NotSentError)
            assert (await transport.send("GET", "/x")).status == 200
    assert (asked, breaker.is_open) == ([], False)


async def test_a_download_without_a_socket_is_tried_again() -> None:
    with Bodies({"a": b"x"}).serve() as url:
        reader = Downloads(ThreadPool("test", 1), total_seconds=10, idle_seconds=5)
        try:
            assert await reader.read(f"{url}/close/a", 10, "field") == b"x"
            with no_more_files(), pytest.raises(ShortageError):
                await reader.read(f"{url}/close/a", 10, "field")
        finally:
            await reader.aclose()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("can't start new thread"), "threads"),
        (OSError(errno.ENOSPC, "No space left on device"), "room on a disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "room on a disk"),
        (MemoryError(), "memory"),
    ],
)
def test_what_this_machine_lacks_is_named_and_tried_again(error: Exception, said: str) -> None:
    found = shortage_error(error)
    assert found is not None
    assert said in found.message
    assert found.code == "resource_exhausted"
    # A command that takes all memory must come to an end: only this one costs an attempt.
    assert isinstance(found, ShortageError) is not isinstance(error, MemoryError)
    assert shortage_error(RuntimeError("a defect")) is None


@pytest.mark.parametrize("named", [False, True])
def test_a_shortage_is_found_in_the_errors_that_libraries_make_of_it(named: bool) -> None:
    """Whether they name it as the cause, or only raise their own while they handle it."""

    def open_socket() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    def ask() -> None:
        try:
            open_socket()
        except OSError as exc:
            if named:
                raise ConnectionError("no connection") from exc
            raise ConnectionError("no connection")  # noqa: B904 - as libraries do

    with pytest.raises(ConnectionError) as caught:
        ask()
    found = shortage_error(caught.value)
    assert isinstance(found, ShortageError)
    assert "ulimit -n" in found.message


def test_a_shortage_is_tried_again_later_and_later_though_no_attempt_counts() -> None:
    policy = RetryPolicy(3, 1.0, 300.0)
    error = ShortageError("none left", code=ErrorCode.RESOURCE_EXHAUSTED)
    delays = [decide(error, 0, policy, tries=tries).delay_seconds for tries in (1, 3, 5, 10)]
    assert all(delay is not None for delay in delays)
    bounds = [(0.5, 1), (2, 4), (8, 16), (150, 300)]
    for delay, (least, most) in zip(delays, bounds, strict=True):
        assert delay is not None
        assert least <= delay <= most


def test_slots_are_no_more_than_open_files_allow() -> None:
    settings = Settings(redis_url="redis://here")
    assert affordable_concurrency(settings, 1_000_000) == settings.concurrency
    assert affordable_concurrency(settings, resource.RLIM_INFINITY) == settings.concurrency
    assert 0 < affordable_concurrency(settings, 256) < 256 - settings.long_poll_concurrency
    assert affordable_concurrency(settings, 64) == 1


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be_and_told() -> None:
    """Shells give a soft limit of 1,024, where the hard one allows all slots."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        assert raise_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert raise_limit() == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_thread_that_hangs_keeps_its_own_kind_waiting_and_nothing_else() -> None:
    hanging, other = ThreadPool("hanging", 1), ThreadPool("other", 1)
    released = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            await hanging.run(0.05, released.wait)
        with pytest.raises(BusyThreadsError, match="busy"):
            await hanging.run(0.05, int)
        assert await other.run(5.0, int) == 0
        assert await in_thread(max, 1, 2) == 2
    finally:
        released.set()
    end = time.monotonic() + 60
    while True:
        try:
            assert await hanging.run(0.05, int) == 0
            return
        except ShortageError:
            assert time.monotonic() < end, "the thread is free again"


async def test_a_step_of_a_backfill_leaves_no_thread_behind() -> None:
    threads = [await in_thread(threading.current_thread) for _ in range(3)]
    for thread in threads:
        await asyncio.to_thread(thread.join, 60.0)
    assert not any(thread.is_alive() for thread in threads)


async def test_work_for_which_no_thread_could_be_started_keeps_no_place_of_its_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = ThreadPool("lacking", 1)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="new thread"):
                await pool.run(30.0, int)
    assert await pool.run(30.0, int) == 0
