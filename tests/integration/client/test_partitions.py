"""Several namespaces as one: a worker for each, commands where their ids say."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from redis import Redis

from tests.console import Console, finish, running_worker, wait_until
from tests.gateway_process import running_gateway
from tests.unread_item import DATA, NOBODY
from trainmaster_client import (
    AsyncPartitions,
    Client,
    CommandFailedError,
    Partitions,
    WaitTimeoutError,
    partition_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMANDS = 40


@pytest.fixture(scope="module")
def names() -> list[str]:
    run = uuid.uuid4().hex[:8]
    return [f"{run}-{name}" for name in ("eu", "us")]


@pytest.fixture(scope="module")
def console(
    redis_server: Any, names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Console]:
    """The console with a worker of two namespaces, each with a process of its own."""
    made = Console(
        redis_server.url,
        ",".join(names),
        TRAINMASTER_BEARER_TOKEN="of-nobody",
        ENCORD_DOMAIN="http://127.0.0.1:9",
        TRAINMASTER_LOG_FORMAT="json",
    )
    log = tmp_path_factory.mktemp("partitions") / "worker.log"
    with running_worker(made, log):
        wait_until(lambda: log.read_bytes().count(b" ready.") == 2, "both are ready")
        yield made


@pytest.fixture
def partitions(redis_url: str, names: list[str]) -> Iterator[Partitions]:
    with Partitions.of(redis_url, names) as made:
        yield made


def commands() -> list[dict[str, Any]]:
    return [{"type": "predict", "id": uuid.uuid4().hex, "data": DATA} for _ in range(COMMANDS)]


def of_partition(prefix: str, count: int, name: str, names: list[str]) -> list[str]:
    """Returns ids that are a namespace's."""
    ids = (f"{prefix}-{number}" for number in range(200))
    return [each for each in ids if partition_of(each, names) == name][:count]


def of_stream(redis_url: str, name: str) -> set[str]:
    """Returns the ids of commands that have events in a namespace."""
    with Redis.from_url(redis_url) as client:
        events: Any = client.xrange(f"{{{name}}}:events")
    return {json.loads(each[b"event"])["subject"] for _, each in events}


@pytest.mark.usefixtures("console")
def test_each_command_is_carried_out_in_the_namespace_of_its_id(
    partitions: Partitions, redis_url: str, names: list[str]
) -> None:
    sent = commands()
    ids = partitions.submit_many(sent)
    assert ids == [each["id"] for each in sent]
    endings = partitions.wait_all(ids, timeout=60)
    assert list(endings) == ids
    assert {each.state for each in endings.values()} == {"failed"}
    shares = {name: {each for each in ids if partition_of(each, names) == name} for name in names}
    assert all(len(share) > COMMANDS / 8 for share in shares.values())
    for name, share in shares.items():
        assert of_stream(redis_url, name) & set(ids) == share
    found = partitions.status(ids[0])
    assert found is not None
    assert found.state == "failed"
    with pytest.raises(CommandFailedError):
        partitions.run("predict", DATA)
    assert list(partitions.clients) == names


@pytest.mark.usefixtures("console")
def test_a_wait_that_is_over_names_what_has_not_ended_in_each_namespace(
    partitions: Partitions,
) -> None:
    later = "2099-01-01T00:00:00Z"
    sent = [{**each, "notbefore": later} for each in commands()[:8]]
    ids = partitions.submit_many(sent)
    with pytest.raises(WaitTimeoutError) as caught:
        partitions.wait_all(ids, timeout=0.5)
    assert set(caught.value.command_ids) == set(ids)
    assert all(partitions.cancel(each, timeout=60)["cancelled"] for each in ids)


@pytest.mark.usefixtures("console")
def test_the_client_of_an_event_loop_does_the_same(redis_url: str, names: list[str]) -> None:
    async def run() -> set[str]:
        async with AsyncPartitions.of(redis_url, names) as made:
            await made.ping()
            ids = await made.submit_many(commands())
            endings = await made.wait_all(ids, timeout=60)
            return {each.state for each in endings.values()}

    assert asyncio.run(run()) == {"failed"}


def test_the_console_finds_a_command_wherever_it_is(
    console: Console, redis_url: str, names: list[str]
) -> None:
    """Commands whose ids say so, and one that was sent to the other namespace."""
    later = "--notbefore=2099-01-01T00:00:00Z"
    ids = [*of_partition("console", 3, names[0], names), *of_partition("us", 3, names[1], names)]
    lines = [json.dumps({"type": "predict", "id": each, "data": DATA}) for each in ids]
    said = console.run("submit", "-", "--json", later, stdin="\n".join(lines).encode())
    told = [json.loads(line) for line in said.out.splitlines()]
    assert [each["stream"] for each in told] == [
        f"{{{partition_of(each, names)}}}:commands" for each in ids
    ]
    (stray,) = of_partition("stray", 1, names[0], names)
    with Client(redis_url, namespace=names[1]) as client:
        client.submit("predict", DATA, id=stray, notbefore="2099-01-01T00:00:00Z")
    wait_until(
        lambda: console.run("status", stray, *ids).code == 0, "all of them have been accepted"
    )
    listed = [json.loads(line) for line in console.run("list", "--json").out.splitlines()]
    assert {stray, *ids} <= {each["id"] for each in listed}
    changed = [each["changed_at_ms"] for each in listed]
    assert changed == sorted(changed, reverse=True)
    assert console.run("list", "--json", "--newest", "2").lines == listed[:2], "of both together"
    said = console.run("cancel", stray, *ids, "--json")
    assert said.code == 0
    assert [json.loads(line)["verdict"] for line in said.out.splitlines()] == ["cancelled"] * 7
    assert console.run("cancel", "nobody-has-it").code == 1


def test_doctor_looks_at_each_namespace(console: Console, names: list[str]) -> None:
    lines = console.run("doctor", "--json").out.splitlines()
    found = [json.loads(line) for line in lines]
    workers = [each["message"] for each in found if each["check"] == "intake.workers"]
    assert [each.partition(":")[0] for each in workers] == names


def test_doctor_tells_of_workers_that_were_told_of_other_partitions(
    console: Console, names: list[str]
) -> None:
    def partitions(named: list[str]) -> list[str]:
        lines = console.run("doctor", "--json", "--namespace", ",".join(named)).out.splitlines()
        found = [json.loads(line) for line in lines]
        return [each["level"] for each in found if each["check"] == "partitions"]

    wait_until(lambda: partitions(names) == ["ok", "ok"], "the workers tell of themselves")
    assert partitions([*reversed(names)]) == ["ok", "ok"]
    assert partitions([*names, "apac"]) == ["warn", "warn", "ok"]
    assert partitions(names[:1]) == []


@pytest.mark.parametrize(
    "command", ["gateway", "sinks run", "sinks list", "webhooks list", "dead-letters list", "holds"]
)
def test_what_works_on_one_namespace_says_what_to_type(
    console: Console, command: str, names: list[str]
) -> None:
    said = console.run(*command.split())
    assert said.code == 2
    assert said.err == (
        "trainmaster: TRAINMASTER_NAMESPACE names several namespaces, and this works on one: type "
        f"trainmaster {command} --namespace {names[0]}; in place of {names[0]} there is "
        f"{names[1]}\n"
    )


@pytest.mark.parametrize(
    "command", ["events", "sinks list", "webhooks test x", "dead-letters list"]
)
def test_one_of_several_can_be_named(
    console: Console, command: str, names: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "integrations.toml"
    file.write_text("")
    said = console.run(
        *command.split(),
        "--namespace",
        names[0],
        environment={"TRAINMASTER_INTEGRATIONS_FILE": str(file)},
    )
    assert "TRAINMASTER_NAMESPACE" not in said.err, said
    assert said.code == (1 if command == "webhooks test x" else 0), said


def test_a_gateway_serves_the_one_that_is_named(
    console: Console, names: list[str], tmp_path: Path
) -> None:
    with running_gateway(
        console, tmp_path / "gateway.log", "--namespace", names[1], "--workers", "2"
    ) as gateway:
        (command_id,) = of_partition("by-gateway", 1, names[1], names)
        command = {"type": "predict", "data": DATA, "id": command_id}
        assert httpx.post(f"{gateway.url}/v1/commands", json=command).status_code == 202
    wait_until(lambda: console.run("status", command_id).code == 0, "it has been accepted")


def test_the_file_of_webhooks_and_sinks_is_checked_for_each_namespace(
    console: Console, names: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "integrations.toml"
    file.write_text("")
    assert console.run("webhooks", "check", str(file)).code == 0
    file.write_text(f'[sinks.own]\nredis = {{ stream = "{{{names[1]}}}:events" }}\n')
    said = console.run("webhooks", "check", str(file))
    assert said.code == 1
    assert "own" in said.out
    lines = console.run(
        "doctor", "--json", environment={"TRAINMASTER_INTEGRATIONS_FILE": str(tmp_path / "none")}
    )
    assert "TRAINMASTER_NAMESPACE" not in lines.out


def test_events_of_all_namespaces_are_printed_in_their_order(
    console: Console, redis_url: str, names: list[str]
) -> None:
    """Those that are there by their entries; then those that come, of each."""
    ids = [*of_partition("told", 3, names[0], names), *of_partition("told", 3, names[1], names)]
    with Client(redis_url, namespace=names[0]) as one, Client(redis_url, namespace=names[1]) as two:
        for each in ids[::2] + ids[1::2]:
            client = one if partition_of(each, names) == names[0] else two
            assert client.wait(client.submit("predict", DATA, id=each)).state == "failed"
        asked = ("events", "--json", *(f"--id={each}" for each in ids))
        told = console.run(*asked).lines
        assert [event["subject"] for event in told] == [
            each for each in ids[::2] + ids[1::2] for _ in range(2)
        ]
        later = [*of_partition("later", 1, names[0], names), *of_partition("l", 1, names[1], names)]
        asked = (*asked, "--follow", *(f"--id={each}" for each in later))
        follower = console.start(*asked)
        assert follower.stdout is not None
        lines = [json.loads(follower.stdout.readline()) for _ in told]
        assert lines == told
        for each, client in zip(later, (one, two), strict=True):
            client.submit("predict", DATA, id=each)
        lines = [json.loads(follower.stdout.readline()) for _ in range(4)]
    assert finish(follower, signal.SIGINT).code == 0
    for each in later:
        states = [event["type"] for event in lines if event["subject"] == each]
        assert states == ["predict.accepted", "predict.failed"]


def test_ids_of_all_namespaces_are_offered_to_a_shell(console: Console, names: list[str]) -> None:
    ids = [*of_partition("tab", 1, names[0], names), *of_partition("tab", 1, names[1], names)]
    for each in ids:
        sent = ("submit", "list_models", f"--id={each}", "--notbefore=2099-01-01T00:00:00Z")
        assert console.run(*sent).code == 0
    wait_until(lambda: console.run("status", *ids).code == 0, "both have been accepted")
    asked = {
        "_TRAINMASTER_COMPLETE": "bash_complete",
        "COMP_WORDS": "trainmaster status tab",
        "COMP_CWORD": "2",
    }
    offered = console.run(environment=asked).out.splitlines()
    assert {line.partition(",")[2] for line in offered} == set(ids)
    assert console.run("cancel", *ids).code == 0


def test_a_backfill_is_found_in_the_namespace_that_has_it(
    console: Console, names: list[str], tmp_path: Path
) -> None:
    """By an id that says where, and by one that was begun in the other namespace."""
    source = tmp_path / "items.jsonl"
    source.write_text('{"data_path": "/nowhere"}\n')
    options = ["--task=classification", f"--project={NOBODY}", f"--attachment={NOBODY}"]
    options += [f"--training={NOBODY}"]
    (own,) = of_partition("own", 1, names[0], names)
    (stray,) = of_partition("stray", 1, names[0], names)
    for backfill_id, elsewhere in ((own, ()), (stray, ("--namespace", names[1]))):
        output = f"--output={tmp_path / backfill_id}"
        ran = console.run(
            "backfill", "run", str(source), f"--id={backfill_id}", output, *options, *elsewhere
        )
        assert ran.code == 1, ran
        assert "1 item failed" in ran.out
    for backfill_id, namespace in ((own, names[0]), (stray, names[1])):
        (status,) = console.run("backfill", "status", backfill_id, "--json").lines
        assert (status["id"], status["state"]) == (backfill_id, "succeeded")
        alone = console.run("backfill", "status", backfill_id, "--json", "--namespace", namespace)
        assert [each["begun_ms"] for each in alone.lines] == [status["begun_ms"]]
    listed = console.run("backfill", "status", "--json").lines
    assert [each["id"] for each in listed] == [stray, own]
    assert console.run("backfill", "cancel", stray).code == 0
    retried = console.run("backfill", "retry-failed", stray)
    assert retried.code == 1, retried
    (status,) = console.run("backfill", "status", f"{stray}.retry", "--json").lines
    assert (status["state"], status["failed"]) == ("succeeded", 1)
    assert console.run("backfill", "pause", "nobody-has-it").code == 1
