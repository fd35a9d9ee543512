"""trainmaster itself: the real command `trainmaster worker` with its defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contenders.contender import RECOVERY_SECONDS, Contender, Producer, program
from trainmaster_client import Client
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.work import Message

NAMESPACE = "trainmaster"


class TrainmasterProducer:
    """Our own client; hundreds of commands in a round trip."""

    def __init__(self, redis_url: str) -> None:
        self._client = Client(redis_url, namespace=NAMESPACE)

    def enqueue(self, messages: Sequence[Message]) -> None:
        """Adds the messages as `predict` commands."""
        self._client.submit_many({"type": "predict", **message} for message in messages)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()


class Trainmaster(Contender):
    """The worker under test."""

    name = "trainmaster"
    title = "trainmaster"
    settings = "`trainmaster worker`, defaults; log level WARNING"
    concurrency = 512
    slow_concurrency = 2048
    per_second = 2_200
    stream = Keys(NAMESPACE).events
    validates = "the command and the reply"
    record = "each command, its state and its end; a week"
    events = 2
    lost_answer = "looked for at the API, never sent again"

    def command(self, concurrency: int) -> list[str]:  # noqa: ARG002 - they are in the environment
        """Returns the worker's command line."""
        return [program("trainmaster"), "worker"]

    def environment(self, redis_url: str, folder: Path, concurrency: int) -> dict[str, str]:
        """Returns the settings."""
        return {
            "TRAINMASTER_REDIS_URL": redis_url,
            "TRAINMASTER_NAMESPACE": NAMESPACE,
            "TRAINMASTER_RESULT_STORE": str(folder / "results"),
            "TRAINMASTER_CONCURRENCY": str(concurrency),
            "TRAINMASTER_LOG_LEVEL": "WARNING",
            "TRAINMASTER_LOG_FORMAT": "json",
        }

    def quick_recovery(self) -> dict[str, str]:
        """Returns a short lease, and a short silence of a consumer."""
        return {
            "TRAINMASTER_LEASE_SECONDS": str(RECOVERY_SECONDS),
            "TRAINMASTER_CONSUMER_IDLE_SECONDS": str(RECOVERY_SECONDS),
        }

    def producer(self, redis_url: str) -> Producer:
        """Returns our own producer."""
        return TrainmasterProducer(redis_url)
