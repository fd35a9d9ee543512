"""A dead, a slow, a flapping and a lying endpoint beside a good one; the sender is killed."""

from __future__ import annotations

import base64
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.enums import EventState
from schemas.events import event_json
from tests.console import SCRIPT
from tests.faults.audit import Report
from tests.faults.fleet import wait_until
from worker.embedded import EmbeddedRedis
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

BAD: Final = ("dead", "slow", "flapping", "lying")
SUBJECTS: Final = 200
# Events that are published so soon before a kill, or so long after it, are not of a calm time.
BEFORE_KILL_SECONDS: Final = 2.0
AFTER_KILL_SECONDS: Final = 15.0
WARM_SECONDS: Final = 3.0
DRAIN_SECONDS: Final = 900.0
SINK_SECRET: Final = "whsec_" + base64.b64encode(b"k" * 32).decode()


@dataclass
class _Round:
    """What happened to one namespace: when events were published, when the sender was killed."""

    namespace: str
    kinds: tuple[str, ...]
    published: dict[str, float] = field(default_factory=dict)
    kills: list[float] = field(default_factory=list)
    taken: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    deliveries: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    order: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))

    def read(self, log: Path) -> None:
        """Reads what endpoints have taken."""
        for line in log.read_text("utf-8").splitlines():
            kind, at, event_id = line.split(" ")
            self.deliveries[kind] += 1
            if event_id not in self.taken[kind]:
                self.taken[kind][event_id] = float(at)
                subject, _, number = event_id.rpartition(".")
                self.order[kind, subject].append(int(number))

    @property
    def lost(self) -> int:
        return sum(len(self.published.keys() - self.taken[kind].keys()) for kind in self.kinds)

    @property
    def disordered(self) -> int:
        return sum(1 for numbers in self.order.values() if numbers != sorted(numbers))

    def delays(self, *, calm: bool) -> list[float]:
        """Returns how long the good endpoint's events took, in seconds."""
        return [
            at - self.published[event_id]
            for event_id, at in self.taken["good"].items()
            if event_id in self.published and (not calm or self._is_calm(self.published[event_id]))
        ]

    def _is_calm(self, at: float) -> bool:
        # In its first seconds a process connects, and all beside it do so too.
        return at > min(self.published.values()) + WARM_SECONDS and all(
            not kill - BEFORE_KILL_SECONDS < at < kill + AFTER_KILL_SECONDS for kill in self.kills
        )


def sinks(
    folder: Path, seed: int, *, rounds: int, seconds: float, kills: int, per_second: int = 50
) -> Report:
    """Compares a good endpoint alone with the same one beside bad ones, in turns.

    Args:
        folder: for Redis and the endpoints.
        seed: of the moments of the kills.
        rounds: of both, one after the other.
        seconds: of load in each.
        kills: of the sender in each.
        per_second: events.
    """
    rng = random.Random(seed)
    alone: list[_Round] = []
    beside: list[_Round] = []
    with EmbeddedRedis(folder / "redis") as server:
        client = RedisAddress.parse(server.url).client()
        for number in range(rounds):
            moments = sorted(rng.uniform(0.1, 0.6) * seconds for _ in range(kills))
            for name, kinds, into in (
                ("alone", ("good",), alone),
                ("beside", ("good", *BAD), beside),
            ):
                one = _Round(f"{name}-{number}", kinds)
                _run(folder / one.namespace, server.url, client, one, moments, seconds, per_second)
                into.append(one)
        client.close()
    both = [*alone, *beside]
    p99_alone, p99_beside = _p99(alone, calm=False), _p99(beside, calm=False)
    calm_alone, calm_beside = _p99(alone, calm=True), _p99(beside, calm=True)
    deliveries = {kind: sum(one.deliveries[kind] for one in beside) for kind in ("good", *BAD)}
    return Report(
        "sinks",
        faults=sum(len(one.kills) for one in both),
        commands=sum(len(one.published) for one in both),
        lost=sum(one.lost for one in both),
        doubled=0,
        wrong=sum(one.disordered for one in both),
        details={
            "p99 alone, s": round(p99_alone, 3),
            "beside, s": round(p99_beside, 3),
            "calm p99 alone, s": round(calm_alone, 4),
            "calm beside, s": round(calm_beside, 4),
            "calm p50 alone, s": round(_quantile(alone, 0.5), 4),
            "calm p50 beside, s": round(_quantile(beside, 0.5), 4),
            "events beside": sum(len(one.published) for one in beside),
            **{f"to {kind}": number for kind, number in deliveries.items()},
        },
    )


def _p99(rounds: list[_Round], *, calm: bool) -> float:
    delays = sorted(each for one in rounds for each in one.delays(calm=calm))
    return delays[int(len(delays) * 0.99)] if delays else 0.0


def _quantile(rounds: list[_Round], share: float) -> float:
    delays = sorted(each for one in rounds for each in one.delays(calm=True))
    return delays[int(len(delays) * share)] if delays else 0.0


def _run(
    folder: Path,
    url: str,
    client: Redis,
    one: _Round,
    moments: list[float],
    seconds: float,
    per_second: int,
) -> None:
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        good, ports = stack.enter_context(open_endpoints(folder / "good.log", ("good",)))
        bad, more = stack.enter_context(open_endpoints(folder / "bad.log", one.kinds[1:]))
        sender = _Sender(folder, url, one.namespace, ports | more)
        stack.callback(sender.end)
        sender.start()
        followers = f"{{{one.namespace}}}:followers"
        wait_until(lambda: client.hlen(followers) == len(one.kinds), 120, "all sinks lead")
        publisher = threading.Thread(
            target=_publish, args=(client, one, seconds, per_second), daemon=True
        )
        begun = time.time()
        publisher.start()
        for moment in moments:
            time.sleep(max(begun + moment - time.time(), 0))
            one.kills.append(time.time())
            sender.kill()
            sender.start()
        publisher.join()
        for process in (good, bad):
            assert process.stdin is not None
            process.stdin.write("healed\n")
            process.stdin.flush()

        def has_all() -> bool:
            # Counted by lines, which is cheap: repetitions only make it look again.
            found = _Round(one.namespace, one.kinds, one.published)
            for log in ("good.log", "bad.log"):
                found.read(folder / log)
            time.sleep(0.5)
            return found.lost == 0

        # The report tells how many are lost.
        with suppress(AssertionError):
            wait_until(has_all, DRAIN_SECONDS, "everything is delivered")
        for log in ("good.log", "bad.log"):
            one.read(folder / log)


def _publish(client: Redis, one: _Round, seconds: float, per_second: int) -> None:
    begun = time.time()
    counts = dict.fromkeys(range(SUBJECTS), 0)
    for number in range(int(seconds * per_second)):
        time.sleep(max(begun + number / per_second - time.time(), 0))
        subject = number % SUBJECTS
        event_id = f"s{subject}.{counts[subject]}"
        counts[subject] += 1
        text = event_json(
            event_id=event_id,
            command_type="train",
            state=EventState.PROGRESSED,
            subject=f"s{subject}",
            time_ms=int(time.time() * 1000),
            data={"padding": "x" * 500},
            context={},
        )
        one.published[event_id] = time.time()
        client.xadd(f"{{{one.namespace}}}:events", {"event": text})


@contextmanager
def open_endpoints(
    log: Path, kinds: tuple[str, ...]
) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    """Serves these kinds of endpoints; yields their process, and the port of each."""
    log.touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.endpoints", str(log), *kinds],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        ports = {}
        for _ in kinds:
            kind, port = process.stdout.readline().split()
            ports[kind] = int(port)
        yield process, ports
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


class _Sender:
    """`trainmaster sinks run`, that can be killed."""

    def __init__(self, folder: Path, url: str, namespace: str, ports: dict[str, int]) -> None:
        file = folder / "integrations.toml"
        file.write_text(
            "".join(
                f"[sinks.{kind}.webhook]\n"
                f'url = "http://127.0.0.1:{port}/hook"\n'
                'secrets = [{ env = "SINK_SECRET" }]\n'
                "allow_private = true\n"
                for kind, port in ports.items()
            ),
            "utf-8",
        )
        self._log = folder / "sender.log"
        self._environment = os.environ | {
            "TRAINMASTER_REDIS_URL": url,
            "TRAINMASTER_NAMESPACE": namespace,
            "TRAINMASTER_INTEGRATIONS_FILE": str(file),
            "SINK_SECRET": SINK_SECRET,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [SCRIPT, "sinks", "run"],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        assert self._process is not None
        # All processes of it at once, and none of them may say a word.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
