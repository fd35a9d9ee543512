"""The users of `deploy/redis-users.acl`: enough for each, and not one right too many."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from tests.acceptance.senders import foreign_celery
from tests.console import Console
from tests.faults.fleet import QUICK, WorkerProcess, wait_until
from tests.gateway_process import GatewayProcess
from tests.sandbox_process import SandboxProcess, running_sandbox
from tests.security.access import GuardedRedis, refusals, rights_of
from trainmaster_client import Client, ConsumerOptions, Event
from worker.embedded import find_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PREFIX = "{trainmaster}:"
# A client asks these, and works as well if it may not: redis-py introduces itself, the worker
# asks how often the server syncs its file.
HARMLESS = {"client|setinfo", "config|get"}
SETTINGS = {
    **QUICK,
    "TRAINMASTER_CONSUMER_IDLE_SECONDS": "1",
    "TRAINMASTER_POLL_MIN_SECONDS": "0.2",
    "TRAINMASTER_REPAIR_SECONDS": "0.5",
    "TRAINMASTER_CONCURRENT_REQUESTS": "50",
    "TRAINMASTER_REQUESTS_PER_SECOND": "500",
    "TRAINMASTER_HTTP": "127.0.0.1:0",
    "TRAINMASTER_PAUSE_COMMANDS": "1",
    "TRAINMASTER_PAUSE_SECONDS": "0",
    "TRAINMASTER_PAUSE_SHARE": "0.01",
    "TRAINMASTER_PAUSE_PROBE_SECONDS": "0.2",
}
SIMULATED = {
    "operation": "create_training_job",
    "effect": "training",
    "training": "simulated",
    "seconds": 0.5,
}
# Once in a while the API asks for a pause, so that the worker holds the whole fleet back.
BUSY = {
    "operation": "list_models",
    "effect": "status",
    "status": 429,
    "headers": {"Retry-After": "1"},
    "count": 1,
}
# In doubt a worker looks at what others own and may have created.
LOST = {"operation": "create_model", "effect": "commit_then_fail", "status": 502, "count": 1}
# What a worker needs when it starts, stops, or is asked by Celery's tools, and not in between.
STARTING = {
    "exists",
    "info",
    "lpush",
    "pexpire",
    "ping",
    "psubscribe",
    "punsubscribe",
    "script|exists",
    "script|load",
    "smembers",
    "srem",
    "xgroup|delconsumer",
    "xtrim",
    "zrange",
}
# Nobody asks for it without one; `test_access_cluster.py` has one.
OF_A_CLUSTER = {"cluster|slots"}
DOOR_SECRET = "secret-of-a-door"
INTEGRATIONS = """
[sources.door]
scheme = "hmac"
secrets = [{ env = "DOOR_SECRET" }]
header = "X-Sign"
[[sources.door.rules]]
name = "now"
[sources.door.rules.command]
type = "get_model"
data.model_uuid = "'MODEL'"
[[sources.door.rules]]
name = "later"
coalesce = { key = "body.key", window_seconds = 1 }
[sources.door.rules.command]
type = "get_model"
data.model_uuid = "'MODEL'"
[sinks.nowhere]
types = "delete_model.*"
redis = { stream = "elsewhere" }
[sources.follow]
scheme = "events"
[[sources.follow.rules]]
name = "again"
on = "get_model.succeeded"
when = "starts_with(body.subject, 'door/now/')"
[sources.follow.rules.command]
type = "list_models"
data.order_asc = true
"""
_CALL = re.compile(r"redis\.p?call\('([a-z]+)'(?:, '([a-z]+)')?")
ENDS = ("succeeded", "failed", "cancelled", "rejected")
PATIENCE_SECONDS = 120
# For what need not come: the worker is asked to do more, or started anew, after it.
REFUSED_SECONDS = 20
# Workers look for new deadlines every second.
LATE_SECONDS = 1.5
MOMENT_SECONDS = 0.5


class Guarded:
    """A worker that is the user `worker` of the file, and commands of every way for it."""

    def __init__(self, redis: GuardedRedis, sandbox: SandboxProcess, folder: Path) -> None:
        self.redis = redis
        self.sandbox = sandbox
        self.folder = folder
        self.admin: Redis = Redis.from_url(redis.url, decode_responses=True)
        self.worker = WorkerProcess(folder / "worker.log", self.environment("worker"))
        self.model_uuid = sandbox.create_model("resnet18")
        self.rounds = 0

    def environment(self, user: str) -> dict[str, str]:
        return {
            "TRAINMASTER_REDIS_URL": self.redis.url_of(user),
            "ENCORD_DOMAIN": self.sandbox.told["domain"],
            "ENCORD_SSH_KEY_FILE": self.sandbox.told["key_file"],
            "TRAINMASTER_DATA_ROOTS": str(self.folder),
            "TRAINMASTER_RESULT_STORE": str(self.folder / "results"),
            **SETTINGS,
        }

    def console(self, user: str) -> Console:
        environment = self.environment(user)
        return Console(environment.pop("TRAINMASTER_REDIS_URL"), "trainmaster", **environment)

    def send(self) -> list[str]:
        """Sends commands that have a worker do all that it can do; returns their ids."""
        self.rounds += 1
        self.sandbox.faults(BUSY, SIMULATED, LOST)
        body = self.sandbox.training_body("resnet18")
        features = list(self.sandbox.features("resnet18"))
        training = {
            "model_uuid": self.model_uuid,
            "batch_size": 4,
            "epochs": self.rounds,
            "features_mapping": body["featuresMapping"],
            "labels_uuids": body["labelsUuids"],
        }
        model = {"model": "resnet18", "features": features, "title": f"of {self.rounds}"}
        commands: list[dict[str, Any]] = [
            {"type": "train", "data": training},
            {"type": "create_model", "data": model, "priority": "bulk"},
            {"type": "list_models", "data": {}},
            {"type": "get_model", "data": {"model_uuid": self.sandbox.project()["project_uuid"]}},
        ]
        commands.append({"type": "backfill", "data": self.backfill()})
        model = {"model_uuid": self.model_uuid, "title": "late"}
        commands.append({"type": "update_model", "data": model, **late()})
        ids = []
        for command in commands:
            command |= {"id": f"{command['type']}-{self.rounds}", "replyto": "tests"}
            ids.append(command["id"])
        with Client(self.redis.url_of("producer")) as producer:
            producer.submit(commands[0])
            producer.submit("list_models", {}, priority="bulk", id=f"bulk-{self.rounds}")
        inbox = Redis.from_url(self.redis.url_of("producer"))
        inbox.rpush(f"{PREFIX}inbox", json.dumps(commands[1]), "not JSON")
        inbox.close()
        app = foreign_celery(self.redis.url_of("celery-producer"), "trainmaster")
        for command in commands[2:]:
            app.send_task("trainmaster.submit", args=[command])
        app.close()
        return [*ids, f"bulk-{self.rounds}"]

    def backfill(self) -> dict[str, Any]:
        """Returns the data of a backfill of two items, both of which fail."""
        project = self.sandbox.project()["project_uuid"]
        source = self.folder / f"items-{self.rounds}.jsonl"
        source.write_text(json.dumps({"data_uuid": project}) + "\n{}\n")
        return {
            "task": "classification",
            "project_uuid": project,
            "project_model_uuid": project,
            "training_uuid": project,
            "source": str(source),
        }

    def ended(self) -> set[str]:
        entries = cast("list[tuple[str, dict[str, str]]]", self.admin.xrange(f"{PREFIX}events"))
        events = [json.loads(fields["event"]) for _, fields in entries]
        return {event["subject"] for event in events if event["type"].rpartition(".")[2] in ENDS}

    def set_right(self, rule: str) -> None:
        """Takes a right away from the worker, or gives it back; at once, for open connections."""
        self.admin.execute_command("ACL", "SETUSER", "worker", rule)  # type: ignore[no-untyped-call]

    def is_ready(self) -> bool:
        """Whether the worker works; starts it if it ended, for it was refused a part of itself."""
        if not self.worker.alive:
            self.worker.start()
        return self.worker.ready

    def ping(self, seconds: float) -> list[Any]:
        app = foreign_celery(self.redis.url, "trainmaster")
        answers = app.control.ping(timeout=seconds, limit=1)
        app.close()
        return answers or []


def late() -> dict[str, str]:
    """Returns attributes of a command that is late before it may begin."""
    soon = datetime.now(UTC) + timedelta(seconds=LATE_SECONDS)
    return {"deadline": soon.isoformat(), "notbefore": (soon + timedelta(hours=1)).isoformat()}


# Without a server the fixture fails, where an empty list would skip.
SERVERS: list[Path | None] = [*find_servers()] or [None]


@pytest.fixture(
    scope="module",
    params=SERVERS,
    ids=lambda server: "none" if server is None else server.name,
)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """A guarded worker on each server of this machine: what they refuse, and when, differs."""
    folder = tmp_path_factory.mktemp("access")
    with (
        running_sandbox(folder / "sandbox") as sandbox,
        GuardedRedis(folder / "redis", request.param) as redis,
    ):
        guarded = Guarded(redis, sandbox, folder)
        guarded.worker.start()
        wait_until(lambda: guarded.worker.ready, PATIENCE_SECONDS, "the worker is ready")
        yield guarded
        guarded.worker.kill()
        guarded.admin.close()


def test_the_worker_does_all_its_work_with_the_rights_of_the_file(guarded: Guarded) -> None:
    wanted = set(guarded.send())
    wait_until(lambda: wanted <= guarded.ended(), PATIENCE_SECONDS, "all has ended")
    assert guarded.ping(PATIENCE_SECONDS) != []
    # Stopping and starting again are work too.
    assert guarded.worker.terminate()[0] == 0
    guarded.worker.start()
    wait_until(lambda: guarded.worker.ready, PATIENCE_SECONDS, "the worker is ready")
    wanted = set(guarded.send())
    wait_until(lambda: wanted <= guarded.ended(), PATIENCE_SECONDS, "all has ended")
    with httpx.Client(base_url=f"http://127.0.0.1:{guarded.worker.http_port}") as http:
        wait_until(lambda: http.get("/livez").status_code == 200, PATIENCE_SECONDS, "it lives")
        assert "trainmaster_redis_up 1.0" in http.get("/metrics").text
    for user in ("worker", "producer", "celery-producer"):
        assert set(refusals(guarded.admin, user)) <= HARMLESS, user


def test_consumers_read_by_the_rights_of_the_reader(guarded: Guarded) -> None:
    console = guarded.console("reader")
    for options in ((), ("--replyto", "tests")):
        said = console.run("events", "--json", *options)
        assert said.code == 0, said.err
        assert any(event["type"] == "train.succeeded" for event in said.lines)
    assert set(refusals(guarded.admin, "reader")) <= HARMLESS


def test_a_program_that_embeds_the_client_has_the_rights_that_it_needs(guarded: Guarded) -> None:
    wait_until(guarded.is_ready, PATIENCE_SECONDS, "the worker is ready")
    command_id = f"embedded-{guarded.rounds}"
    options = ConsumerOptions(
        types=["get_model.failed"], from_start=True, tries=1, idle_seconds=0.2
    )
    nobody = {"model_uuid": guarded.sandbox.project()["project_uuid"]}
    with Client(guarded.redis.url_of("client")) as client:
        assert "models" in client.run("list_models", {}, id=command_id)
        # Failures of other tests may have paused the lane, and a probe of it that fails never ends.
        assert "models" in client.run("list_models", {}, priority="bulk")
        assert client.wait(command_id).succeeded
        assert client.status(command_id) is not None
        assert client.wait(client.submit("get_model", nobody, priority="bulk")).state == "failed"
        consumer = client.consumer("service", options)
        seen: list[Event] = []

        def handle(event: Event) -> None:
            seen.append(event)
            if len(seen) == 1:
                raise ValueError("to be parked")
            time.sleep(0.2)
            consumer.stop()

        client.submit("get_model", nobody)
        consumer.run(handle)
    assert set(refusals(guarded.admin, "client")) <= HARMLESS
    assert guarded.admin.xlen(f"{PREFIX}parked:service") == 1


def test_a_gateway_has_the_rights_that_it_needs(guarded: Guarded) -> None:
    """It takes a command, a delivery, and what waits in a window; it reacts, and it cancels."""
    wait_until(guarded.is_ready, PATIENCE_SECONDS, "the worker is ready")
    file = guarded.folder / "integrations.toml"
    file.write_text(INTEGRATIONS.replace("MODEL", guarded.model_uuid))
    console = guarded.console("gateway")
    console.environment |= {
        "TRAINMASTER_INTEGRATIONS_FILE": str(file),
        "TRAINMASTER_GATEWAY_FOLDER": str(guarded.folder / f"gateway-{guarded.rounds}"),
        "DOOR_SECRET": DOOR_SECRET,
    }
    gateway = GatewayProcess(console, guarded.folder / "gateway.log")
    gateway.start()
    body = json.dumps({"key": f"key-{time.time_ns()}"}).encode()
    signature = hmac.new(DOOR_SECRET.encode(), body, hashlib.sha256).hexdigest()
    sleeper = {"type": "list_models", "data": {}, "notbefore": late()["notbefore"]}
    with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as http:
        taken = http.post("/v1/webhooks/door", content=body, headers={"X-Sign": signature})
        waits = http.post("/v1/commands", json=sleeper).json()["id"]
        state = http.get(f"/v1/commands/{waits}")
        cancelled = http.post(f"/v1/commands/{waits}/cancel")
        ready = http.get("/readyz")
        looked = [
            http.get(each)
            for each in (
                "/v1/dead-letters",
                "/v1/holds",
                "/v1/lanes",
                "/v1/workers",
                "/v1/backfills",
                "/v1/sinks",
                "/v1/sinks/nowhere/unsent",
                "/v1/deliveries",
                "/v1/webhooks",
                "/v1/me",
                "/metrics",
            )
        ]
        door = http.get("/v1/deliveries?source=door").json()["items"][0]["id"]
        (worker,) = looked[3].json()["items"]
        acts = [
            http.post("/v1/commands/cancel", json={"type": "list_models", "dry_run": False}),
            http.post("/v1/commands/replay", json={"all": True}),
            http.post("/v1/holds/release"),
            http.post("/v1/lanes/bulk/resume"),
            http.get(f"/v1/deliveries/door/{door}"),
            http.post(f"/v1/deliveries/door/{door}/replay"),
            *(http.post(f"/v1/sinks/nowhere/{act}") for act in ("pause", "resume", "recover")),
        ]
        recorded = http.get("/v1/actions").json()["items"]

    assert {each.status_code for each in (*looked, *acts)} == {200}
    # Each act but the dry run and what only looks; and the cancellation of one command.
    assert len(recorded) == len(acts) - 2 + 1
    assert worker["pid"] == guarded.worker.pid
    told = [taken.status_code, state.status_code, cancelled.status_code, ready.status_code]
    assert told == [200, 200, 200, 200], [taken.text, state.text, cancelled.text, ready.text]
    wait_until(
        lambda: all(
            f'"subject":"{one}' in stream
            for stream in [str(guarded.admin.xrange(f"{PREFIX}events"))]
            for one in ("door/now/", "door/later/", "follow/again/")
        ),
        PATIENCE_SECONDS,
        "all that follows on the delivery has been accepted",
    )
    gateway.stop()
    assert set(refusals(guarded.admin, "gateway")) <= HARMLESS


def test_a_gateway_may_run_each_command_of_its_scripts() -> None:
    """Those that write ask for each right by themselves, and would be refused whole."""
    needed = {
        f"{name}|{what}" if name == "xinfo" else name
        for package in ("gateway", "webhooks", "integrations", "sinks")
        for file in resources.files(f"worker.{package}").joinpath("scripts").iterdir()
        if file.name.endswith(".lua")
        for name, what in _CALL.findall(file.read_text("utf-8").lower())
    }
    assert needed <= set(rights_of("gateway"))


@pytest.mark.parametrize(
    "user", ["worker", "gateway", "operator", "producer", "celery-producer", "reader", "client"]
)
def test_no_user_leaves_its_namespace_or_its_part_in_it(guarded: Guarded, user: str) -> None:
    client = Redis.from_url(guarded.redis.url_of(user))
    attempts: list[tuple[str, ...]] = [
        ("GET", "elsewhere"),
        ("SET", "{other}:command:1", "x"),
        ("XADD", "{other}:commands", "*", "command", "{}"),
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("ACL", "SETUSER", user, "+@all"),
        ("CLIENT", "LIST"),
        ("SUBSCRIBE", "elsewhere"),
    ]
    if user != "operator":
        attempts += [("EVAL", "return 1", "0")]
    if user not in {"worker", "gateway", "operator"}:
        attempts += [("SET", f"{PREFIX}command:1", "x"), ("GET", f"{PREFIX}epoch")]
    if user == "reader":
        attempts += [
            ("XADD", f"{PREFIX}events", "*", "event", "{}"),
            ("XRANGE", f"{PREFIX}commands", "-", "+"),
            ("XRANGE", f"{PREFIX}dead-letters", "-", "+"),
        ]
    if user == "client":
        attempts += [
            ("XADD", f"{PREFIX}events", "*", "event", "{}"),
            ("XADD", f"{PREFIX}replies:tests", "*", "event", "{}"),
            ("XRANGE", f"{PREFIX}dead-letters", "-", "+"),
        ]
    if user == "producer":
        attempts += [("XRANGE", f"{PREFIX}events", "-", "+")]
    for attempt in attempts:
        with pytest.raises(NoPermissionError):
            client.execute_command(*attempt)  # type: ignore[no-untyped-call]
    client.close()


def test_doctor_says_what_the_workers_user_may_not_look_at(guarded: Guarded) -> None:
    said = guarded.console("worker").run("doctor", "--json")
    assert said.code == 0, said.out
    found = {finding["check"]: finding for finding in said.lines}
    assert found["redis.reachable"]["level"] == "ok"
    assert found["redis.version"]["level"] == "ok"
    assert found["redis.persistence"]["level"] == "warn"
    assert "does not report its appendfsync" in found["redis.persistence"]["message"]
    assert found["ledger.open"]["level"] == "ok"
    assert found["intake.group"]["level"] == "warn"
    assert found["intake.group"]["message"].startswith("not checked: ")
    whole = {each["check"]: each for each in guarded.console("admin").run("doctor", "--json").lines}
    assert not [each for each in whole.values() if "not checked" in each["message"]]


def test_an_untouched_file_lets_nobody_in(tmp_path: Path) -> None:
    """Its users have no password until an operator gives them one."""
    guarded = GuardedRedis(tmp_path / "redis")
    with guarded:
        admin = Redis.from_url(guarded.url, decode_responses=True)
        for user in guarded.passwords:
            admin.acl_setuser(user, reset_passwords=True)
        admin.close()
        for user in guarded.passwords:
            for password in ("", "x"):
                with pytest.raises(Exception, match="invalid username-password"):
                    Redis(
                        port=guarded.port,
                        username=user,
                        password=password,
                        retry=Retry(NoBackoff(), 0),
                    ).ping()


def test_a_worker_that_may_not_take_wake_ups_works_without_them(guarded: Guarded) -> None:
    wait_until(guarded.is_ready, PATIENCE_SECONDS, "the worker is ready")
    process = guarded.worker.process
    guarded.set_right("-brpop")
    try:
        wait_until(
            lambda: "wake_ups.failed" in guarded.worker.log.read_text(),
            PATIENCE_SECONDS,
            "it has been refused",
        )
        command = {"type": "list_models", "id": "deaf", "data": {}, **late()}
        guarded.admin.xadd(f"{PREFIX}commands", {"command": json.dumps(command)})
        wait_until(
            lambda: guarded.admin.hget(f"{PREFIX}command:deaf", "s") == "failed",
            PATIENCE_SECONDS,
            "it has ended",
        )
    finally:
        guarded.set_right("+brpop")
    assert guarded.worker.process is process
    assert guarded.worker.alive


@pytest.mark.long
def test_without_any_one_of_its_rights_the_worker_is_refused_something(guarded: Guarded) -> None:
    """Each right of the file is taken away from a worker at work, and given back."""
    assert needless_rights(guarded) == []


def needless_rights(guarded: Guarded) -> list[str]:
    needless = []
    for right in rights_of("worker"):
        if right in OF_A_CLUSTER:
            continue
        wait_until(guarded.is_ready, PATIENCE_SECONDS, "the worker is ready")
        guarded.admin.acl_log_reset()
        guarded.set_right(f"-{right}")
        if not _is_refused(guarded, right):
            needless.append(right)
        guarded.set_right(f"+{right}")
    return needless


def _is_refused(guarded: Guarded, right: str) -> bool:
    """Whether a worker at work, asked, stopping or starting is refused a right it lacks."""
    told_before = guarded.worker.log.stat().st_size
    # A script that asks for its rights before it writes is no refusal to the server.
    lacked = re.compile(rf"lacks the right to {re.escape(right)}\b", re.IGNORECASE)

    def refused() -> bool:
        if right in set(refusals(guarded.admin, "worker")):
            return True
        with guarded.worker.log.open("rb") as log:
            log.seek(told_before)
            return lacked.search(log.read().decode(errors="replace")) is not None

    if right == "script|load":
        guarded.admin.script_flush()
    # Held by a worker that ended without the right to give it back.
    guarded.admin.delete(f"{PREFIX}unacked_mutex")
    if right == "xgroup|create":
        guarded.admin.xgroup_destroy(f"{PREFIX}commands", "intake")
    guarded.send()
    if _soon(refused, MOMENT_SECONDS if right in STARTING else REFUSED_SECONDS):
        return True
    # A stop right after a start may have nothing to give back, so there is a second one. Before
    # 7.2 Redis knows no consumer that has not read a message yet.
    for _ in range(2):
        guarded.send()
        guarded.ping(1.0)
        if _soon(refused, MOMENT_SECONDS):
            return True
        guarded.worker.terminate()
        guarded.worker.start()
        if _soon(refused, REFUSED_SECONDS):
            return True
        wait_until(guarded.is_ready, PATIENCE_SECONDS, "the worker is ready")
    return False


def _soon(holds: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False
