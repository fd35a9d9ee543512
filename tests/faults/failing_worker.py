"""A worker with failpoints: `FAILPOINT=place:action:times python -m tests.faults.failing_worker`.

The places are the seams between the worker's own parts. They are wrapped from outside, so the
worker that people run has no failpoint in it and pays nothing for them.

Places, each `.before` and `.after` but where one is named:

    read.after       entries were read from the stream, nothing is done with them yet
    inbox            what the inbox held is moved into the stream
    celery           what Celery's queue held is moved into the stream
    accept, reject   the scripts that make a row, or the rejection
    wake             the Celery message that opens a drain
    claim            the script that takes leases
    run.before       a claimed command begins to run
    intent, created  the notes around a POST that creates something
    sent             the note before a deletion
    post             the POST itself
    reconcile        asking the API what became of a POST
    settle           the script that ends or reschedules runs
    hub              Celery's own loop, two seconds after it has connected

Actions: `kill` (SIGKILL), `stop` (SIGSTOP), `disconnect` (every connection to Redis is cut),
`stall` (the loop stands still for a while), and at `wake.send` `drop`: every other wake-up is
never sent. Times are counted down to the one that strikes; with 0 each one does.
Mutations break the worker itself, to show that the suite sees it: `MUTATION=fencing` lets anybody
finish a run, `MUTATION=intent` sends a POST before its intent is recorded,
`MUTATION=acknowledgement` acknowledges entries before they are accepted.

A place may be narrowed to commands: `run.before/poison-:kill:999` strikes only where the id of
the command begins with `poison-`.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from worker.cli.main import main
from worker.encord.api.transport import Transport
from worker.encord.creation.idempotent_create import IdempotentCreate
from worker.queue.intake.acceptance import Acceptor
from worker.queue.intake.list_bridge import ListForwarder
from worker.queue.ledger.keys import COMMAND_FIELD, GROUP
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.models import Phase
from worker.queue.pool.executor import Executor
from worker.queue.pool.wake_consumer import Beats
from worker.queue.pool.wake_ups import WakeUps
from worker.queue.run_context import RunContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.queue.pool.wake_consumer import WakeConsumer

# Longer than each loop may be silent; Celery's may be for a minute.
STALL_SECONDS = {"hub": 75.0}
STALL_SECONDS_ELSE = 16.0

PLACES = (
    "read.after",
    "inbox.before",
    "inbox.after",
    "celery.before",
    "celery.after",
    "accept.before",
    "accept.after",
    "reject.before",
    "reject.after",
    "wake.before",
    "wake.after",
    "claim.before",
    "claim.after",
    "run.before",
    "intent.before",
    "intent.after",
    "post.before",
    "post.after",
    "created.before",
    "created.after",
    "sent.before",
    "sent.after",
    "reconcile.before",
    "reconcile.after",
    "settle.before",
    "settle.after",
)


class Failpoint:
    """One place, and what happens there the n-th time it is reached."""

    def __init__(self, spec: str) -> None:
        where, self.action, times = spec.rsplit(":", 2)
        self.place, _, self.prefix = where.partition("/")
        self.left = int(times)
        self.every = self.left == 0

    def reach(self, place: str, command_id: str = "") -> None:
        """Strikes if this is the place and the time."""
        if place != self.place or not command_id.startswith(self.prefix):
            return
        self.left -= 1
        if self.left == 0 or self.every:
            self.strike()

    def strike(self) -> None:
        """Does what the failpoint is there for."""
        print(f"failpoint {self.place}: {self.action}", file=sys.stderr, flush=True)  # noqa: T201
        match self.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "disconnect":
                with Redis.from_url(os.environ["TRAINMASTER_REDIS_URL"]) as client:
                    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            case "stall":
                time.sleep(STALL_SECONDS.get(self.place, STALL_SECONDS_ELSE))
            case "drop":
                pass
            case _:
                raise SystemExit(f"unknown action {self.action}")


def _wrap(
    owner: type, method: str, failpoint: Failpoint, name: Callable[..., tuple[str, str]]
) -> None:
    """Puts a failpoint before and after a method; `name` tells the place and the command."""
    inner = getattr(owner, method)

    @functools.wraps(inner)
    async def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        place, command_id = name(self, *args, **kwargs)
        failpoint.reach(f"{place}.before", command_id)
        found = await inner(self, *args, **kwargs)
        failpoint.reach(f"{place}.after", command_id)
        return found

    setattr(owner, method, wrapped)


def _checkpoint_name(
    _: Ledger, lease: Any, progress: dict[str, Any], *, phase: Phase, **__: Any
) -> tuple[str, str]:
    names = {
        Phase.INTENDED: "intent",
        Phase.APPLIED: "created",
        Phase.IDLE: "sent" if "sent" in progress else "withdrawn",
    }
    return names.get(phase, phase), lease.command_id


def _send_name(_: Transport, method: str, path: str, **options: Any) -> tuple[str, str]:
    creates = method == "POST" and options.get("fresh") and not path.endswith("/predict")
    return ("post" if creates else "send"), ""


def _mover_name(mover: ListForwarder) -> tuple[str, str]:
    return ("inbox" if mover._pushed.field == COMMAND_FIELD else "celery"), ""


def install(failpoint: Failpoint) -> None:
    """Wraps every place."""

    def at(place: str) -> Callable[..., tuple[str, str]]:
        return lambda *_, **__: (place, "")

    # `accept` is made of it.
    _wrap(Ledger, "accept_and_claim", failpoint, at("accept"))
    _wrap(Ledger, "reject", failpoint, at("reject"))
    _wrap(Ledger, "claim", failpoint, at("claim"))
    _wrap(Ledger, "finish", failpoint, at("settle"))
    _wrap(Ledger, "checkpoint", failpoint, _checkpoint_name)
    _wrap(Transport, "send", failpoint, _send_name)
    _wrap(
        IdempotentCreate,
        "_reconcile",
        failpoint,
        lambda _, run: ("reconcile", run.lease.command_id),
    )
    _wrap(ListForwarder, "move_once", failpoint, _mover_name)
    handle = Acceptor._handle

    async def handled(self: Acceptor, entries: Any) -> None:
        if entries:
            failpoint.reach("read.after")
        await handle(self, entries)

    check = Executor._check

    def checked(self: Executor, run: Any) -> None:
        check(self, run)
        failpoint.reach("run.before", run.lease.command_id)

    send_wake_up = WakeUps._send
    wake_ups = itertools.count()

    def sent(self: WakeUps) -> None:
        failpoint.reach("wake.before")
        publish = self._publish
        if failpoint.action == "drop" and next(wake_ups) % 2 == 0:
            self._publish = lambda: failpoint.reach("wake.send")
        send_wake_up(self)
        self._publish = publish
        failpoint.reach("wake.after")

    start_beats = Beats.start

    def started(self: Beats, parent: WakeConsumer) -> None:
        start_beats(self, parent)
        parent.timer.call_after(2.0, lambda: failpoint.reach("hub"))

    Beats.start = started  # type: ignore[method-assign]
    Executor._check = checked  # type: ignore[method-assign]
    Acceptor._handle = handled  # type: ignore[method-assign]
    WakeUps._send = sent  # type: ignore[method-assign]


def mutate(name: str) -> None:
    """Breaks the worker in one of three ways."""
    match name:
        case "fencing":
            register = AsyncRedis.register_script
            fence = "redis.pcall('HGET', row, 'n') ~= token"

            def register_unfenced(self: Any, script: Any) -> Any:
                if "-- Ends runs" in script and fence not in script:
                    raise SystemExit("the fence is not where it was")
                return register(self, script.replace(fence, "false"))

            AsyncRedis.register_script = register_unfenced  # type: ignore[method-assign]
        case "intent":
            checkpoint = RunContext.checkpoint

            async def checkpoint_late(
                self: RunContext[Any], progress: Any, *, phase: Phase | None = None, **more: Any
            ) -> Any:
                if phase is Phase.INTENDED:
                    return None
                return await checkpoint(self, progress, phase=phase, **more)

            RunContext.checkpoint = checkpoint_late  # type: ignore[method-assign]
        case "acknowledgement":
            handle = Acceptor._handle

            async def handle_acknowledged(self: Acceptor, entries: Any) -> None:
                ids = [entry.entry_id for entry in entries]
                if ids:
                    stream = self._keys.stream(entries[0].stream)
                    await self._ledger.redis.xack(stream, GROUP, *ids)
                await handle(self, entries)

            Acceptor._handle = handle_acknowledged  # type: ignore[method-assign]
        case _:
            raise SystemExit(f"unknown mutation {name}")


if __name__ == "__main__":
    if mutation := os.environ.get("MUTATION"):
        mutate(mutation)
    if spec := os.environ.get("FAILPOINT"):
        install(Failpoint(spec))
    sys.argv = ["trainmaster", "worker"]
    main()
