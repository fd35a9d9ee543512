"""Every kind of fault that the suite knows, to be drawn at random; each ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import RedisError

from tests.faults.failing_worker import PLACES
from tests.faults.fleet import QUICK
from tests.faults.lying_proxy import Answer
from tests.faults.scenarios.api_replies import OddStatuses, UnaskedReplies
from tests.faults.scenarios.chaos_load import INBOX, predicted
from tests.faults.scenarios.outages import DUE_SETS, WAKE_UPS
from worker.errors import SettingError
from worker.queue.ledger.cancellation import cancel
from worker.queue.ledger.connection import RETRYABLE_REDIS_ERRORS, connect
from worker.queue.ledger.holds import Holds
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Mapping

    from redis.asyncio import Redis as AsyncRedis

    from tests.faults.fleet import Fleet, WorkerProcess
    from tests.faults.scenarios.chaos_load import Load
    from tests.moved_clock import MovedClock

KEYS = Keys("trainmaster")
LEASE_SECONDS = float(QUICK["TRAINMASTER_LEASE_SECONDS"])
HOUR = 3600
DAY = 86_400
# No pause that the API asks for on purpose is as long; a person would lift it.
LONGEST_HOLD_MS = 10_000
# Deletes what is in the way of a list, and nothing else.
_FREE = "if redis.call('TYPE', KEYS[1]).ok == 'string' then redis.call('DEL', KEYS[1]) end"
LATENCY: dict[str, Any] = {"operation": "*", "effect": "latency", "seconds": 0.1}
SIMULATED: dict[str, Any] = {
    "operation": "create_training_job",
    "effect": "training",
    "training": "simulated",
    "seconds": 2,
}
API_FAULTS: dict[str, dict[str, Any]] = {
    "api refuses": {"effect": "status", "status": 503},
    "api resets": {"effect": "reset"},
    "api resets late": {"effect": "reset", "carried_out": True},
    "api fails late": {"effect": "commit_then_fail", "status": 502},
    "api truncates": {"effect": "truncated"},
    "api is slow": {"effect": "latency", "seconds": 3},
    "api asks to wait": {"effect": "status", "status": 429, "headers": {"Retry-After": "2"}},
    "api asks for a day": {"effect": "status", "status": 429, "headers": {"Retry-After": str(DAY)}},
    "api knows no key": {"effect": "status", "status": 401},
}


def _is_unknown(request: bytes, reply: bytes) -> bool:
    is_prediction = b"/predict " in request.partition(b"\r\n")[0]
    return is_prediction and reply.startswith(b"HTTP/1.1 404")


class Front:
    """What a proxy before the sandbox answers.

    Attributes:
        lie: what becomes of a reply now; None lets it be.
    """

    def __init__(self, rng: random.Random) -> None:
        self.unasked = UnaskedReplies(rng, 0.3)
        self.odd = OddStatuses(rng, 0.33)
        self.lie: Callable[[bytes, bytes], Answer] | None = None

    def __call__(self, request: bytes, reply: bytes) -> Answer:
        """Returns the answer; predictions are answered here, for the sandbox has no such model."""
        if _is_unknown(request, reply):
            reply = predicted(request)
        lie = self.lie
        return Answer(reply) if lie is None else lie(request, reply)

    def cut(self, request: bytes, partial: bytes) -> bytes:
        """Returns what is left of an answer that broke off: a prediction's is cut here too."""
        return predicted(request)[:-1] if _is_unknown(request, partial) else partial


@dataclass
class Faults:
    """Draws faults and ends them.

    Attributes:
        clock: of Redis, None where none can be moved.
        fast_machine: the environment of a worker whose clock is fast; empty where none can be.
        later: what ends a fault, by the time at which it does.
        drawn: how often each fault struck.
        allowed: the exit codes that a worker may have, by its process.
        ended_badly: exit codes that nobody caused.
        behind_seconds: how far Redis' clock has gone back so far.
    """

    fleet: Fleet
    load: Load
    front: Front
    rng: random.Random
    clock: MovedClock | None
    fast_machine: Mapping[str, str]
    later: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    drawn: Counter[str] = field(default_factory=Counter)
    allowed: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    ended_badly: list[int] = field(default_factory=list)
    behind_seconds: int = 0

    def __post_init__(self) -> None:
        self.api(None)
        self.kinds = self._kinds()

    def _kinds(self) -> dict[str, Callable[[], object]]:
        kinds: dict[str, Callable[[], object]] = {
            "worker killed": lambda: self._kill(self._one()),
            "all workers killed": self._kill_all,
            "worker frozen": self._freeze_worker,
            "worker stopped": self._stop_worker,
            "worker fails at a place": self._fail_at_a_place,
            "worker loses wake-ups": lambda: self._restart(FAILPOINT="wake.send:drop:0"),
            "redis restarted": self._restart_redis,
            "redis away": self._take_redis_away,
            "redis frozen": self._freeze_redis,
            "redis full": lambda: self._configure("maxmemory", "1mb", "0"),
            "replicas missing": lambda: self._configure("min-replicas-to-write", "1", "0"),
            "redis demoted": self._demote_redis,
            "connections cut": lambda: self._tell("CLIENT", "KILL", "TYPE", "normal"),
            "wake-ups deleted": lambda: self._tell("DEL", WAKE_UPS),
            "wake-ups blocked": lambda: self._block(WAKE_UPS),
            "inbox blocked": lambda: self._block(INBOX),
            "due sets deleted": lambda: self._tell("DEL", *DUE_SETS),
            "files break off": self._break_files,
            "files hang": self._silence_files,
            "replies nobody asked for": lambda: self._lie(self.front.unasked),
            "odd statuses": lambda: self._lie(self.front.odd),
            "sent again": self.load.send_again,
            "cancelled": self._cancel,
        }
        for name, rule in API_FAULTS.items():
            kinds[name] = lambda rule=rule: self.api(rule)  # type: ignore[misc]
        if self.clock is not None:
            kinds["redis' clock goes back"] = self._move_clock
            kinds["worker's clock is fast"] = self._make_fast
        return kinds

    def strike(self) -> None:
        """Draws a fault and lets it happen."""
        name = self.rng.choice(list(self.kinds))
        self.drawn[name] += 1
        with contextlib.suppress(RedisError):
            self.kinds[name]()

    def keep(self) -> None:
        """Ends faults whose time is over and starts workers that have ended."""
        now = time.monotonic()
        due = [act for at, act in self.later if at <= now]
        self.later = [(at, act) for at, act in self.later if at > now]
        for act in due:
            act()
        for worker in self.fleet.workers:
            self._look_after(worker)
        self.fleet.revive()

    def _look_after(self, worker: WorkerProcess) -> None:
        """Notes the exit code of a worker that has ended though nobody wanted it to."""
        if worker.process is None or worker.alive:
            return
        code = worker.process.wait()
        if code not in self.allowed.pop(worker.pid, set()):
            self.ended_badly.append(code)

    def release(self) -> None:
        """Lifts a hold that is longer than any fault, as a person does."""
        with contextlib.suppress(RedisError):
            if self.load.client.pttl(KEYS.hold) > LONGEST_HOLD_MS:
                _soon(self.fleet.redis.url, lambda redis: Holds(redis, KEYS).release())

    def calm(self) -> None:
        """Ends every fault."""
        self._thaw()
        for _, act in self.later:
            act()
        self.later = []
        self.front.lie = None
        self.load.files.breaks = False
        self.load.files.awake.set()
        for name, whole in (("maxmemory", "0"), ("min-replicas-to-write", "0")):
            self._tell("CONFIG", "SET", name, whole)
        self._tell("REPLICAOF", "NO", "ONE")
        self.api(None)

    def _after(self, seconds: float, act: Callable[[], object]) -> None:
        self.later.append((time.monotonic() + seconds, act))

    # -- workers

    def _one(self) -> WorkerProcess:
        return self.rng.choice(self.fleet.workers)

    def _kill(self, worker: WorkerProcess) -> None:
        if worker.process is not None and worker.alive:
            self.allowed[worker.pid].add(-signal.SIGKILL)
        worker.kill()

    def _kill_all(self) -> None:
        for worker in self.fleet.workers:
            self._kill(worker)

    def _stop_worker(self) -> None:
        victim = self._one()
        if victim.alive:
            # Until it has begun to work nothing needs an end, and the signal does what it does to
            # every program.
            self.allowed[victim.pid] |= {0} if victim.ready else {0, -signal.SIGTERM}
            victim.send(signal.SIGTERM)

    def _freeze_worker(self) -> None:
        victim = self._one()
        victim.send(signal.SIGSTOP)
        seconds = self.rng.choice((0.5, LEASE_SECONDS + 1.5))
        self._after(seconds, lambda: victim.send(signal.SIGCONT))

    def _restart(self, **more: str) -> WorkerProcess:
        victim = self._one()
        self._kill(victim)
        self._look_after(victim)
        victim.start(**more)
        return victim

    def _fail_at_a_place(self) -> None:
        action = self.rng.choice(("kill", "stop", "disconnect"))
        place = self.rng.choice(PLACES)
        victim = self._restart(FAILPOINT=f"{place}:{action}:{self.rng.randint(1, 5)}")
        if action == "kill":
            self.allowed[victim.pid].add(-signal.SIGKILL)
        # It stops when it gets there, so it may have to be woken more than once.
        for seconds in (8, 16, 32):
            self._after(seconds, lambda: victim.send(signal.SIGCONT))

    def _make_fast(self) -> None:
        victim = self._restart(**self.fast_machine)
        self._after(6, lambda: self._kill(victim))

    # -- Redis

    def _restart_redis(self) -> None:
        self._thaw_redis()
        self.fleet.redis.kill()
        self._start_redis()

    def _take_redis_away(self) -> None:
        self._thaw_redis()
        self.fleet.redis.kill()
        self._after(self.rng.uniform(0.5, 3), self._start_redis)

    def _start_redis(self) -> None:
        process = self.fleet.redis.process
        if process is not None and process.poll() is None:
            return
        try:
            self.fleet.redis.start()
        except SettingError:
            # On a busy machine its file is not read in time.
            self.fleet.redis.kill()
            self._after(1, self._start_redis)

    def _freeze_redis(self) -> None:
        if self.fleet.redis.process is not None:
            self.fleet.redis.process.send_signal(signal.SIGSTOP)
            self._after(self.rng.uniform(0.5, 3), self._thaw_redis)

    def _thaw_redis(self) -> None:
        if self.fleet.redis.process is not None:
            self.fleet.redis.process.send_signal(signal.SIGCONT)

    def _thaw(self) -> None:
        self._thaw_redis()
        for worker in self.fleet.workers:
            worker.send(signal.SIGCONT)

    def _configure(self, name: str, broken: str, whole: str) -> None:
        self._tell("CONFIG", "SET", name, broken)
        self._mend(1.5, "CONFIG", "SET", name, whole)

    def _demote_redis(self) -> None:
        self._tell("REPLICAOF", "127.0.0.1", "9")
        self._mend(1.5, "REPLICAOF", "NO", "ONE")

    def _block(self, key: str) -> None:
        """Puts a text where a list should be, unless the list holds something."""
        self._tell("SET", key, "no list", "NX")
        self._mend(self.rng.uniform(1, 4), "EVAL", _FREE, "1", key)

    def _move_clock(self) -> None:
        assert self.clock is not None
        self.behind_seconds += self.rng.choice((10, HOUR))
        self.clock.move(-self.behind_seconds)

    def _tell(self, *words: str) -> None:
        with Redis.from_url(self.fleet.redis.url, socket_timeout=1, retry=None) as client:
            client.execute_command(*words)

    def _mend(self, seconds: float, *words: str) -> None:
        """Says something to Redis later, again and again until it is heard."""

        def mend() -> None:
            try:
                self._tell(*words)
            except RedisError:
                # It may be away just now.
                self._after(0.5, mend)

        self._after(seconds, mend)

    # -- the API, files, and what people do

    def api(self, rule: dict[str, Any] | None) -> None:
        """Lets the API go wrong for a while; with no rule it does not."""
        rules = [SIMULATED, LATENCY]
        if rule is not None:
            share = self.rng.choice((0.3, 1.0))
            seed = self.rng.randrange(1000)
            rules.insert(0, {"operation": "*", "probability": share, "seed": seed, **rule})
            self._after(1.9, lambda: self.api(None))
        self.fleet.sandbox.faults(*rules)

    def _lie(self, lie: Callable[[bytes, bytes], Answer]) -> None:
        self.front.lie = lie
        self._after(3, lambda: setattr(self.front, "lie", None))

    def _break_files(self) -> None:
        self.load.files.breaks = True
        self._after(3, lambda: setattr(self.load.files, "breaks", False))

    def _silence_files(self) -> None:
        self.load.files.awake.clear()
        self._after(self.rng.uniform(1, 5), self.load.files.awake.set)

    def _cancel(self) -> None:
        expected = self.load.work.expected
        # Trainings and backfills are judged by more than their ends.
        ids = [each for each in expected if each.startswith(("c", "g"))]
        for command_id in self.rng.sample(ids, min(5, len(ids))):
            expected[command_id] = "any"
            _soon(
                self.fleet.redis.url,
                lambda redis, command_id=command_id: cancel(  # type: ignore[misc]
                    redis,
                    KEYS,
                    command_id,
                    retention_seconds=7 * DAY,
                    reply_retention_seconds=DAY,
                ),
            )


def _soon(url: str, act: Callable[[AsyncRedis], Awaitable[object]]) -> None:
    """Does something in Redis within a second; nobody knows whether it was done."""

    async def done() -> None:
        redis = connect(url)
        try:
            async with asyncio.timeout(1):
                await act(redis)
        except (TimeoutError, *RETRYABLE_REDIS_ERRORS):
            pass
        finally:
            await redis.aclose()

    asyncio.run(done())
