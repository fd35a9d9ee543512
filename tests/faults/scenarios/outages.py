"""Outages: Redis away, frozen, full or restarted; the API away for long."""

from __future__ import annotations

import random
import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.faults.audit import Audit, Report, report, state
from tests.faults.fleet import Fleet, Repeater, bar
from tests.faults.workload import Scene, Workload, doubled_titles, mixed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

RETURN_SECONDS = 5.0
# Longer than the due sets are deleted again and again.
LATE_SECONDS = 15

WAKE_UPS = "{trainmaster}:wake"
DUE_SETS = tuple(
    f"{{trainmaster}}:{name}"
    for name in ("due:interactive", "due:bulk", "due:suspect", "deadlines")
)

# Ten minutes in thirty seconds: every pause of the worker is a twentieth of its default.
COMPRESSION = 20
COMPRESSED = {
    "TRAINMASTER_RETRY_MIN_SECONDS": str(1 / COMPRESSION),
    "TRAINMASTER_RETRY_MAX_SECONDS": str(300 / COMPRESSION),
    "TRAINMASTER_BREAKER_MIN_SECONDS": str(1 / COMPRESSION),
    "TRAINMASTER_BREAKER_MAX_SECONDS": str(30 / COMPRESSION),
    "TRAINMASTER_MAX_ATTEMPTS": "10",
}


def redis_away(folder: Path, seed: int, commands: int, seconds: float) -> Report:
    """Kills Redis in the middle of a load and brings it back after a while."""

    def fault(fleet: Fleet) -> None:
        fleet.redis.kill()
        time.sleep(seconds)
        fleet.redis.start()

    return _redis_trouble(f"redis away {seconds:.0f} s[seed {seed}]", folder, seed, commands, fault)


def redis_frozen(folder: Path, seed: int, commands: int, seconds: float) -> Report:
    """Freezes Redis in the middle of a load."""

    def fault(fleet: Fleet) -> None:
        assert fleet.redis.process is not None
        fleet.redis.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        fleet.redis.process.send_signal(signal.SIGCONT)

    return _redis_trouble(
        f"redis frozen {seconds:.0f} s[seed {seed}]", folder, seed, commands, fault
    )


def redis_restarted(folder: Path, seed: int, commands: int) -> Report:
    """Kills Redis in the middle of a load and starts it from its append-only file at once."""

    def fault(fleet: Fleet) -> None:
        fleet.redis.kill()
        fleet.redis.start()

    return _redis_trouble(f"redis restarted[seed {seed}]", folder, seed, commands, fault)


def redis_full(folder: Path, seed: int, commands: int, seconds: float) -> Report:
    """Fills Redis in the middle of a load: it refuses every write until it has room again."""

    def fault(fleet: Fleet) -> None:
        fleet.client.config_set("maxmemory", "1mb")
        time.sleep(seconds)
        fleet.client.config_set("maxmemory", "0")

    name = f"redis full {seconds:.0f} s[seed {seed}]"
    return _redis_trouble(name, folder, seed, commands, fault, refusal="OOM")


def redis_without_replicas(folder: Path, seed: int, commands: int, seconds: float) -> Report:
    """Has Redis refuse writes for want of replicas, as `min-replicas-to-write` asks it to."""

    def fault(fleet: Fleet) -> None:
        fleet.client.config_set("min-replicas-to-write", 1)
        time.sleep(seconds)
        fleet.client.config_set("min-replicas-to-write", 0)

    name = f"redis without replicas {seconds:.0f} s[seed {seed}]"
    return _redis_trouble(name, folder, seed, commands, fault, refusal="NOREPLICAS")


def redis_demoted(folder: Path, seed: int, commands: int, seconds: float) -> Report:
    """Makes Redis a replica of nobody in the middle of a load: it is read-only for a while."""

    def fault(fleet: Fleet) -> None:
        fleet.client.replicaof("127.0.0.1", 9)
        time.sleep(seconds)
        fleet.client.replicaof("NO", "ONE")

    name = f"redis demoted {seconds:.0f} s[seed {seed}]"
    return _redis_trouble(name, folder, seed, commands, fault, refusal="READONLY")


def wake_ups_blocked(folder: Path, seed: int, commands: int) -> Report:
    """Puts a text where Celery's list of wake-ups should be, in the middle of a load, for good."""

    def fault(fleet: Fleet) -> None:
        pipe = fleet.client.pipeline(transaction=True)
        pipe.delete(WAKE_UPS)
        pipe.set(WAKE_UPS, "no list")
        pipe.execute()

    name = f"wake-ups blocked[seed {seed}]"
    return _redis_trouble(name, folder, seed, commands, fault, refusal="WRONGTYPE")


def due_sets_deleted(folder: Path, seed: int, commands: int, times: int) -> Report:
    """Deletes the due sets and the deadlines in the middle of a load, again and again."""

    def fault(fleet: Fleet) -> None:
        for _ in range(times):
            fleet.client.delete(*DUE_SETS)
            time.sleep(0.5)

    # With few places most commands wait, and only those are lost with a due set.
    settings = {"TRAINMASTER_CONCURRENCY": "8"}
    name = f"due sets deleted[seed {seed}]"
    return _redis_trouble(name, folder, seed, commands, fault, settings, late=commands // 20)


def _redis_trouble(
    name: str,
    folder: Path,
    seed: int,
    commands: int,
    fault: Callable[[Fleet], None],
    settings: Mapping[str, str] | None = None,
    *,
    refusal: str = "",
    late: int = 0,
) -> Report:
    """Sends a load and makes trouble in its middle.

    Args:
        name: of the scenario.
        folder: for everything that it leaves.
        seed: of the commands.
        commands: how many.
        fault: the trouble; returns once it is over, or lasts.
        settings: of the workers.
        refusal: how Redis' errors begin meanwhile; it counts those that it gave.
        late: further commands that wait for a day, and whose deadline passes within the load.
    """
    rng = random.Random(seed)
    with Fleet(folder, 2, settings or {}) as fleet:
        scene = Scene.prepare(fleet)
        work = mixed(scene, commands, rng)
        # Slow enough that the trouble comes in the middle.
        fleet.sandbox.faults({"operation": "*", "effect": "latency", "seconds": 0.3})
        fleet.wait_ready()
        _add_late(work, scene, late)
        work.send(fleet.client, shuffle=rng)
        audit = Audit(fleet)
        _until(audit, commands // 4, 240)
        refused = _refused(fleet, refusal)
        fault(fleet)
        fleet.client.ping()
        audit.update()
        before, begun = audit.ended(), time.monotonic()
        _until(audit, before + 1, 240)
        back_after = time.monotonic() - begun
        audit.settle(len(work.expected))
        models = fleet.sandbox.truth()["created"]["models"]
        refused = _refused(fleet, refusal) - refused
        wrong = half_written(fleet, work) + (back_after > bar(RETURN_SECONDS)) + fleet.stop()
        details = {"ended before": before, "back after": f"{back_after:.1f} s"}
        return report(
            name,
            audit,
            work.expected,
            faults=refused if refusal else 1,
            doubled=doubled_titles(models, "c "),
            wrong=wrong,
            details=details,
        )


def _add_late(work: Workload, scene: Scene, count: int) -> None:
    """Adds commands that can only end because somebody minds their deadline."""
    now = datetime.now(UTC)
    times = {
        "notbefore": (now + timedelta(days=1)).isoformat(),
        "deadline": (now + timedelta(seconds=LATE_SECONDS)).isoformat(),
    }
    for number in range(count):
        data = {"model_uuid": scene.model_uuid}
        work.add(f"late-{number}", "get_model", data, "failed", **times)


def _refused(fleet: Fleet, refusal: str) -> int:
    """Returns how many commands Redis has refused with an error that begins so."""
    told: Any = fleet.client.info("errorstats")
    return int(told.get(f"errorstat_{refusal}", {}).get("count", 0))


def half_written(fleet: Fleet, work: Workload) -> int:
    """Returns how many rows are not whole: all have ended, so no text and no due time is left."""
    left = sum(
        fleet.client.zcard(f"{{trainmaster}}:due:{lane}")
        for lane in ("interactive", "bulk", "suspect")
    )
    for command_id in work.expected:
        row = fleet.client.hgetall(f"{{trainmaster}}:command:{command_id}")
        whole = set(row) >= {b"t", b"f", b"s", b"l", b"n", b"a", b"m", b"q", b"e", b"v"}
        left += not whole
        left += fleet.client.exists(f"{{trainmaster}}:text:{command_id}")
    return left


def api_away(folder: Path, seed: int, commands: int, minutes: float = 10) -> Report:
    """Takes the API away for minutes of a compressed clock: refused, then failing, then silent."""
    rng = random.Random(seed)
    settings = {**COMPRESSED, "TRAINMASTER_READ_TIMEOUT_SECONDS": "2"}
    with Fleet(folder, 2, settings) as fleet:
        scene = Scene.prepare(fleet)
        work = Workload()
        for number in range(commands):
            data: dict[str, Any] = {"model_uuid": scene.model_uuid}
            work.add(f"c-{number}", "get_model", data, "succeeded")
        fleet.wait_ready()
        begun = time.monotonic()
        length = minutes * 60 / COMPRESSION
        ways: list[dict[str, Any]] = [
            {"operation": "*", "effect": "status", "status": 503},
            {"operation": "*", "effect": "reset"},
            {"operation": "*", "effect": "status", "status": 500, "body": "broken"},
        ]
        sent = Repeater(lambda: _send_some(fleet, work, rng, commands // 20), length / 25)
        for way in ways:
            fleet.sandbox.faults(way)
            end = time.monotonic() + length / len(ways)
            while time.monotonic() < end:
                sent.tick()
                time.sleep(0.05)
        fleet.sandbox.faults()
        away = time.monotonic() - begun
        work.send(fleet.client)
        audit = Audit(fleet)
        audit.settle(commands)
        took = time.monotonic() - begun - away
        opened = fleet.logs().count('"api.breaker_opened"')
        attempts = [end["data"]["attempts"] for each in work.expected for end in audit.ends(each)]
        failed = sum(state(end) == "failed" for each in work.expected for end in audit.ends(each))
        return report(
            f"api away {minutes:.0f} min at {COMPRESSION}x[seed {seed}]",
            audit,
            work.expected,
            faults=len(ways),
            wrong=int(not opened),
            details={
                "failed": failed,
                "most attempts": max(attempts, default=0),
                "all ended after": f"{took:.1f} s",
                "breaker opened": opened,
            },
        )


def bad_deploy(folder: Path, seed: int, commands: int) -> Report:
    """Lets every command fail for good, as a deleted model does; then mends it."""
    pause_at = 20
    settings = {
        "TRAINMASTER_PAUSE_COMMANDS": str(pause_at),
        "TRAINMASTER_PAUSE_SECONDS": "0.5",
        "TRAINMASTER_PAUSE_PROBE_SECONDS": "1",
        "TRAINMASTER_CONCURRENCY": "8",
    }
    with Fleet(folder, 2, settings) as fleet:
        scene = Scene.prepare(fleet)
        work = Workload()
        for number in range(commands):
            work.add(f"c-{number}", "get_model", {"model_uuid": scene.model_uuid}, "any")
        refused: dict[str, Any] = {"operation": "*", "effect": "status", "status": 403}
        fleet.sandbox.faults(refused, {"operation": "*", "effect": "latency", "seconds": 0.1})
        fleet.wait_ready()
        work.send(fleet.client, shuffle=random.Random(seed))
        audit = Audit(fleet)
        _until(audit, pause_at, 240)
        # Long enough for everything to fail, were there no pause.
        time.sleep(max(5.0, commands * 0.1 / 16 * 2))
        audit.update()
        failed = audit.ended()
        paused = fleet.logs().count('"lane.paused"')
        fleet.sandbox.faults()
        audit.settle(commands)
        states = [state(end) for each in work.expected for end in audit.ends(each)]
        return report(
            f"bad deploy[seed {seed}]",
            audit,
            work.expected,
            faults=failed,
            wrong=(not paused) + (failed > commands // 2) + (states.count("failed") > failed + 16),
            details={
                "failed": states.count("failed"),
                "succeeded": states.count("succeeded"),
                "paused": paused,
                "resumed": fleet.logs().count('"lane.resumed"'),
            },
        )


def key_refused(folder: Path, seed: int, commands: int, seconds: float) -> Report:
    """Has the API refuse every key in the middle of a load; then takes them again."""
    with Fleet(folder, 2, {"TRAINMASTER_BREAKER_MAX_SECONDS": "1"}) as fleet:
        scene = Scene.prepare(fleet)
        work = mixed(scene, commands, random.Random(seed))
        latency: dict[str, Any] = {"operation": "*", "effect": "latency", "seconds": 0.3}
        fleet.sandbox.faults(latency)
        fleet.wait_ready()
        work.send(fleet.client, shuffle=random.Random(seed))
        audit = Audit(fleet)
        _until(audit, commands // 4, 240)
        fleet.sandbox.faults({"operation": "*", "effect": "status", "status": 401})
        # What was under way before may still end.
        time.sleep(2)
        audit.update()
        before = audit.ended()
        time.sleep(seconds)
        audit.update()
        within = audit.ended() - before
        told = fleet.client.hlen("{trainmaster}:refused")
        fleet.sandbox.faults()
        audit.settle(commands)
        burnt = sum(
            end["data"].get("error", {}).get("code") == "not_authenticated"
            for each in work.expected
            for end in audit.ends(each)
        )
        return report(
            f"key refused {seconds:.0f} s[seed {seed}]",
            audit,
            work.expected,
            faults=1,
            doubled=doubled_titles(fleet.sandbox.truth()["created"]["models"], "c "),
            wrong=within + burnt + (told != 2),
            details={"ended before": before, "ended meanwhile": within, "workers told": told},
        )


def _send_some(fleet: Fleet, work: Workload, rng: random.Random, count: int) -> None:
    some = Workload({key: work.texts[key] for key in rng.sample(sorted(work.texts), count)})
    some.send(fleet.client)


def _until(audit: Audit, ended: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while audit.ended() < ended and time.monotonic() < end:
        time.sleep(0.05)
        audit.update()
