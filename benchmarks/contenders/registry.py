"""All contenders by name; a peer of Python is known only where it is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from benchmarks.contenders.bare import BARE_AIOHTTP, BARE_TRANSPORT
from benchmarks.contenders.node_queues import BeeQueue, BullMq
from benchmarks.contenders.ours import Trainmaster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.contenders.contender import Contender

OURS: Final = Trainmaster()
NODE_QUEUES: Final = (BullMq(), BeeQueue())
CEILINGS: Final[tuple[Contender, ...]] = (BARE_TRANSPORT, BARE_AIOHTTP)

# Where it is defined, its class, and the package that must be there; slowest first.
_PEERS: Final = (
    ("celery_sdk", "CelerySdk", "encord"),
    ("rq_jobs", "Rq", "rq"),
    ("celery_threads", "CeleryThreads", "celery"),
    ("arq_jobs", "Arq", "arq"),
    ("dramatiq_actors", "Dramatiq", "dramatiq"),
    ("saq_jobs", "Saq", "saq"),
    ("taskiq_streams", "TaskiqStreams", "taskiq_redis"),
)


def peers() -> Iterator[Contender]:
    """Yields the peers that are installed."""
    for module, name, package in _PEERS:
        if find_spec(package) is not None:
            yield getattr(import_module(f"benchmarks.contenders.{module}"), name)()


def contenders() -> tuple[Contender, ...]:
    """Returns all: ours, the peers of Python that are installed, those of Node, the ceilings."""
    return (OURS, *peers(), *NODE_QUEUES, *CEILINGS)
