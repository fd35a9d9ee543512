"""The users of `deploy/redis-users.acl` on a Redis Cluster: the same file is enough there."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import httpx
import pytest
from celery import Celery
from pydantic import SecretStr

from tests.cluster import Cluster, cluster
from tests.console import Console, running_worker
from tests.gateway_process import running_gateway
from tests.integration.integrations.published import publish
from tests.integration.integrations.published import wait_until as soon
from tests.integration.sinks.endpoints import Endpoint, sink_config, webhook
from tests.integration.sinks.serving import serving
from tests.security.access import ACL_FILE
from tests.unread_item import DATA
from trainmaster_client import Client, RedisRefusedError
from worker.app import celery_settings
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.long

KEYS = Keys("trainmaster")
# redis-py introduces itself, and the worker asks how often the server syncs its file.
HARMLESS = {"client|setinfo", "config|get"}
COMMAND = {"type": "predict", "data": DATA}


class GuardedCluster:
    """A cluster whose nodes know the users of the file, each with a password."""

    def __init__(self, nodes: Cluster) -> None:
        self.nodes = nodes
        self.passwords: dict[str, str] = {}
        for line in ACL_FILE.read_text().splitlines():
            user, *rights = line.split()[1:]
            if user != "default":
                self.passwords[user] = secrets.token_urlsafe(24)
                self.set_user(user, f">{self.passwords[user]}", *rights)

    def set_user(self, user: str, *rules: str) -> None:
        """Has all nodes know something of a user."""
        for node in self.nodes.nodes:
            assert self.nodes.ask(node, "ACL", "SETUSER", user, *rules) in {b"OK", True}

    def url_of(self, user: str) -> str:
        """Where a user finds it: by two nodes, one of which may be the one."""
        places = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes.nodes[:2])
        return f"redis+cluster://{user}:{self.passwords[user]}@{places}"

    def console(self, user: str, **settings: str) -> Console:
        return Console(
            self.url_of(user),
            KEYS.namespace,
            TRAINMASTER_BEARER_TOKEN="of-nobody",
            ENCORD_DOMAIN="http://127.0.0.1:9",
            **settings,
        )

    def refused(self) -> set[tuple[str, str]]:
        """Returns whom the nodes have refused what, but for what does no harm."""
        found = set()
        for node in self.nodes.nodes:
            with self.nodes.client(node) as client:
                found |= {(each["username"], each["object"].lower()) for each in client.acl_log()}
        return {each for each in found if each[1] not in HARMLESS}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedCluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield GuardedCluster(nodes)


def test_each_user_does_its_work_on_a_cluster(guarded: GuardedCluster, tmp_path: Path) -> None:
    gateway_console = guarded.console("gateway", TRAINMASTER_GATEWAY_FOLDER=str(tmp_path / "state"))
    with (
        running_worker(guarded.console("worker"), tmp_path / "worker.log"),
        running_gateway(gateway_console, tmp_path / "gateway.log") as gateway,
        httpx.Client(base_url=gateway.url, trust_env=False) as http,
        Client(guarded.url_of("client")) as client,
        Client(guarded.url_of("producer")) as producer,
    ):
        sent = [
            producer.submit("predict", DATA),
            client.submit("predict", DATA, priority="bulk"),
            http.post("/v1/commands", json=COMMAND).json()["id"],
        ]
        settings = Settings(
            redis_url=SecretStr(guarded.url_of("celery-producer")), namespace=KEYS.namespace
        )
        app = Celery("elsewhere", set_as_current=False)
        app.conf.update(celery_settings(settings))
        app.send_task("trainmaster.submit", args=[{**COMMAND, "id": "by-celery"}])
        app.close()
        sent.append("by-celery")
        assert {client.wait(each, timeout=60).state for each in sent} == {"failed"}
        assert http.get(f"/v1/commands/{sent[0]}").json()["state"] == "failed"
    told = guarded.console("reader").run("events", "--json", "--type=predict.failed")
    assert {each["subject"] for each in told.lines} == set(sent)
    operator = guarded.console("operator")
    assert operator.run("status", sent[0], "--json").code == 0
    checks = {each["check"]: each for each in operator.run("doctor", "--json").lines}
    assert checks["redis.cluster"]["level"] == "ok", checks
    assert "not checked" not in str(checks)
    assert guarded.refused() == set()


async def test_sinks_deliver_from_a_cluster(guarded: GuardedCluster, tmp_path: Path) -> None:
    endpoint = Endpoint()
    admin = connect(guarded.url_of("admin"), KEYS.events)
    user = connect(guarded.url_of("sinks"), KEYS.events)
    try:
        async with endpoint.serving():
            config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
            async with serving(user, KEYS, config):
                await publish(admin, KEYS, "of-a-sink", range(3))
                await soon(lambda: len(endpoint.numbers("of-a-sink")) == 3)
    finally:
        await admin.aclose()
        await user.aclose()
    assert guarded.refused() == set()


def test_who_may_not_ask_where_the_namespace_is_hears_of_the_right(
    guarded: GuardedCluster,
) -> None:
    guarded.set_user("client", "-cluster|slots")
    try:
        with (
            Client(guarded.url_of("client")) as client,
            pytest.raises(RedisRefusedError, match=r"cluster\|slots"),
        ):
            client.submit("predict", DATA)
    finally:
        guarded.set_user("client", "+cluster|slots")
