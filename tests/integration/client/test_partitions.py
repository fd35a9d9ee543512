"""Several namespaces as one: a worker for each, commands where their ids say."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from tests.console import Console, running_worker, wait_until
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

NOBODY = "00000000-0000-4000-8000-000000000000"
# It fails at once and without a call of the API: nobody may read such a file.
DATA = {
    "task": "classification",
    "data_path": "/nowhere",
    "project_uuid": NOBODY,
    "project_model_uuid": NOBODY,
    "training_uuid": NOBODY,
}
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


@pytest.mark.parametrize("command", [("gateway",), ("events",)])
def test_what_works_on_one_namespace_says_so(console: Console, command: tuple[str, ...]) -> None:
    said = console.run(*command)
    assert said.code == 2
    assert "TRAINMASTER_NAMESPACE names several namespaces" in said.err


def test_one_of_several_can_be_named(console: Console, names: list[str]) -> None:
    assert console.run("events", "--namespace", names[0]).code == 0
