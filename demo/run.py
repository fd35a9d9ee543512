"""Runs the demo from the first process to the last picture; builds everything that it needs."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from demo.board import Board
from demo.course import Course
from demo.errors import DemoError, OverdueError
from demo.exchange import Exchange
from demo.page import CURVES, EVENTS, LOGS, PAGE, PICTURES, write_page
from demo.plan import FULL, MODELS, QUICK
from demo.processes import Guardian
from demo.report import Report, print_results
from demo.stage import NAMESPACE, running_stage
from trainmaster_client import AsyncClient, ClientError
from worker.errors import SettingError
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS

if TYPE_CHECKING:
    from rich.console import Console

    from demo.plan import Extent
    from demo.stage import Stage

# Several times what it takes on two slow cores: something hangs.
LONGEST_SECONDS: Final = 1200
GO_ON: Final = "how-to-go-on.txt"
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose.

    Attributes:
        output: a folder that `prepare_output` made ready.
        quick: whether the short form is run.
        keep: whether the servers' state is left behind.
    """

    output: Path
    quick: bool
    keep: bool


def prepare_output(output: Path) -> None:
    """Makes the folder, and takes away what an earlier demo left there.

    Raises:
        OSError: it can't be made or written.
    """
    output.mkdir(parents=True, exist_ok=True)
    for name in (PAGE, EVENTS, *LOGS):
        (output / name).unlink(missing_ok=True)
    for name in (PICTURES, CURVES):
        shutil.rmtree(output / name, ignore_errors=True)


def run_demo(options: Options, console: Console) -> int:
    """Runs the demo; returns the exit code: 0, 1, or 128 and the signal that ended it."""
    return asyncio.run(_stoppable(options, console))


async def _stoppable(options: Options, console: Console) -> int:
    demo = asyncio.create_task(_guarded(options, console))
    got: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        # Once is enough: what is left to do is stopping, and that takes seconds at most.
        if not got:
            demo.cancel()
        got.append(number)

    for number in _STOPPING:
        # Whoever ignores SIGHUP, as nohup does, wants the demo to outlive the terminal.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await demo
    except asyncio.CancelledError:
        console.print(f"Stopped by {got[0].name}; nothing is left running.", highlight=False)
        return 128 + got[0]


async def _guarded(options: Options, console: Console) -> int:
    folder = Path(tempfile.mkdtemp(prefix="trainmaster-demo-"))
    with Guardian() as guardian, contextlib.ExitStack() as last:
        if options.keep:
            last.callback(_tell_how_to_go_on, folder, console)
        else:
            guardian.guard_folder(folder)
            last.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            report = await _perform(options, folder, guardian, console)
        except (DemoError, SettingError, ClientError, *RETRYABLE_REDIS_ERRORS) as error:
            console.print(f"demo: {error}", style="red", soft_wrap=True, markup=False)
            return 1
    print_results(report, console)
    console.print(f"Look at {options.output / PAGE}", soft_wrap=True, highlight=False)
    return 1 if report.complaints else 0


async def _perform(options: Options, folder: Path, guardian: Guardian, console: Console) -> Report:
    extent = QUICK if options.quick else FULL
    console.print(
        f"Training, attaching and predicting on this machine; {extent.takes}.", highlight=False
    )
    with Board(console) as board:
        board.say("servers", "starting Redis, sandbox and worker")
        async with running_stage(folder, options.output, guardian) as stage:
            (folder / GO_ON).write_text(stage.how_to_go_on(), "utf-8")
            board.say("servers", "running")
            courses, exchange = await _play(stage, extent, options.output, board)
            # The pictures are made of the sandbox's files.
            board.say("servers", "running, and drawing what was found")
            report = Report(
                trained=[trained for course in courses for trained in course.trained],
                failures=[course.failure for course in courses if course.failure is not None],
                commands=exchange.commands,
                events=exchange.events,
                extent=extent,
                world=stage.world,
                seconds=board.seconds,
            )
            await asyncio.to_thread(write_page, report, options.output)
        board.say("servers", "stopped")
    return report


async def _play(
    stage: Stage, extent: Extent, output: Path, board: Board
) -> tuple[list[Course], Exchange]:
    """Sends all models on their courses, side by side, and returns when all have ended.

    Raises:
        ChildError: a child ended meanwhile.
        OverdueError: it takes far too long.
    """
    async with AsyncClient(stage.redis.url, namespace=NAMESPACE) as client:
        with (output / EVENTS).open("wb") as journal:
            exchange = Exchange(client, journal, board.count)
            return await _play_courses(stage, extent, output, board, exchange), exchange


async def _play_courses(
    stage: Stage, extent: Extent, output: Path, board: Board, exchange: Exchange
) -> list[Course]:
    courses = _courses(extent, stage, exchange, board)
    watchers = [
        asyncio.create_task(act)
        for act in (exchange.follow(), stage.worker.watch(), stage.sandbox.watch())
    ]
    runs = [asyncio.create_task(course.run()) for course in courses]
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            await _all_or_first_trouble(runs, watchers)
    except TimeoutError as exc:
        message = f"not done after {LONGEST_SECONDS} s; see the logs in {output}"
        raise OverdueError(message) from exc
    finally:
        for task in (*runs, *watchers):
            task.cancel()
        await asyncio.gather(*runs, *watchers, return_exceptions=True)
    return courses


def _courses(extent: Extent, stage: Stage, exchange: Exchange, board: Board) -> list[Course]:
    """Returns a course for each model; each lets the next one train once its own training runs."""
    turn = asyncio.Event()
    turn.set()
    courses = []
    for plan in MODELS:
        under_way = asyncio.Event()
        projects = stage.world.projects
        courses.append(
            Course(plan, extent, projects, exchange, board.say, turn, under_way, stage.losses)
        )
        turn = under_way
    return courses


async def _all_or_first_trouble(
    runs: list[asyncio.Task[None]], watchers: list[asyncio.Task[None]]
) -> None:
    pending = set(runs)
    while pending:
        done, _ = await asyncio.wait({*pending, *watchers}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            # A watcher never ends without an error, and that of a run is a defect.
            task.result()
        pending -= done


def _tell_how_to_go_on(folder: Path, console: Console) -> None:
    console.print(f"The servers' state is kept in {folder}", soft_wrap=True, highlight=False)
    if (folder / GO_ON).exists():
        console.print((folder / GO_ON).read_text("utf-8"), soft_wrap=True, highlight=False)
