"""`GET /v1/trainings`: how each stands while it runs, and what it came to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.creations import train_data
from tests.integration.intake_acts import good, take_in, until
from tests.sandbox_process import SIMULATED
from worker.gateway.access.tokens import Scope

if TYPE_CHECKING:
    import httpx
    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken
    from tests.integration.worker_bench import Bench
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

PATH = "/v1/trainings"


def listed(http: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    answer = http.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def until_listed(gateway: GatewayServer, **states: str) -> dict[str, dict[str, Any]]:
    """Waits until the list tells these states; returns its items by id, `_` for `-`."""
    found: dict[str, dict[str, Any]] = {}

    async def told() -> bool:
        answer = gateway.http.get(PATH)
        if answer.status_code == 200:
            found.update({each["id"]: each for each in answer.json()["items"]})
        return {name: each["state"] for name, each in found.items()} == states

    await until(told)
    return found


def seconds_to(text: str) -> float:
    return (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()


async def test_a_training_is_told_from_its_first_poll_to_its_losses(
    gateway: GatewayServer, bench: Bench, keys: Keys
) -> None:
    bench.sandbox.faults({**SIMULATED, "training": "stalled"})
    data = train_data(bench.sandbox, bench.sandbox.create_model())
    soon = (datetime.now(UTC) + timedelta(seconds=900)).isoformat()
    await bench.send("train", {**data, "timeout_seconds": 1800}, id="runs")
    await bench.attempt("runs")
    await bench.send("train", data, id="hurries", deadline=soon)
    await bench.attempt("hurries")
    await bench.send("train", data, id="waits")
    bench.sandbox.faults(SIMULATED)
    done = train_data(bench.sandbox, bench.sandbox.create_model())
    terminal = await bench.end(await bench.send("train", done, id="done"))

    items = await until_listed(
        gateway, runs="started", hurries="started", waits="accepted", done="succeeded"
    )
    runs = items["runs"]
    assert (runs["type"], runs["model_uuid"]) == ("train", data["model_uuid"])
    assert (runs["epochs"], runs["batch_size"]) == (data["epochs"], data["batch_size"])
    assert runs["training_uuid"] == (await bench.told("runs"))[-1]["data"]["training_uuid"]
    assert 5 < seconds_to(runs["next_poll_at"]) < 20
    assert 1700 < seconds_to(runs["deadline"]) <= 1800
    assert 0 <= runs["elapsed_seconds"] < 120
    assert (runs["ended_at"], runs["error"], runs["iteration"]) == (None, None, None)
    assert 800 < seconds_to(items["hurries"]["deadline"]) <= 900
    waits = items["waits"]
    assert (waits["training_uuid"], waits["next_poll_at"]) == (None, None)
    assert waits["model_uuid"] == data["model_uuid"]

    ended = items["done"]
    assert ended["iteration"] == terminal["data"]["result"]["iteration"]
    assert "loss_log" in ended["iteration"]
    assert ended["training_uuid"] == terminal["data"]["result"]["training_uuid"]
    assert ended["model_uuid"] == done["model_uuid"]
    between = datetime.fromisoformat(ended["ended_at"]) - datetime.fromisoformat(
        ended["accepted_at"]
    )
    assert ended["elapsed_seconds"] == pytest.approx(between.total_seconds(), abs=0.01)
    assert (ended["deadline"], ended["next_poll_at"], ended["attempts"]) == (None, None, 1)
    # Once its event is gone, what it was sent with still tells of it.
    await bench.redis.delete(keys.events)
    (ended,) = [each for each in listed(gateway.http) if each["id"] == "done"]
    assert (ended["iteration"], ended["epochs"]) == (None, done["epochs"])


async def test_a_training_that_failed_and_one_that_is_watched_say_what_they_are(
    gateway: GatewayServer, bench: Bench, keys: Keys
) -> None:
    bench.sandbox.faults({**SIMULATED, "training": "failing"})
    data = train_data(bench.sandbox, bench.sandbox.create_model())
    await bench.end(await bench.send("train", data, id="fails"))
    bench.sandbox.faults({**SIMULATED, "training": "stalled"})
    begun = await bench.carry("train", {**data, "wait": False}, id="begun")
    watched = {"model_uuid": data["model_uuid"], "training_uuid": begun["training_uuid"]}
    await bench.send("watch_training", watched, id="watched")
    await bench.attempt("watched")
    await take_in(bench.redis, bench.ledger, b'{"type":"train","id":"odd","data":{"epochs":"x"}}')

    items = await until_listed(
        gateway, fails="failed", begun="succeeded", watched="accepted", odd="rejected"
    )
    fails = items["fails"]
    assert (fails["model_uuid"], fails["epochs"]) == (data["model_uuid"], data["epochs"])
    assert (fails["error"]["code"], fails["iteration"]) == ("training_failed", None)
    assert fails["ended_at"]
    assert items["begun"]["training_uuid"] == begun["training_uuid"]
    shown = items["watched"]
    assert (shown["type"], shown["training_uuid"]) == ("watch_training", begun["training_uuid"])
    assert shown["next_poll_at"]
    odd = items["odd"]
    assert (odd["error"]["code"], odd["epochs"], odd["attempts"]) == ("invalid_command", None, 0)
    assert odd["ended_at"]
    # Someone wrote over what the ledger has of one: the others are still to be seen.
    await bench.redis.set(keys.command("begun"), "x")
    await bench.redis.delete(keys.text("watched"))
    await bench.redis.hset(keys.text("watched"), "x", "x")
    assert len(listed(gateway.http)) == 4


async def test_pages_follow_each_other_over_both_types_and_by_state(
    gateway: GatewayServer, redis: Redis, ledger: Ledger, make_token: MakeToken
) -> None:
    model = {"model_uuid": "2f1c8a52-6f0f-4a57-9a0b-1f0a4d6c9e01"}
    uuid = model["model_uuid"]
    train = {
        **model,
        "batch_size": 1,
        "epochs": 1,
        "features_mapping": {uuid: {"a": ["b"]}},
        "labels_uuids": [uuid],
    }
    for number in range(9):
        kind, data = (
            ("train", train)
            if number % 3
            else (
                "watch_training",
                {
                    **model,
                    "training_uuid": uuid,
                },
            )
        )
        await take_in(redis, ledger, good(type=kind, id=f"t-{number}", data=data))
        await take_in(redis, ledger, good(id=f"other-{number}"))
    await take_in(redis, ledger, good(type="train", id="bad"))
    everything = {f"t_{number}": "accepted" for number in range(9)}
    states = {name.replace("_", "-"): state for name, state in everything.items()}
    await until_listed(gateway, **states, bad="rejected")

    newest_first = ["bad", *(f"t-{number}" for number in reversed(range(9)))]
    for limit in (1, 3, 4, 9, 10, 100):
        seen: list[str] = []
        cursor: str | None = None
        while not seen or cursor is not None:
            query = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
            page = gateway.http.get(PATH, params=query).json()
            # Never short but for the last: nobody has to look for what is not there.
            assert len(page["items"]) == limit or page["next_cursor"] is None
            seen += [each["id"] for each in page["items"]]
            cursor = page["next_cursor"]
        assert seen == newest_first, limit
    of_state = [each["id"] for each in listed(gateway.http, state="accepted", limit=4)]
    assert of_state == newest_first[1:5]
    assert [each["id"] for each in listed(gateway.http, state="rejected")] == ["bad"]

    with gateway.client(make_token(Scope.READ, types=["watch_training"])) as http:
        assert [each["id"] for each in listed(http)] == ["t-6", "t-3", "t-0"]
    with gateway.client(make_token(Scope.READ, types=["predict"])) as http:
        refused = http.get(PATH)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("state=suceeded", "Did you mean 'succeeded'"),
        ("cursor=x", "cursor"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("type=train", "type"),
    ],
)
def test_the_list_says_what_is_wrong_with_its_question(
    gateway: GatewayServer, query: str, said: str
) -> None:
    answer = gateway.http.get(f"{PATH}?{query}")
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
