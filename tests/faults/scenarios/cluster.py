"""A Redis Cluster whose primary dies under load, again and again."""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.cluster import PATIENCE_SECONDS, Cluster, cluster
from tests.faults.audit import Audit, Report, report
from tests.faults.fleet import Fleet, bar, wait_until
from tests.faults.workload import Scene, doubled_titles, mixed
from tests.sandbox_process import SandboxProcess
from trainmaster_client import Client
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

PREFIX = "{trainmaster}:"
RETURN_SECONDS = 10.0
# Longer than it takes to see that the replica has all, and to kill.
PAUSE_MS = 20_000


@dataclass
class ClusterFleet(Fleet):
    """Workers on a cluster: three primaries, and a replica of the namespace's."""

    def __enter__(self) -> Self:
        self._made: AbstractContextManager[Cluster] = cluster(
            self.folder / "cluster", replicas_of=PREFIX, config=self.redis_config
        )
        self.nodes = self._made.__enter__()
        self.client = RedisAddress.parse(self.nodes.url).client(
            PREFIX, socket_timeout=20, retry=Retry(ConstantBackoff(0.2), 300)
        )
        self.sandbox = SandboxProcess(self.folder / "sandbox", *self.sandbox_options)
        self.sandbox.start()
        self.add_workers(self.size)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()
        self.sandbox.stop()
        self.client.close()
        self._made.__exit__(None, None, None)

    def environment(self) -> dict[str, str]:
        """Returns the settings of a worker, with the cluster's address."""
        self.redis = self.nodes.nodes[0]
        return {**super().environment(), "TRAINMASTER_REDIS_URL": self.nodes.url}

    def fail_over(self) -> float:
        """Kills the primary once its replica has all that it acknowledged.

        Returns:
            Seconds until another node serves the namespace.
        """
        primary = self.nodes.primary(PREFIX)
        with self.nodes.client(primary) as client:
            # What comes from now on is not acknowledged, so that nothing is that nobody else has.
            client.execute_command("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
            assert client.execute_command("WAIT", 1, 10_000) >= 1
        primary.end(signal.SIGKILL)
        took = wait_until(
            lambda: self._leader() not in {None, primary.port}, PATIENCE_SECONDS, "a failover"
        )
        primary.start()
        return took

    def wait_in_step(self) -> None:
        """Waits until the namespace's primary has a replica that follows it."""

        def is_in_step() -> bool:
            try:
                with self.nodes.client(self.nodes.primary(PREFIX)) as client:
                    info: dict[str, Any] = client.info("replication")
            except (RedisError, IndexError):
                return False
            state = info.get("slave0", {}).get("state")
            return (info["role"], state) == ("master", "online")

        wait_until(is_in_step, PATIENCE_SECONDS, "a replica follows")

    def _leader(self) -> int | None:
        try:
            ports = self.nodes.ports_of(PREFIX)
        except RedisError:
            return None
        return ports[0] if ports else None


def cluster_failover(folder: Path, seed: int, commands: int, kills: int) -> Report:
    """Sends a load while the primary of the namespace is killed, `kills` times."""
    rng = random.Random(seed)
    with ClusterFleet(folder, 2) as fleet:
        scene = Scene.prepare(fleet)
        work = mixed(scene, commands, rng)
        fleet.sandbox.faults({"operation": "*", "effect": "latency", "seconds": 0.3})
        fleet.wait_ready()
        audit, texts = Audit(fleet), [json.loads(text) for text in work.texts.values()]
        share = len(texts) // (kills + 1)
        failovers, backs = [], []
        with Client(fleet.nodes.url) as producer:
            for number in range(kills):
                producer.submit_many(texts[number * share : (number + 1) * share])
                _until(audit, (number * share) + share // 4)
                fleet.wait_in_step()
                failovers.append(fleet.fail_over())
                audit.update()
                before, begun = audit.ended(), time.monotonic()
                _until(audit, before + 1)
                backs.append(time.monotonic() - begun)
            producer.submit_many(texts[kills * share :])
            audit.settle(len(work.expected))
        models = fleet.sandbox.truth()["created"]["models"]
        wrong = sum(back > bar(RETURN_SECONDS) for back in backs) + fleet.stop()
        return report(
            f"cluster failover[seed {seed}]",
            audit,
            work.expected,
            faults=kills,
            doubled=doubled_titles(models, "c "),
            wrong=wrong,
            details={
                "failover": f"{max(failovers):.1f} s at most",
                "back after": f"{max(backs):.1f} s at most",
            },
        )


def _until(audit: Audit, count: int) -> None:
    def has() -> bool:
        audit.update()
        return audit.ended() >= count

    wait_until(has, PATIENCE_SECONDS, f"{count} have ended")
