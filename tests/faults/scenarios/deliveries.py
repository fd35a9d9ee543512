"""Webhooks in: deliveries sent three times, forged ones among them, while gateways are killed."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import threading
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import aiohttp
import orjson

from tests.console import Console
from tests.faults.audit import Audit, Report, report
from tests.faults.fleet import Fleet, Repeater
from tests.faults.workload import Scene
from tests.gateway_process import GatewayProcess

if TYPE_CHECKING:
    from pathlib import Path

SECRET: Final = "whsec-that-no-log-may-show"
PREFIX: Final = "{trainmaster}:"
COPIES: Final = 3
PROJECTS: Final = 40
# Senders give up later; what takes so long counts as lost.
SEND_SECONDS: Final = 600.0
_REQUEST_SECONDS: Final = 20.0

Kind = Literal["plain", "joined", "foreign", "secret", "stale", "body"]
FORGED: Final = ("secret", "stale", "body")


@dataclass
class Letter:
    """One delivery, sent several times.

    Attributes:
        answers: what its sends were answered in the end.
    """

    uid: str
    kind: Kind
    project: str
    answers: list[int] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        event = (
            "agent_stage_work_available_event" if self.kind == "joined" else "task_submitted_event"
        )
        return orjson.dumps({
            "uid": self.uid,
            "version": 1,
            "source": "encord",
            "event_type": event,
            "event_created_timestamp": "2026-11-27T06:00:00Z",
            "payload": {"project_hash": self.project, "data_hashes": [], "label_hashes": []},
        })

    def post(self) -> tuple[dict[str, str], bytes]:
        """Returns headers and body of one send, signed now."""
        body = self.body
        timestamp = str(int(time.time()) - (1_000 if self.kind == "stale" else 0))
        secret = "another" if self.kind == "secret" else SECRET
        signed = f"{timestamp}.".encode() + body
        signature = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        if self.kind == "body":
            body = body.replace(b'"version":1', b'"version": 1')
        headers = {"X-Encord-Timestamp": timestamp, "X-Encord-Signature": signature}
        return {**headers, "Content-Type": "application/json"}, body


def deliveries(
    folder: Path,
    seed: int,
    count: int,
    kills: int,
    *,
    senders: int = 40,
    per_second: float = 0.0,
) -> Report:
    """Sends deliveries to two gateways while these and Redis are killed, and reads what came of it.

    Nine in ten are good. Half of those become a command each, the other half are joined in windows
    of their projects; and on the ends of some of the first a command follows.

    Args:
        folder: for everything that the scenario leaves.
        seed: of the deliveries and of whom it hits.
        count: of the deliveries; each is sent three times.
        kills: of a gateway or of Redis, spread over the load.
        senders: requests at the same time.
        per_second: requests; 0 for as many as go.
    """
    rng = random.Random(seed)
    with Fleet(folder, 2) as fleet:
        scene = Scene.prepare(fleet)
        projects = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in range(PROJECTS)]
        letters = _letters(count, projects, rng)
        file = folder / "integrations.toml"
        file.write_text(_rules(scene.model_uuid, projects), encoding="utf-8")
        console = Console(
            fleet.redis.url,
            "trainmaster",
            ENCORD_WEBHOOK_SECRET=SECRET,
            TRAINMASTER_INTEGRATIONS_FILE=str(file),
            TRAINMASTER_GATEWAY_FOLDER=str(folder / "gateway"),
        )
        gateways = [
            GatewayProcess(console, folder / f"gateway-{number}.log") for number in range(2)
        ]
        try:
            for gateway in gateways:
                gateway.start()
            fleet.wait_ready()
            load = _Load(letters, [gateway.url for gateway in gateways], rng, senders, per_second)
            killer = _Killer(fleet, gateways, rng)
            begun = time.monotonic()
            load.start()
            audit = Audit(fleet)
            reading = Repeater(audit.update, 0.5)
            while load.runs:
                # What is not held back would be over before the last kill.
                share = COPIES * count * (killer.kills + 1) // (kills + 1)
                load.most = share + 3 * senders if killer.kills < kills else COPIES * count
                if load.answered >= share and killer.kills < kills:
                    killer.kill_one()
                reading.tick()
                time.sleep(0.05)
            load.join()
            took = time.monotonic() - begun
            return _judge(f"deliveries[seed {seed}]", audit, load, killer, gateways, took)
        finally:
            for gateway in gateways:
                with suppress(AssertionError):
                    gateway.kill()


def _letters(count: int, projects: list[str], rng: random.Random) -> list[Letter]:
    kinds: list[Kind] = ["foreign", *FORGED]
    letters = []
    for number in range(count):
        uid = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        good: Kind = "joined" if number % 2 else "plain"
        kind = kinds[number // 10 % len(kinds)] if number % 10 == 9 else good
        project = str(uuid.UUID(int=0)) if kind == "foreign" else rng.choice(projects)
        letters.append(Letter(uid, kind, project))
    return letters


def _rules(model_uuid: str, projects: list[str]) -> str:
    allow = json.dumps(projects)
    return f"""
[sources.encord]
scheme = "encord"
secrets = [{{ env = "ENCORD_WEBHOOK_SECRET" }}]

[[sources.encord.rules]]
name = "look"
on = "task_submitted_event"
allow = {allow}
[sources.encord.rules.command]
type = "get_model"
data.model_uuid = "'{model_uuid}'"

[[sources.encord.rules]]
name = "join"
on = "agent_stage_work_available_event"
allow = {allow}
coalesce = {{ key = "body.payload.project_hash", window_seconds = 2 }}
[sources.encord.rules.command]
type = "get_model"
deliveryuids = "join(' ', deliveries[].uid)"
data.model_uuid = "'{model_uuid}'"

[sources.follow]
scheme = "events"
[[sources.follow.rules]]
name = "again"
on = "get_model.succeeded"
when = "starts_with(body.subject, 'encord/look/') && ends_with(body.subject, '7')"
[sources.follow.rules.command]
type = "get_model"
data.model_uuid = "'{model_uuid}'"
"""


class _Load:
    """Sends each delivery three times in a thread of its own, and each time until it is answered.

    Attributes:
        seconds: how long answers took, of requests that were answered.
        unanswered: sends that nobody has answered in all the time that they had.
        most: sends that may have been answered.
    """

    def __init__(
        self,
        letters: list[Letter],
        urls: list[str],
        rng: random.Random,
        senders: int,
        per_second: float,
    ) -> None:
        self.letters = letters
        self.seconds: list[float] = []
        self.unanswered = 0
        self.answered = 0
        self.most = senders
        self.again = 0
        self._urls = urls
        self._senders = senders
        self._per_second = per_second
        self._queue = [letter for letter in letters for _ in range(COPIES)]
        rng.shuffle(self._queue)
        self._rng = random.Random(rng.random())
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send_all()))

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    async def _send_all(self) -> None:
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        waiting = iter(enumerate(self._queue))
        self._begun = time.monotonic()
        async with aiohttp.ClientSession(timeout=timeout) as session:

            async def work() -> None:
                for number, letter in waiting:
                    while number > self.most:
                        await asyncio.sleep(0.02)
                    if self._per_second:
                        at = self._begun + number / self._per_second
                        await asyncio.sleep(max(0.0, at - time.monotonic()))
                    await self._send(session, letter)

            await asyncio.gather(*(work() for _ in range(self._senders)))

    async def _send(self, session: aiohttp.ClientSession, letter: Letter) -> None:
        until = time.monotonic() + SEND_SECONDS
        while time.monotonic() < until:
            headers, body = letter.post()
            url = f"{self._rng.choice(self._urls)}/v1/webhooks/encord"
            begun = time.perf_counter()
            try:
                async with session.post(url, headers=headers, data=body) as answer:
                    await answer.read()
            except (aiohttp.ClientError, OSError, TimeoutError):
                # Whether it was taken is not known: a sender sends it again.
                self.again += 1
                await asyncio.sleep(0.1)
                continue
            self.seconds.append(time.perf_counter() - begun)
            if answer.status >= 500:
                self.again += 1
                await asyncio.sleep(0.1)
                continue
            letter.answers.append(answer.status)
            self.answered += 1
            return
        self.unanswered += 1


class _Killer:
    """Kills a gateway or Redis, and starts it again."""

    def __init__(self, fleet: Fleet, gateways: list[GatewayProcess], rng: random.Random) -> None:
        self.kills = 0
        self.of_redis = 0
        self._fleet = fleet
        self._gateways = gateways
        self._rng = rng

    def kill_one(self) -> None:
        self.kills += 1
        if self._rng.random() < 0.3:
            self.of_redis += 1
            self._fleet.redis.kill()
            self._fleet.redis.start()
            return
        gateway = self._rng.choice(self._gateways)
        gateway.kill()
        gateway.start()


def left_of_windows(client: Any) -> list[str]:
    """Returns the keys of windows that nobody closed; their set may stay, with its mark in it."""
    windows = f"{PREFIX}windows"
    left = {key.decode() for key in client.scan_iter(f"{PREFIX}window*")} - {windows}
    return sorted(left) + [
        f"in {windows}: {each}" for each in client.zrange(windows, 0, -1) if each
    ]


def _judge(
    name: str,
    audit: Audit,
    load: _Load,
    killer: _Killer,
    gateways: list[GatewayProcess],
    took: float,
) -> Report:
    client = audit.fleet.client
    odd = []
    lost = doubled = wrong = 0
    plain = [one for one in load.letters if one.kind == "plain"]
    joined = [one for one in load.letters if one.kind == "joined"]
    for letter in load.letters:
        allowed = {401} if letter.kind in FORGED else {200}
        if set(letter.answers) - allowed or len(letter.answers) != COPIES:
            wrong += 1
            odd.append(f"{letter.kind} {letter.uid} was answered {letter.answers}")
    records = {
        letter.uid: client.hgetall(f"{PREFIX}delivery:encord/{letter.uid}")
        for letter in load.letters
    }
    lost += sum(not records[one.uid] for one in load.letters if one.kind not in FORGED)
    wrong += sum(bool(records[one.uid]) for one in load.letters if one.kind in FORGED)
    windows = {one.uid: _windows(records[one.uid]) for one in joined}
    lost += sum(not found for found in windows.values())
    doubled += sum(len(found) > 1 for found in windows.values())
    expected = {f"encord/look/{letter.uid}": "succeeded" for letter in plain}
    for found in windows.values():
        expected |= dict.fromkeys(found, "succeeded")
    followed = sum(letter.uid.endswith("7") for letter in plain)
    audit.settle(len(expected) + followed)
    for command_id in list(expected):
        if command_id.startswith("encord/look/") and command_id.endswith("7"):
            for end in audit.ends(command_id):
                expected[f"follow/again/{end['id']}"] = "succeeded"
    in_commands = Counter(
        uid
        for command_id in {one for found in windows.values() for one in found}
        for event in audit.ends(command_id)
        for uid in str(event.get("deliveryuids", "")).split()
    )
    lost += sum(not in_commands[letter.uid] for letter in joined)
    doubled += sum(in_commands[letter.uid] > 1 for letter in joined)
    left = left_of_windows(client)
    wrong += len(left)
    odd += [f"left: {each}" for each in left]
    logs = "\n".join(gateway.log.read_text("utf-8", "replace") for gateway in gateways)
    for sign in (SECRET, "Traceback"):
        if sign in logs:
            wrong += 1
            odd.append(f"a gateway's log holds {sign}")
    seconds = sorted(load.seconds)
    return report(
        name,
        audit,
        expected,
        faults=killer.kills or None,
        lost=lost + load.unanswered,
        doubled=doubled,
        wrong=wrong,
        odd=odd,
        details={
            "deliveries": len(load.letters),
            "sends": len(seconds),
            "again": load.again,
            "forged": sum(letter.kind in FORGED for letter in load.letters),
            "windows": len({one for found in windows.values() for one in found}),
            "reactions": followed,
            "redis_kills": killer.of_redis,
            "p50_ms": round(_at(seconds, 0.5) * 1000, 1),
            "p99_ms": round(_at(seconds, 0.99) * 1000, 1),
            "seconds": round(took),
        },
    )


def _windows(record: Any) -> list[str]:
    return [one for one in record.get(b"windows", b"").decode().split("\n") if one]


def _at(sorted_values: list[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]
