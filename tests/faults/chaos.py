"""Chaos: for minutes on end a fault drawn at random, out of all kinds that the suite knows.

The faults overlap: a worker may freeze while Redis is full and the API answers 503. What must hold
is the promise, for each command, whatever happened to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from tests.faults.audit import UNKNOWN, Audit, Report, report
from tests.faults.fleet import QUICK, Fleet, Repeater
from tests.faults.workload import (
    ARCHITECTURE,
    COMMANDS,
    Scene,
    Workload,
    bad_messages,
    doubled_titles,
    mixed,
)
from worker.ledger.cancellation import cancel
from worker.ledger.connection import LEDGER_TROUBLE, connect
from worker.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEASE_SECONDS = float(QUICK["TRAINMASTER_LEASE_SECONDS"])
# How long a training is waited for, and so how long its creation may stay in doubt.
TRAINING_SECONDS = 120
ROUNDS_PER_MODEL = 100
DAY = 86_400
# Of a worker that was asked to stop, and of one that was killed.
EXIT_CODES = {0, -9}
# Everything that is under way may take so long once nothing goes wrong any more.
CALM_SECONDS = 180.0
SETTINGS = {
    # A fault every two seconds leaves hardly an attempt whole.
    "TRAINMASTER_MAX_ATTEMPTS": "1000",
    # A worker may die or freeze as often as that with the same command in hand.
    "TRAINMASTER_MAX_CLAIMS": "100",
    "TRAINMASTER_READ_TIMEOUT_SECONDS": "2",
}


def chaos(
    folder: Path, seed: int, seconds: float, *, every_seconds: float = 2.0, per_second: float = 12
) -> Report:
    """Sends a steady load while one fault after the other strikes, then lets everything end.

    Args:
        folder: for everything that the scenario leaves.
        seed: of the commands, of the faults and of whom they hit.
        seconds: how long faults strike.
        every_seconds: between two of them.
        per_second: commands sent, on average.
    """
    with Fleet(folder, 3, SETTINGS) as fleet:
        storm = _Storm(fleet, Scene.prepare(fleet), random.Random(seed))
        fleet.wait_ready()
        audit = Audit(fleet)
        patient = fleet.client
        # Whoever reads must not wait for a Redis that the same thread has to let go on.
        fleet.client = storm.client
        sender = Repeater(lambda: storm.send(round(per_second)), 1.0)
        striker = Repeater(storm.strike, every_seconds)
        keepers = (sender, striker, Repeater(storm.keep, 0.25))
        reader = Repeater(lambda: _read(audit), 1.0)
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            for keeper in (*keepers, reader):
                keeper.tick()
            time.sleep(0.02)
        storm.calm()
        end = time.monotonic() + CALM_SECONDS
        while time.monotonic() < end and not storm.over(audit):
            storm.keep()
            reader.tick()
            time.sleep(0.1)
        time.sleep(2)
        fleet.client = patient
        audit.update()
        storm.codes.update(worker.terminate()[0] for worker in fleet.workers)
        return _judged(f"chaos, {seconds:.0f} s[seed {seed}]", storm, audit)


@dataclass
class _Storm:
    """What is sent, and what happens meanwhile.

    Attributes:
        later: what ends a fault, by the time at which it does.
        unsent: what Redis did not acknowledge; its producer sends it again, with the same id.
        drawn: how often each fault struck.
        codes: how often workers ended with each exit code.
    """

    fleet: Fleet
    scene: Scene
    rng: random.Random
    work: Workload = field(default_factory=Workload)
    same: dict[str, tuple[str, int]] = field(default_factory=dict)
    bad: int = 0
    unsent: list[bytes] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    later: list[tuple[float, Callable[[], object]]] = field(default_factory=list)
    drawn: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    round: int = 0
    model_uuid: str = ""

    def __post_init__(self) -> None:
        self.api(None)
        # A client that waits for nobody: a producer must know at once that Redis is away.
        self.client = Redis.from_url(self.fleet.redis.url, socket_timeout=1, retry=None)
        self.celery = Celery("chaos", broker=self.fleet.redis.url, set_as_current=False)
        self.celery.conf.broker_transport_options = {
            "global_keyprefix": "{trainmaster}:",
            "socket_timeout": 1,
            "socket_connect_timeout": 1,
        }

    # -- what is sent

    def send(self, count: int) -> None:
        """Sends a round of commands, a training, and now and then what is no command."""
        self.round += 1
        part = mixed(self.scene, count, self.rng, prefix=f"c{self.round}")
        if self.round % ROUNDS_PER_MODEL == 1:
            self.model_uuid = self.fleet.sandbox.create_model(ARCHITECTURE)
        # Every other one is the same as the one before it.
        epochs = self.round // 2 + 1
        data = self.scene.training(self.model_uuid, epochs=epochs, timeout_seconds=TRAINING_SECONDS)
        part.add(f"t-{self.round}", "train", data, "created")
        self.same[f"t-{self.round}"] = (self.model_uuid, epochs)
        part.bad = bad_messages(1, self.rng) if self.round % 7 == 0 else []
        part.bad = [message + b" %d" % self.round for message in part.bad]
        self.bad += len(part.bad)
        self.work.expected |= part.expected
        self.unsent += [*(text.encode() for text in part.texts.values()), *part.bad]

    def keep(self) -> None:
        """Sends what is unsent, starts workers that died, ends faults whose time is over."""
        now = time.monotonic()
        due = [act for at, act in self.later if at <= now]
        self.later = [(at, act) for at, act in self.later if at > now]
        for act in due:
            act()
        for worker in self.fleet.workers:
            if worker.process is not None and not worker.alive:
                self.codes[worker.process.returncode] += 1
        self.fleet.revive()
        while self.unsent:
            message = self.unsent[0]
            try:
                # Bad ones have no id, so that sending one twice would be two.
                self._send_one(message)
            except RedisError:
                return
            self.sent.append(self.unsent.pop(0))

    def _send_one(self, message: bytes) -> None:
        way = self.rng.random()
        is_command = message.startswith(b'{"id"')
        if is_command and way < 0.1:
            self.client.rpush("{trainmaster}:inbox", message)
        elif is_command and way < 0.15:
            with contextlib.suppress(Exception):
                self.celery.send_task("trainmaster.submit", [json.loads(message)], retry=False)
            # Celery's word is not trusted: the same id comes by the stream too.
            self.client.xadd(COMMANDS, {"command": message})
        elif is_command:
            self.client.xadd(COMMANDS, {"command": message})
        else:
            self._send_once(message)

    def _send_once(self, message: bytes) -> None:
        """Adds a message that has no id exactly once, though replies get lost."""
        length = Redis.from_url(self.fleet.redis.url, socket_timeout=1, retry=None)
        with length:
            # One script: added before or not at all.
            length.eval(
                "if redis.call('SET', KEYS[2], '1', 'NX', 'EX', 86400) then "
                "redis.call('XADD', KEYS[1], '*', 'command', ARGV[1]) end",
                2,
                COMMANDS,
                f"{{trainmaster}}:sent:{hash(message)}",
                message,
            )

    # -- what goes wrong

    def strike(self) -> None:
        """Draws a fault and lets it happen."""
        faults: dict[str, Callable[[], object]] = {
            "worker killed": lambda: self.rng.choice(self.fleet.workers).kill(),
            "all workers killed": self._kill_workers,
            "worker frozen": self._freeze_worker,
            "worker stopped": lambda: self.rng.choice(self.fleet.workers).send(signal.SIGTERM),
            "redis restarted": self._restart_redis,
            "redis away": self._take_redis_away,
            "redis frozen": self._freeze_redis,
            "redis full": lambda: self._configure("maxmemory", "1mb", "0", 1.5),
            "replicas missing": lambda: self._configure("min-replicas-to-write", "1", "0", 1.5),
            "connections cut": lambda: self._tell("CLIENT", "KILL", "TYPE", "normal"),
            "wake-ups deleted": lambda: self._tell("DEL", "{trainmaster}:wake"),
            "sent again": self._send_again,
            "cancelled": self._cancel,
            "api refuses": lambda: self.api({"effect": "status", "status": 503}),
            "api resets": lambda: self.api({"effect": "reset"}),
            "api resets late": lambda: self.api({"effect": "reset", "carried_out": True}),
            "api fails late": lambda: self.api({"effect": "commit_then_fail", "status": 502}),
            "api truncates": lambda: self.api({"effect": "truncated"}),
            "api is slow": lambda: self.api({"effect": "latency", "seconds": 3}),
            "api asks to wait": lambda: self.api({
                "effect": "status",
                "status": 429,
                "headers": {"Retry-After": "2"},
            }),
            "api knows no key": lambda: self.api({"effect": "status", "status": 401}),
        }
        name = self.rng.choice(list(faults))
        self.drawn[name] += 1
        with contextlib.suppress(RedisError):
            faults[name]()

    def api(self, rule: dict[str, Any] | None) -> None:
        """Lets the API go wrong for a while; with no rule it does not."""
        simulated = {
            "operation": "create_training_job",
            "effect": "training",
            "training": "simulated",
            "seconds": 2,
        }
        rules: list[dict[str, Any]] = [
            simulated,
            {"operation": "*", "effect": "latency", "seconds": 0.1},
        ]
        if rule is not None:
            share = self.rng.choice((0.3, 1.0))
            rules.insert(
                0,
                {"operation": "*", "probability": share, "seed": self.rng.randrange(1000), **rule},
            )
            self.later.append((time.monotonic() + 1.9, lambda: self.api(None)))
        self.fleet.sandbox.faults(*rules)

    def _kill_workers(self) -> None:
        for worker in self.fleet.workers:
            worker.kill()

    def _freeze_worker(self) -> None:
        victim = self.rng.choice(self.fleet.workers)
        victim.send(signal.SIGSTOP)
        seconds = self.rng.choice((0.5, LEASE_SECONDS + 1.5))
        self.later.append((time.monotonic() + seconds, lambda: victim.send(signal.SIGCONT)))

    def _restart_redis(self) -> None:
        self._thaw_redis()
        self.fleet.redis.kill()
        self.fleet.redis.start()

    def _take_redis_away(self) -> None:
        self._thaw_redis()
        self.fleet.redis.kill()
        time.sleep(self.rng.uniform(0.5, 3))
        self.fleet.redis.start()

    def _freeze_redis(self) -> None:
        if self.fleet.redis.process is not None:
            self.fleet.redis.process.send_signal(signal.SIGSTOP)
            self.later.append((time.monotonic() + self.rng.uniform(0.5, 3), self._thaw_redis))

    def _thaw_redis(self) -> None:
        if self.fleet.redis.process is not None:
            self.fleet.redis.process.send_signal(signal.SIGCONT)

    def _configure(self, name: str, broken: str, whole: str, seconds: float) -> None:
        self._tell("CONFIG", "SET", name, broken)

        def mend() -> None:
            try:
                self._tell("CONFIG", "SET", name, whole)
            except RedisError:
                # A Redis that was restarted meanwhile has forgotten it; one that is away may not.
                self.later.append((time.monotonic() + 0.5, mend))

        self.later.append((time.monotonic() + seconds, mend))

    def _send_again(self) -> None:
        """Sends commands again that were sent before, whatever became of them."""
        commands = [message for message in self.sent[-2000:] if message.startswith(b'{"id"')]
        for message in self.rng.sample(commands, min(20, len(commands))):
            self.client.xadd(COMMANDS, {"command": message})

    def _cancel(self) -> None:
        ids = self.rng.sample(list(self.work.expected), min(5, len(self.work.expected)))
        for command_id in ids:
            if not command_id.startswith("t-"):
                self.work.expected[command_id] = "any"
                asyncio.run(_cancel(self.fleet.redis.url, command_id))

    def _tell(self, *words: str) -> None:
        with Redis.from_url(self.fleet.redis.url, socket_timeout=1, retry=None) as client:
            client.execute_command(*words)

    # -- the end

    def calm(self) -> None:
        """Ends every fault, and sends what could not be sent."""
        self._thaw_redis()
        for worker in self.fleet.workers:
            worker.send(signal.SIGCONT)
        for _, act in self.later:
            act()
        self.later = []
        self.api(None)

    def over(self, audit: Audit) -> bool:
        """Whether everything that was sent has ended."""
        return (
            not self.unsent
            and audit.ended() >= len(self.work.expected)
            and len({event["id"] for event in audit.rejected}) >= self.bad
        )


async def _cancel(url: str, command_id: str) -> None:
    redis = connect(url)
    try:
        async with asyncio.timeout(1):
            await cancel(
                redis,
                Keys("trainmaster"),
                command_id,
                retention_seconds=7 * DAY,
                reply_retention_seconds=DAY,
            )
    except (TimeoutError, *LEDGER_TROUBLE):
        # Nobody knows whether it was cancelled; it may have any end.
        pass
    finally:
        await redis.aclose()


def _read(audit: Audit) -> None:
    with contextlib.suppress(RedisError):
        audit.update()


def _judged(name: str, storm: _Storm, audit: Audit) -> Report:
    truth = storm.fleet.sandbox.truth()["created"]
    made = Counter((one["model_uuid"], one["epochs"]) for one in truth["trainings"])
    wanted = Counter(storm.same.values())
    unknown = sum(letter["error"]["code"] == UNKNOWN for letter in audit.dead_letters())
    doubled = sum(max(0, count - wanted[kind]) for kind, count in made.items())
    titles = [model for model in truth["models"] if model["title"].startswith("c")]
    return report(
        name,
        audit,
        storm.work.expected,
        faults=storm.drawn.total(),
        rejections=storm.bad,
        doubled=doubled + doubled_titles(titles, "c"),
        wrong=sum(count for code, count in storm.codes.items() if code not in EXIT_CODES),
        details={
            "kinds": len(storm.drawn),
            UNKNOWN: unknown,
            "exit codes": dict(storm.codes),
        },
    )
