"""`trainmaster doctor`, and how every command behaves where something is missing or wrong."""

from __future__ import annotations

import re
import socket
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.enums import Priority
from tests.console import SCRIPT, Console, Served, wait_until
from tests.signatures import openssh
from worker.cli.doctor.checks import Level, judge_clock
from worker.cli.doctor.ledger import check_ledger
from worker.cli.doctor.server import judge_server
from worker.cli.main import COMMANDS, PLUGIN_HELP, Commands
from worker.cli.main import commands as all_commands
from worker.embedded import EmbeddedRedis
from worker.errors import SettingError
from worker.queue.ledger.epoch import Epoch
from worker.queue.ledger.keys import GROUP, Keys
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.server import ServerFacts, refuse_unsuitable

if TYPE_CHECKING:
    from redis.asyncio import Redis

SAFE: dict[str, Any] = {
    "version": (7, 2),
    "shown_version": "redis 7.2.4",
    "policy": "noeviction",
    "appends": True,
    "fsync": "always",
    "used_bytes": 2**20,
    "limit_bytes": 0,
}


def findings(
    console: Console, *options: str, code: int, without: tuple[str, ...] = ()
) -> dict[str, dict[str, str]]:
    said = console.run("doctor", "--json", *options, without=without)
    assert said.code == code, said.out + said.err
    return {line["check"]: line for line in said.lines}


def test_a_system_that_works_has_no_failure(served: Served) -> None:
    def reads() -> bool:
        return findings(served.console, code=0)["intake.workers"]["level"] == "ok"

    # It says that it is ready a moment before it reads for the first time.
    wait_until(reads, "the worker reads")
    found = findings(served.console, code=0)
    others = [line for check, line in found.items() if check != "dead_letters"]
    assert [line for line in others if line["level"] != "ok"] == []
    assert {
        "settings",
        "redis.reachable",
        "redis.version",
        "redis.policy",
        "redis.persistence",
        "redis.memory",
        "redis.write",
        "redis.types",
        "redis.clock",
        "ledger.epoch",
        "machine.open_files",
        "intake.group",
        "intake.workers",
        "ledger.open",
        "ledger.rows",
        "dead_letters",
        "results.store",
        "api.credentials",
        "api.key_file",
        "api.read",
        "api.clock",
    } == found.keys()
    assert found["intake.workers"]["message"] == "1 process at work"
    assert "0 failures" in served.console.run("doctor").out


def test_with_only_the_redis_url_the_api_is_skipped_and_that_is_no_failure(
    console: Console, redis_url: str
) -> None:
    given = ("--redis-url", redis_url)
    found = findings(console, *given, code=0, without=("TRAINMASTER_REDIS_URL",))
    assert found["api.skipped"]["level"] == "ok"
    assert "no credentials are set here" in found["api.skipped"]["message"]
    assert "api.credentials" not in found
    assert found["redis.version"]["level"] == "ok"
    assert found["intake.group"]["advice"] == "start one: trainmaster worker"
    assert "api.read" not in found
    assert "sinks" not in found, "there is no file of integrations"


@pytest.mark.parametrize("name", ["TRAINMASTER_BEARER_TOKEN", "ENCORD_SSH_KEY"])
def test_the_api_is_asked_with_whatever_proof_a_worker_would_have(
    served: Served, name: str
) -> None:
    """A key that stands in no file, or a token alone, is not "no credentials"."""
    file = "token" if name.endswith("TOKEN") else "key"
    proof = (served.sandbox.state / file).read_text().strip()
    said = served.console.run(
        "doctor", "--json", without=("ENCORD_SSH_KEY_FILE",), environment={name: proof}
    )
    assert said.code == 0, said.out
    found = {line["check"]: line for line in said.lines}
    assert (found["api.credentials"]["level"], found["api.read"]["level"]) == ("ok", "ok")
    assert "api.skipped" not in found
    assert proof not in said.out


def test_without_redis_the_api_is_looked_at(served: Served) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"redis://:hidden@127.0.0.1:{taken.getsockname()[1]}"
        found = findings(served.console, "--redis-url", url, code=1)
    assert found["redis.reachable"]["level"] == "fail"
    assert "hidden" not in found["redis.reachable"]["message"]
    assert found["api.read"]["level"] == "ok"


def test_a_key_that_the_api_does_not_know_is_told_with_what_to_look_at(
    served: Served, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_bytes(openssh(Ed25519PrivateKey.generate()))
    key.chmod(0o644)
    console = Console(
        served.console.environment["TRAINMASTER_REDIS_URL"],
        served.console.namespace,
        ENCORD_DOMAIN=served.sandbox.told["domain"],
        ENCORD_SSH_KEY_FILE=str(key),
    )
    found = findings(console, code=1)
    assert found["api.read"]["level"] == "fail"
    assert "is the public key registered" in found["api.read"]["advice"]
    assert found["api.key_file"]["level"] == "warn"
    assert found["api.key_file"]["advice"] == f"chmod 600 {key}"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (None, "can't be read"),
        (b"nonsense", "no private key in OpenSSH format"),
        (openssh(ec.generate_private_key(ec.SECP256R1())), "not an Ed25519 key"),
    ],
)
def test_a_key_that_can_not_be_used_is_a_failure_that_names_its_setting(
    console: Console, tmp_path: Path, made: bytes | None, told: str
) -> None:
    key = tmp_path / "key"
    if made is not None:
        key.write_bytes(made)
    console.environment["ENCORD_SSH_KEY_FILE"] = str(key)
    found = findings(console, code=1)["api.credentials"]
    assert found["message"].startswith("ENCORD_SSH_KEY_FILE")
    assert told in found["message"]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_result_store_is_written_and_read_and_nothing_stays_in_it(
    console: Console, tmp_path: Path, scheme: str
) -> None:
    store = tmp_path / "results"
    console.environment["TRAINMASTER_RESULT_STORE"] = f"{scheme}{store}"
    found = findings(console, code=0)["results.store"]
    assert found["level"] == "ok"
    assert list(store.iterdir()) == []


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_result_store_that_can_not_be_written_is_a_failure_with_what_to_do(
    console: Console, tmp_path: Path, scheme: str
) -> None:
    """No user may make a folder below a file, not even the one who may do everything else."""
    (tmp_path / "file").touch()
    console.environment["TRAINMASTER_RESULT_STORE"] = f"{scheme}{tmp_path}/file/results"
    found = findings(console, code=1)["results.store"]
    assert found["level"] == "fail"
    assert found["message"].endswith(" can't be used: Not a directory")
    assert "TRAINMASTER_RESULT_STORE" in found["advice"]


def test_a_result_store_that_does_not_answer_is_told_without_its_password(console: Console) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"ftp://us:hidden@127.0.0.1:{taken.getsockname()[1]}/results"
        console.environment["TRAINMASTER_RESULT_STORE"] = url
        said = console.run("doctor", "--json")
    found = {line["check"]: line for line in said.lines}["results.store"]
    assert found["level"] == "fail"
    assert "Connection refused" in found["message"]
    assert "hidden" not in said.out + said.err


def test_a_result_store_that_nothing_here_can_write_to_is_told(console: Console) -> None:
    console.environment["TRAINMASTER_RESULT_STORE"] = "nowhere://results"
    found = findings(console, code=1)["results.store"]
    assert found["level"] == "fail"
    assert "TRAINMASTER_RESULT_STORE" in found["message"]


def test_settings_that_are_none_are_told_with_what_may_be_meant(console: Console) -> None:
    console.environment["TRAINMASTER_CONCURENCY"] = "1"
    found = findings(console, code=0)["settings.unknown"]
    assert (found["level"], found["advice"]) == ("warn", "did you mean TRAINMASTER_CONCURRENCY?")


async def test_what_stands_still_is_a_warning(console: Console, redis: Redis, keys: Keys) -> None:
    await redis.xgroup_create(keys.commands, GROUP, id="0", mkstream=True)
    await redis.xadd(keys.commands, {"command": "{}"})
    await redis.xreadgroup(GROUP, "dead", {keys.commands: ">"})
    await redis.xadd(keys.dead_letters, {"dead_letter": "{}"})
    await redis.set(keys.hold, "1", px=60_000)
    await Lanes(redis, keys).pause(Priority.BULK, "98 % failed", 60)
    found = findings(console, code=0)
    assert "1 being accepted" in found["intake.group"]["message"]
    assert found["ledger.lane"]["advice"].endswith("trainmaster lanes resume bulk")
    for check in ("ledger.lane", "ledger.hold", "dead_letters"):
        assert found[check]["level"] == "warn"


async def test_of_workers_that_are_gone_only_those_with_commands_in_hand_are_told(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each start of a worker has a name of its own, and leaves it behind."""
    monkeypatch.setattr("worker.cli.doctor.ledger._SILENT_MS", 0)
    await redis.xgroup_create(keys.commands, GROUP, id="0", mkstream=True)
    await redis.xgroup_createconsumer(keys.commands, GROUP, "idle")
    await redis.xadd(keys.commands, {"command": "{}"})
    await redis.xreadgroup(GROUP, "holding", {keys.commands: ">"})
    found = await check_ledger(redis, keys)
    told = [each.message for each in found if each.check == "intake.silent"]
    assert len(told) == 1
    assert told[0].startswith("holding is silent")
    (workers,) = [each for each in found if each.check == "intake.workers"]
    assert (workers.level, workers.message) == (Level.WARN, "no worker is running")


async def test_a_lost_ledger_is_a_failure_until_the_loss_is_accepted(
    console: Console, redis: Redis, keys: Keys
) -> None:
    epoch = Epoch(redis, keys)
    await epoch.enter()
    await redis.delete(keys.epoch)
    with pytest.raises(Exception, match="doctor --accept-loss"):
        await epoch.check()
    assert findings(console, code=1)["ledger.epoch"]["level"] == "fail"
    found = findings(console, "--accept-loss", code=0)
    assert found["ledger.loss"]["message"] == "the loss is accepted; workers start again"
    assert found["ledger.epoch"]["level"] == "ok"
    assert await epoch.loss() is None


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({}, "redis.persistence", Level.OK),
        ({"version": (6, 2)}, "redis.version", Level.FAIL),
        ({"policy": "allkeys-lru"}, "redis.policy", Level.FAIL),
        ({"policy": None}, "redis.policy", Level.WARN),
        ({"appends": False}, "redis.persistence", Level.WARN),
        ({"fsync": "everysec"}, "redis.persistence", Level.WARN),
        ({"fsync": None}, "redis.persistence", Level.WARN),
        ({"limit_bytes": 2**21}, "redis.memory", Level.OK),
        ({"limit_bytes": 2**20}, "redis.memory", Level.WARN),
    ],
)
def test_a_server_is_judged_by_what_it_may_lose(
    change: dict[str, Any], check: str, level: Level
) -> None:
    found = {finding.check: finding for finding in judge_server(ServerFacts(**SAFE | change))}
    assert found[check].level is level
    assert bool(found[check].advice) == (level is not Level.OK)


@pytest.mark.parametrize(
    ("change", "suits"),
    [
        ({}, True),
        ({"version": (7, 0)}, True),
        ({"version": (6, 2)}, False),
        ({"version": (8, 0)}, True),
        ({"policy": None}, True),
        ({"policy": "volatile-ttl"}, False),
        ({"appends": False, "fsync": None}, True),
    ],
)
def test_workers_start_on_those_servers_alone_of_which_doctor_names_no_failure(
    change: dict[str, Any], *, suits: bool
) -> None:
    """Redis 7.0 is the oldest one, and a managed server that hides its policy is taken."""
    facts = ServerFacts(**SAFE | change)
    assert (Level.FAIL not in {finding.level for finding in judge_server(facts)}) is suits
    with nullcontext() if suits else pytest.raises(SettingError):
        refuse_unsuitable(facts)


def test_a_server_that_evicts_or_forgets_is_told(tmp_path: Path) -> None:
    config = {"maxmemory-policy": "allkeys-lru", "appendonly": "no"}
    with EmbeddedRedis(tmp_path / "redis", config=config) as server:
        found = findings(Console(server.url, "any"), code=1)
    assert found["redis.policy"]["level"] == "fail"
    assert found["redis.persistence"]["level"] == "warn"


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0.0, Level.OK), (-2.4, Level.OK), (5.0, Level.WARN), (-61.0, Level.FAIL)],
)
def test_a_clock_is_judged_by_how_far_it_is_away(ahead: float, level: Level) -> None:
    assert judge_clock("api.clock", ahead, 0.5, "the API's clock").level is level


@pytest.mark.parametrize(
    "command",
    [
        ("submit", "list_models"),
        ("events", "--follow"),
        ("list",),
        ("cancel", "one"),
        ("dead-letters", "list"),
    ],
)
def test_without_redis_or_its_password_each_command_says_so_in_a_line(
    console: Console, redis_server: EmbeddedRedis, command: tuple[str, ...]
) -> None:
    wrong = f"redis://:{'s3cret'}@127.0.0.1:{redis_server.port}/0"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = f"redis://:s3cret@127.0.0.1:{taken.getsockname()[1]}/0"
        for url in (wrong, away):
            said = console.run(*command, environment={"TRAINMASTER_REDIS_URL": url})
            assert (said.code, said.out) == (1, "")
            assert len(said.err.splitlines()) == 1
            assert said.err.startswith("Error: Redis: ")
            assert "s3cret" not in said.err


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (None, "TRAINMASTER_REDIS_URL is not set"),
        ("", "TRAINMASTER_REDIS_URL is not set"),
        ("http://h", "TRAINMASTER_REDIS_URL must begin with"),
        ("redis://:s3cret/x@h", "TRAINMASTER_REDIS_URL must end in"),
    ],
)
def test_a_wrong_setting_is_named_in_a_line_without_its_value(
    console: Console, url: str | None, told: str
) -> None:
    changed = {} if url is None else {"TRAINMASTER_REDIS_URL": url}
    without = ("TRAINMASTER_REDIS_URL",) if url is None else ()
    for command in (["list"], ["worker"]):
        said = console.run(*command, environment=changed, without=without)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith(f"trainmaster: {told}")
        assert len(said.err.splitlines()) == 1
        assert "s3cret" not in said.err


def test_an_option_goes_before_the_environment_and_is_named_when_wrong(
    console: Console, redis_url: str
) -> None:
    said = console.run("list", "--redis-url", redis_url, without=("TRAINMASTER_REDIS_URL",))
    assert said.code == 0
    said = console.run("list", "--namespace", "a:b")
    assert said.code == 2
    assert said.err.startswith("trainmaster: --namespace must be 1 to 64 letters")


def test_the_schemas_are_printed_or_written(console: Console, tmp_path: Path) -> None:
    printed = orjson.loads(console.run("schemas").out)
    assert set(printed) == {"commands.schema.json", "events.schema.json", "asyncapi.json"}
    assert orjson.loads(console.run("schemas", "asyncapi").out)["asyncapi"] == "3.1.0"
    folder = tmp_path / "new" / "folder"
    said = console.run("schemas", "--output", str(folder), without=("TRAINMASTER_REDIS_URL",))
    assert said.code == 0
    written = {path.name: orjson.loads(path.read_bytes()) for path in folder.iterdir()}
    assert written == printed
    assert console.run("schemas", "events", "--output", str(folder)).code == 2
    (tmp_path / "file").touch()
    assert console.run("schemas", "--output", str(tmp_path / "file" / "x")).code == 1


@pytest.mark.parametrize("name", [*COMMANDS, *PLUGIN_HELP])
def test_the_overview_says_of_each_command_what_the_command_says(name: str) -> None:
    assert isinstance(all_commands, Commands)
    context = all_commands.make_context("trainmaster", [name], resilient_parsing=True)
    command = all_commands.get_command(context, name)
    assert command is not None
    listed = COMMANDS[name].help if name in COMMANDS else PLUGIN_HELP[name]
    assert command.get_short_help_str(limit=200) == listed
    assert command.get_help(context)


@pytest.mark.parametrize(
    ("command", "code", "never"),
    [
        (
            ("--help",),
            0,
            (
                *("celery", "aiohttp", "redis", "sandbox", "rich"),
                *("worker.settings", "schemas.commands"),
            ),
        ),
        (("submit", "list_models"), 0, ("celery", "aiohttp", "sandbox", "httpx", "fsspec")),
        (("status", "nobody"), 1, ("celery", "aiohttp", "sandbox", "httpx", "fsspec")),
    ],
)
def test_a_command_imports_only_what_it_needs(
    console: Console, command: tuple[str, ...], code: int, never: tuple[str, ...]
) -> None:
    said = console.run(*command, environment={"PYTHONPROFILEIMPORTTIME": "1"})
    assert said.code == code
    imported = set(re.findall(r"\| +([\w.]+)$", said.err, re.MULTILINE))
    assert "click" in imported
    assert not imported & set(never)


def test_help_lists_every_command(console: Console) -> None:
    said = console.run("--help")
    assert said.code == 0
    listed = re.findall(r"^  ([a-z-]+) {2,}\S", said.out.split("Commands:")[1], re.MULTILINE)
    assert set(listed) == {*COMMANDS, *PLUGIN_HELP}
    assert console.run("unheard-of").code == 2


def test_an_output_device_that_is_full_is_no_traceback(console: Console) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [SCRIPT, "schemas"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=console.environment,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"trainmaster: No space left on device\n"
