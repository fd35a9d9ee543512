"""`/metrics` of a gateway: whoever is asked tells the same, and Prometheus' own parser reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.backfilling import NAME, Backfilling, make_plan, store_of
from tests.integration.ledger_acts import accept_one, open_group
from tests.integration.webhooks.posting import GET_MODEL, HEAD, SECRET, signed, submitted
from worker.backfill.status import Origin
from worker.embedded import EmbeddedRedis
from worker.gateway.metrics import gateway_metric_rows
from worker.gateway.tokens import Scope

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
