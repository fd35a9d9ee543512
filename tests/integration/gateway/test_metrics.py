"""`/metrics` of a gateway: whoever is asked tells the same, and Prometheus' own parser reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.console import wait_until
from tests.integration.backfilling import (
    NAME,
    Backfilling,
    make_plan,
    run_to_the_end,
    store_of,
)
from tests.integration.ledger_acts import accept_one, open_group
from tests.integration.webhooks.posting import GET_MODEL, HEAD, SECRET, signed, submitted
from tests.stream_events import event_text
from worker.backfill.keys import backfills_key
from worker.backfill.status import Origin
from worker.embedded import EmbeddedRedis
from worker.gateway import metrics
from worker.gateway.access.tokens import Scope
from worker.gateway.keys import tallies_key
from worker.gateway.metrics import GatewaySampler, gateway_metric_rows
from worker.gateway.models import moment
from worker.gateway.read_model.model import ReadModel
from worker.gateway.routes import sinks
from worker.gateway.tallies import Tallies
from worker.integrations.file import load_integrations
from worker.sinks.keys import sink_key, unsent_key, waiting_key
from worker.sinks.operations import sink_status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

SINK = """
[sinks.ops]
redis.stream = "elsewhere"
"""


@pytest.fixture
def integrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Encord's webhooks in, and one sink."""
    monkeypatch.setenv("ENCORD_WEBHOOK_SECRET", SECRET)
    file = tmp_path / "integrations.toml"
    file.write_text(HEAD + GET_MODEL + SINK)
    return file


@pytest.fixture
def gateway(serve_gateway: ServeGateway, integrations: Path) -> Iterator[GatewayServer]:
    """A gateway with both."""
    with serve_gateway(integrations_file=integrations) as served:
        yield served


def scraped(gateway: GatewayServer) -> dict[str, float]:
    """Returns what Prometheus reads, by name and labels."""
    answer = gateway.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name.removeprefix("trainmaster_")
        + "".join(f" {name}={said}" for name, said in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_so_that_nobody_can_make_series(
    gateway: GatewayServer,
) -> None:
    for number in range(3):
        gateway.http.get(f"/v1/commands/none-{number}")
        gateway.http.get(f"/no-such-page-{number}")
    gateway.http.post("/v1/commands", json={"type": "list_models", "data": {}})
    gateway.http.post("/v1/commands", content=b"no JSON")
    gateway.http.request("LINK", "/healthz")
    found = scraped(gateway)
    told = {name: value for name, value in found.items() if name.startswith("http_requests_total")}
    assert told == {
        "http_requests_total method=GET route=/v1/commands/{command_id} status=404": 3,
        "http_requests_total method=GET route=other status=404": 3,
        "http_requests_total method=POST route=/v1/commands status=202": 1,
        "http_requests_total method=POST route=/v1/commands status=415": 1,
        "http_requests_total method=other route=/healthz status=405": 1,
    }


def test_deliveries_are_counted_by_what_became_of_them(gateway: GatewayServer) -> None:
    refused = "webhook_deliveries_total outcome=refused source=encord"
    assert scraped(gateway)[refused] == 0, "Prometheus sees no increase in what begins at 1"
    good = signed(submitted("uid-1", labels=[]))
    url = "/v1/webhooks/encord"
    for _ in range(3):
        assert gateway.http.post(url, content=good.body, headers=good.headers).status_code == 200
    assert gateway.http.post(url, content=b"forged", headers=good.headers).status_code == 401
    found = scraped(gateway)
    told = {name: value for name, value in found.items() if name.startswith("webhook")}
    assert told == {
        "webhook_deliveries_total outcome=submitted source=encord": 1,
        "webhook_deliveries_total outcome=repeated source=encord": 2,
        refused: 1,
    }


async def test_without_a_worker_the_demand_rises_with_a_command_and_an_autoscaler_sees_it(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    """The metric and `GET /v1/workers` are what the chart's ScaledObject asks for."""
    assert scraped(gateway)["worker_demand"] == 0
    sent = gateway.http.post("/v1/commands", json={"type": "list_models", "data": {}})
    assert sent.status_code == 202
    assert scraped(gateway)["worker_demand"] == 1, "no worker has accepted it"
    assert gateway.http.get("/v1/workers").json() == {"items": [], "demand": 1}
    await open_group(redis, ledger.keys)
    await accept_one(redis, ledger, "c-1")
    assert scraped(gateway)["worker_demand"] == 2, "one unread, one due"


async def test_each_gateway_tells_the_same_of_sinks_backfills_and_the_ledger(
    serve_gateway: ServeGateway,
    gateway: GatewayServer,
    integrations: Path,
    tmp_path: Path,
    redis: Redis,
    keys: Keys,
    ledger: Ledger,
) -> None:
    store = store_of(redis, keys)
    plan = make_plan(tmp_path)
    await store.open(NAME, plan, Origin.CONSOLE, "bf-1")
    await store.expect(NAME, 30)
    night = Backfilling(redis, keys, ledger, store, plan)
    await night.feed(5)
    (lease, *_) = await night.claim(1)
    await night.settle(lease)
    await open_group(redis, keys)
    await accept_one(redis, ledger, "c-1")
    found = scraped(gateway)
    told = {name: value for name, value in found.items() if not name.startswith("http_")}
    assert told["backfill_items backfill=night state=succeeded"] == 1
    assert told["backfill_items backfill=night state=open"] == 4
    assert told["backfill_expected_items backfill=night"] == 30
    assert told["backfill_paused backfill=night"] == 0
    assert told["due_now lane=interactive"] == 1
    assert told["sink_paused sink=ops"] == 0
    assert "sink_delivered_total sink=ops" in told
    with serve_gateway(integrations_file=integrations) as other:
        again = scraped(other)
    ages = {name for name in told if "seconds" in name or name.startswith("sink_")}
    assert {name: again[name] for name in told.keys() - ages} == {
        name: told[name] for name in told.keys() - ages
    }
    names = {row.name.removeprefix("trainmaster_") for row in gateway_metric_rows()}
    # The first scrape is a request too.
    shown = {name.partition(" ")[0] for name in scraped(gateway)}
    assert shown <= names
    assert names == shown


def test_what_was_counted_outlives_the_process(
    serve_gateway: ServeGateway, integrations: Path
) -> None:
    name = "http_requests_total method=GET route=/healthz status=200"
    for times in (1, 2):
        with serve_gateway(integrations_file=integrations) as gateway:
            gateway.http.get("/healthz")
            assert scraped(gateway)[name] == times


def test_whoever_scrapes_needs_a_token_that_reads_everything(
    serve_gateway: ServeGateway, make_token: MakeToken
) -> None:
    with serve_gateway(gateway_host="0.0.0.0") as gateway:  # noqa: S104 - only there it asks
        for token, status in (
            (make_token(Scope.READ), 200),
            (make_token(Scope.SUBMIT), 403),
            (make_token(Scope.READ, types=["predict"]), 403),
            ("wrong", 401),
        ):
            headers = {"authorization": f"Bearer {token}"}
            assert gateway.http.get("/metrics", headers=headers).status_code == status
            assert json.dumps(token) not in gateway.http.get("/metrics").text


def test_without_redis_a_scrape_fails(serve_gateway: ServeGateway, tmp_path: Path) -> None:
    """All of it stands there; workers tell that it is away."""
    with EmbeddedRedis(tmp_path / "redis") as server:
        gone = server.url
    with serve_gateway(redis_url=gone) as gateway:
        assert gateway.http.get("/metrics").status_code == 503


async def test_doubts_and_trainings_that_have_not_ended_are_counted_by_the_lists(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    told = [
        ("a", "train.accepted"),
        ("b", "train.accepted"),
        ("b", "train.started"),
        ("c", "watch_training.started"),
        ("d", "train.accepted"),
        ("d", "train.succeeded"),
        ("e", "create_model.in_doubt"),
        ("f", "attach.in_doubt"),
        ("g", "train.in_doubt"),
        ("h", "predict.started"),
    ]
    for command_id, event_type in told:
        await redis.xadd(keys.events, {"event": event_text(command_id, event_type)})
    wait_until(lambda: scraped(gateway).get("in_doubt") == 3, "the lists")
    found = scraped(gateway)
    of_state = {
        name.partition("state=")[2]: value
        for name, value in found.items()
        if name.startswith("trainings_open ")
    }
    # Of those that have ended there is no series, and of the others one from the start.
    assert of_state == {
        "accepted": 1,
        "started": 2,
        "in_doubt": 1,
        **dict.fromkeys(("progressed", "retrying", "resolved"), 0),
    }


async def test_of_very_many_backfills_those_that_were_begun_last_and_go_on_are_told(
    gateway: GatewayServer, night: Backfilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a series, for ever."""
    monkeypatch.setattr(metrics, "MOST_BACKFILLS", 2)
    names = ["a", "b", "c", "d"]
    for number, name in enumerate(names):
        await night.store.open(name, night.plan, Origin.QUEUE, f"{number}-1")
        await night.redis.zadd(backfills_key(night.keys), {name: 1000 + number})
    await night.redis.zadd(backfills_key(night.keys), {NAME: 9000})
    gateway.http.post("/v1/backfills/c/pause").raise_for_status()
    await run_to_the_end(night)
    found = scraped(gateway)
    assert {name for name in found if name.startswith("backfill_paused")} == {
        "backfill_paused backfill=c",
        "backfill_paused backfill=d",
    }
    assert found["backfill_paused backfill=c"] == 1
    assert "backfill_expected_items backfill=d" not in found, "that is not known"


async def test_each_number_of_a_sink_is_of_what_it_says(
    integrations: Path, tmp_path: Path, redis: Redis, keys: Keys
) -> None:
    """All differ, so that none can stand in another's place; /v1/sinks tells the same."""
    state: dict[Any, Any] = {
        "delivered": 3,
        "failed": 4,
        "last_error": "refused",
        "last_error_at": 7000,
        "last_delivered_at": 6000,
        "paused": "night",
        "paused_at": 5000,
    }
    await redis.hset(sink_key(keys, "ops"), mapping=state)
    await redis.hset(waiting_key(keys, "ops"), mapping={str(each): "{}" for each in range(5)})
    for number in range(6):
        fields: dict[Any, Any] = {"event": "{}", "entry": f"{number + 1}-0", "error": "no"}
        await redis.xadd(unsent_key(keys, "ops"), fields)
    file = load_integrations(integrations)
    model = ReadModel(redis, keys, tmp_path, retention_seconds=60)
    sampler = GatewaySampler(redis, keys, Tallies(redis, keys), file, store_of(redis, keys), model)
    registry = await sampler.sample()
    found = {
        name: registry.get_sample_value(f"trainmaster_sink_{name}", {"sink": "ops"})
        for name in (
            *("delivered_total", "failed_attempts_total", "waiting_events", "unsent_events"),
            *("paused", "running", "missed_total", "behind_events"),
        )
    }
    # What nobody has looked at yet is not told as 0.
    assert list(found.values()) == [3, 4, 5, 6, 1, 0, 0, None]
    shown = sinks._view(await sink_status(redis, keys, file.sinks["ops"])).model_dump()
    names = ("delivered", "failed_attempts", "waiting", "unsent", "missed", "behind_events")
    assert [shown[name] for name in names] == [3, 4, 5, 6, 0, None]
    assert (shown["state"], shown["paused"], shown["reason"]) == ("paused", True, "night")
    assert (shown["running"], shown["missed_at"]) == (False, None)
    assert shown["last_error"] == "refused"
    assert shown["last_error_at"] == moment(7000)
    assert shown["last_delivered_at"] == moment(6000)
    # A scrape while the lists are being made tells nothing of them.
    assert registry.get_sample_value("trainmaster_in_doubt") is None


async def test_a_series_of_another_version_keeps_no_other_from_being_told(
    gateway: GatewayServer, redis: Redis, keys: Keys
) -> None:
    """Gateways of two versions may count in one Redis."""
    odd: dict[Any, Any] = {"http_requests_total\nGET\n/x": "5", "of_tomorrow_total\na": "6"}
    await redis.hset(tallies_key(keys), mapping=odd)
    gateway.http.get("/healthz")
    found = scraped(gateway)
    assert found["http_requests_total method=GET route=/healthz status=200"] == 1
    assert 5 not in found.values()
    assert 6 not in found.values()
