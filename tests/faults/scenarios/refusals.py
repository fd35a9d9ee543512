"""Refusals in the middle of scripts: used-up streams, keys of the wrong type, rights taken away."""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from tests.faults.audit import Audit, Report, report
from tests.faults.fleet import Fleet, Repeater
from tests.faults.workload import INBOX, Scene, bad_messages, doubled_titles, mixed
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

KEYS: Final = Keys("trainmaster")
STREAMS: Final = (KEYS.commands, KEYS.bulk_commands, KEYS.events, KEYS.dead_letters)
SHARED: Final = (*STREAMS, KEYS.due_interactive, KEYS.due_bulk, KEYS.deadlines)
# What stands in the middle of a script.
RIGHTS: Final = (
    "xadd", "xack", "xdel", "hset", "hdel", "set", "del", "zadd", "zrem", "expire", "lpop",
)  # fmt: skip
GREATEST: Final = f"{2**64 - 1}-{2**64 - 1}"
USER: Final = "fleet"
PASSWORD: Final = "no secret of anybody"


def streams_used_up(
    folder: Path, seed: int, commands: int, rounds: int, *, seconds: float = 3, **settings: str
) -> Report:
    """Lets producers send on while Redis refuses something else in each round.

    Args:
        folder: for everything that the scenario leaves.
        seed: of the commands and of what is refused.
        commands: good ones; a twentieth of bad messages comes on top.
        rounds: how often something is refused.
        seconds: for how long each time; then all goes on for as long.
        settings: of the workers' environment.
    """
    rng = random.Random(seed)
    with Fleet(folder, 0, settings) as fleet:
        _admit(fleet)
        fleet.add_workers(2)
        scene = Scene.prepare(fleet)
        work = mixed(scene, commands, rng)
        work.bad = bad_messages(commands // 20, rng)
        fleet.wait_ready()
        messages = [*(text.encode() for text in work.texts.values()), *work.bad]
        rng.shuffle(messages)
        producer = _Producer(fleet.client, messages, rng, 2 * rounds * seconds)
        audit = Audit(fleet)
        for number in range(rounds):
            with _refusing(fleet, rng, number):
                _spend(producer, seconds)
                if number % 3 == 1:
                    rng.choice(fleet.workers).kill()
            fleet.revive()
            _spend(producer, seconds)
        producer.send_rest()
        expected = commands + len(set(work.bad))
        _until(audit, fleet, expected)
        models = fleet.sandbox.truth()["created"]["models"]
        left = int(fleet.client.llen(INBOX)) + int(fleet.client.llen(KEYS.processing))
        letters = Counter(str(letter) for letter in _without_times(audit.dead_letters()))
        return report(
            f"streams used up[seed {seed}]",
            audit,
            work.expected,
            faults=rounds + rounds // 3,
            rejections=len(work.bad),
            doubled=doubled_titles(models, "c ") + letters.total() - len(letters),
            wrong=left,
            details={"refused sends": producer.refused},
        )


def _admit(fleet: Fleet) -> None:
    """Gives the workers a user of their own, from whom rights can be taken."""
    fleet.client.execute_command("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")  # type: ignore[no-untyped-call]
    address = fleet.redis.url.rpartition("@")[2]
    url = f"redis://{USER}:{PASSWORD.replace(' ', '%20')}@{address}"
    fleet.settings = {**fleet.settings, "TRAINMASTER_REDIS_URL": url}


@contextmanager
def _refusing(fleet: Fleet, rng: random.Random, number: int) -> Iterator[None]:
    """Refuses something to the workers, in turns of three kinds."""
    with ExitStack() as stack:
        match number % 3:
            case 0:
                # That of commands always: what is pushed meanwhile has to stay in its list.
                others = rng.sample(STREAMS[1:], rng.randint(0, len(STREAMS) - 1))
                for stream in (KEYS.commands, *others):
                    stack.enter_context(_used_up(fleet.client, stream))
            case 1:
                stack.enter_context(_misplaced(fleet.client, rng.choice(SHARED)))
            case _:
                for right in rng.sample(RIGHTS, rng.randint(1, 3)):
                    stack.enter_context(_without(fleet.client, right))
        yield


@contextmanager
def _used_up(client: Redis, stream: str) -> Iterator[None]:
    """Gives a stream the greatest id that there is, and later the one that it had."""
    if not client.exists(stream):
        client.xadd(stream, {"first": "1"})
        client.xtrim(stream, 0)
    last: Any = client.xinfo_stream(stream)["last-generated-id"]
    client.execute_command("XSETID", stream, GREATEST)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        client.execute_command("XSETID", stream, last)  # type: ignore[no-untyped-call]


@contextmanager
def _misplaced(client: Redis, key: str) -> Iterator[None]:
    """Puts a text where something else belongs, and what was there back later."""
    aside = f"aside:{key}"
    pipe = client.pipeline(transaction=True)
    was_there = bool(client.exists(key))
    if was_there:
        pipe.rename(key, aside)
    pipe.set(key, "a text")
    try:
        pipe.execute()
    except ResponseError:
        # A due set that has just become empty.
        client.set(key, "a text")
        was_there = False
    try:
        yield
    finally:
        pipe.delete(key)
        if was_there:
            pipe.rename(aside, key)
        pipe.execute()


@contextmanager
def _without(client: Redis, right: str) -> Iterator[None]:
    client.execute_command("ACL", "SETUSER", USER, f"-{right}")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        client.execute_command("ACL", "SETUSER", USER, f"+{right}")  # type: ignore[no-untyped-call]


class _Producer:
    """Sends messages all along; what Redis does not take is sent again."""

    def __init__(
        self, client: Redis, messages: list[bytes], rng: random.Random, seconds: float
    ) -> None:
        self._client = client
        self._messages = messages
        self._rng = rng
        self._begun = time.monotonic()
        self._seconds = seconds
        self._count = len(messages)
        self.refused = 0

    def send(self) -> None:
        """Sends what should have been sent by now."""
        share = (time.monotonic() - self._begun) / self._seconds
        while self._messages and self._count - len(self._messages) < share * self._count:
            if not self._send_one():
                return

    def send_rest(self) -> None:
        while self._messages:
            self._send_one()

    def _send_one(self) -> bool:
        message = self._messages[-1]
        try:
            if self._rng.random() < 0.5:
                self._client.rpush(INBOX, message)
            else:
                is_bulk = b'"priority": "bulk"' in message
                stream = KEYS.bulk_commands if is_bulk else KEYS.commands
                self._client.xadd(stream, {"command": message})
        except ResponseError:
            self.refused += 1
            return False
        self._messages.pop()
        return True


def _spend(producer: _Producer, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        producer.send()
        time.sleep(0.02)


def _until(audit: Audit, fleet: Fleet, ended: int, seconds: float = 180) -> None:
    begun = time.monotonic()
    repeaters = (Repeater(audit.update, 0.25), Repeater(fleet.revive, 1))
    while audit.ended() + len(audit.rejected) < ended and time.monotonic() - begun < seconds:
        for repeater in repeaters:
            repeater.tick()
        time.sleep(0.05)
    time.sleep(2)
    audit.update()


def _without_times(letters: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for letter in letters:
        yield {"id": letter["id"], "text": letter.get("text", letter.get("text_base64"))}
