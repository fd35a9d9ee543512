"""Every way in that a producer has, each as foreign to the worker as it would be in life."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from celery import Celery

from trainmaster_client import Client
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from types import TracebackType

    from redis import Redis

_SHARES: Final = {"stream": 55, "inbox": 15, "celery": 15, "producer": 15}
_BATCH: Final = 200


def foreign_celery(redis_url: str, namespace: str) -> Celery:
    """Returns the Celery app of another system, which knows nothing of ours but the names."""
    app = Celery("elsewhere", broker=redis_url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": f"{{{namespace}}}:"}
    return app


@dataclass
class Senders:
    """Sends commands by the stream, the inbox, a foreign Celery app and the Python producer.

    Attributes:
        client: a plain client of Redis.
        sent: how many went each way.
    """

    client: Redis
    redis_url: str
    namespace: str = "trainmaster"
    sent: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_SHARES, 0))

    def __enter__(self) -> Self:
        self._keys = Keys(self.namespace)
        self._celery = foreign_celery(self.redis_url, self.namespace)
        self._producer = Client(self.redis_url, namespace=self.namespace)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._producer.close()
        self._celery.close()

    def send(self, texts: Sequence[str], rng: random.Random) -> None:
        """Sends each text by a way that chance chooses."""
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            ways = rng.choices(list(_SHARES), list(_SHARES.values()), k=len(batch))
            pipe = self.client.pipeline(transaction=False)
            for way, text in zip(ways, batch, strict=True):
                self.sent[way] += 1
                match way:
                    case "stream":
                        pipe.xadd(self._keys.commands, {"command": text})
                    case "inbox":
                        pipe.rpush(self._keys.inbox, text)
                    case "celery":
                        self.send_task(json.loads(text))
                    case _:
                        self._producer.submit(json.loads(text))
            pipe.execute()

    def send_task(self, command: object) -> str:
        """Sends whatever it is as the argument of the task; returns the task's id."""
        return str(self._celery.send_task("trainmaster.submit", args=[command]).id)
