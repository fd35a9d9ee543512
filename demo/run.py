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

from demo.client import DemoClient
from demo.errors import DemoError, OverdueError
from demo.gateway import Gateway
from demo.page import CURVES, EVENTS, LOGS, PAGE, PICTURES, write_page
from demo.plan import FULL, MODELS, QUICK
from demo.processes import Reaper
from demo.progress import Progress
from demo.report import Report, print_results
from demo.scenario import Scenario
from demo.servers import NAMESPACE, running_servers
from trainmaster_client import AsyncClient, ClientError
from worker.errors import SettingError
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS

if TYPE_CHECKING:
    from rich.console import Console

    from demo.plan import DemoSize
    from demo.servers import Servers

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
        stays_open: whether a gateway runs too, and all of them until the demo is told to stop.
    """

    output: Path
    quick: bool
    keep: bool
    stays_open: bool = False


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
    with Reaper() as reaper, contextlib.ExitStack() as last:
        if options.keep:
            last.callback(_tell_how_to_go_on, folder, console)
        else:
            reaper.guard_folder(folder)
            last.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            if options.stays_open:
                Gateway.check()
            report = await _perform(options, folder, reaper, console)
        except (DemoError, SettingError, ClientError, *RETRYABLE_REDIS_ERRORS) as error:
            console.print(f"demo: {error}", style="red", soft_wrap=True, markup=False)
            return 1
    return 1 if report.complaints else 0


async def _perform(options: Options, folder: Path, reaper: Reaper, console: Console) -> Report:
    demo_size = QUICK if options.quick else FULL
    console.print(
        f"Training, attaching and predicting on this machine; {demo_size.takes}.", highlight=False
    )
    with Progress(console) as progress:
        progress.say("servers", "starting Redis, sandbox and worker")
        async with running_servers(
            folder, options.output, reaper, with_page=options.stays_open
        ) as servers:
            (folder / GO_ON).write_text(servers.how_to_go_on(), "utf-8")
            shown = f"running, shown at {servers.page_url}" if servers.page_url else "running"
            progress.say("servers", shown)
            scenarios, demo_client = await _play(servers, demo_size, options.output, progress)
            # The pictures are made of the sandbox's files.
            progress.say("servers", f"{shown}, and drawing what was found")
            report = Report(
                trained=[trained for scenario in scenarios for trained in scenario.trained],
                failures=[
                    scenario.failure for scenario in scenarios if scenario.failure is not None
                ],
                commands=demo_client.commands,
                events=demo_client.events,
                demo_size=demo_size,
                dataset=servers.dataset,
                seconds=progress.seconds,
            )
            await asyncio.to_thread(write_page, report, options.output)
            if options.stays_open:
                progress.hide()
                _print_end(report, options, console)
                await _stay(servers, console)
        progress.say("servers", "stopped")
    if not options.stays_open:
        _print_end(report, options, console)
    return report


def _print_end(report: Report, options: Options, console: Console) -> None:
    print_results(report, console)
    console.print(f"Look at {options.output / PAGE}", soft_wrap=True, highlight=False)


async def _stay(servers: Servers, console: Console) -> None:
    """Returns once the demo is told to stop.

    Raises:
        ChildError: a child ended meanwhile.
    """
    console.print(
        f"All of it runs until Ctrl-C; its page is {servers.page_url}",
        soft_wrap=True,
        highlight=False,
    )
    watched = [servers.worker.watch(), servers.sandbox.watch()]
    if servers.gateway is not None:
        watched.append(servers.gateway.watch())
    watchers = [asyncio.create_task(each) for each in watched]
    try:
        await asyncio.gather(*watchers)
    except asyncio.CancelledError:
        # What was asked for has been done; it ends as it would have without `--open`.
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)


async def _play(
    servers: Servers, demo_size: DemoSize, output: Path, progress: Progress
) -> tuple[list[Scenario], DemoClient]:
    """Plays the scenarios of all models side by side, and returns when all have ended.

    Raises:
        ChildError: a child ended meanwhile.
        OverdueError: it takes far too long.
    """
    async with AsyncClient(servers.redis.url, namespace=NAMESPACE) as client:
        with (output / EVENTS).open("wb") as journal:
            demo_client = DemoClient(client, journal, progress.count)
            return await _play_scenarios(
                servers, demo_size, output, progress, demo_client
            ), demo_client


async def _play_scenarios(
    servers: Servers, demo_size: DemoSize, output: Path, progress: Progress, demo_client: DemoClient
) -> list[Scenario]:
    scenarios = _scenarios(demo_size, servers, demo_client, progress)
    watchers = [
        asyncio.create_task(act)
        for act in (demo_client.follow(), servers.worker.watch(), servers.sandbox.watch())
    ]
    runs = [asyncio.create_task(scenario.run()) for scenario in scenarios]
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
    return scenarios


def _scenarios(
    demo_size: DemoSize, servers: Servers, demo_client: DemoClient, progress: Progress
) -> list[Scenario]:
    """Returns a scenario for each model; a next one trains once the training before it runs."""
    turn = asyncio.Event()
    turn.set()
    scenarios = []
    for plan in MODELS:
        under_way = asyncio.Event()
        projects = servers.dataset.projects
        scenarios.append(
            Scenario(
                plan,
                demo_size,
                projects,
                demo_client,
                progress.say,
                turn,
                under_way,
                servers.losses,
            )
        )
        turn = under_way
    return scenarios


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
