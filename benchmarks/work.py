"""The work that every contender does: the same command, the same request, the same event.

A command is one prediction on an image in base64; its first characters are the command's id, by
which the stub counts calls. The request is signed and sent by `worker.encord.api.transport` where a
contender is asynchronous, so that only the queue differs.
"""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import redis.asyncio

from benchmarks.stub import ID_BYTES, ID_CHARACTERS
from schemas.enums import EventState
from schemas.events import event_json
from worker.encord.api.signing import RequestSigner
from worker.encord.api.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EVENTS: Final = "bench:events"
REDIS_URL: Final = "BENCH_REDIS_URL"
CONCURRENCY: Final = "BENCH_CONCURRENCY"
KEY_PEM_FILE: Final = "BENCH_KEY_PEM_FILE"

PROJECT_UUID: Final = "6f1c1f3e-0d3b-4c53-9a3e-0a2b1f0e7c11"
ATTACHMENT_UUID: Final = "0c0ab0a5-3c58-4b0c-8d5a-7f1f7a2c9e22"
TRAINING_UUID: Final = "b7f4e9d2-5a61-4f7e-8c43-2d9a6b1e4f33"
PATH: Final = (
    f"/projects/{PROJECT_UUID}/models-attachments/{ATTACHMENT_UUID}"
    f"/iterations/{TRAINING_UUID}/object-detection/predict"
)

# With it the body of a request is 999 bytes.
IMAGE_CHARACTERS: Final = 916

Message = dict[str, Any]
"""What a queue carries: `id`, and `data` as in a command of the contract."""


def messages(run: str, first: int, count: int, *, size: int = IMAGE_CHARACTERS) -> list[Message]:
    """Returns `count` messages.

    Args:
        run: makes their ids unlike those of other runs, 20 characters at most.
        first: number of the first.
        count: how many.
        size: characters of the image in base64, a multiple of 4 from 48.
    """
    filling = "A" * (size - ID_CHARACTERS)
    return [_message(f"{run}-{number}", filling) for number in range(first, first + count)]


def _message(command_id: str, filling: str) -> Message:
    return {
        "id": command_id,
        "data": {
            "task": "object_detection",
            "project_uuid": PROJECT_UUID,
            "project_model_uuid": ATTACHMENT_UUID,
            "training_uuid": TRAINING_UUID,
            "data_base64": image_begin(command_id) + filling,
        },
    }


def image_begin(command_id: str) -> str:
    """Returns the first characters of an image that is about a command."""
    return base64.b64encode(command_id.ljust(ID_BYTES).encode()).decode()


def request_body(message: Message) -> bytes:
    """Returns the body of a message's request, byte for byte as the SDK would send it."""
    return json.dumps({
        "allocationEnabled": False,
        "confThresh": 0.6,
        "dataBase64": message["data"]["data_base64"],
        "iouThresh": 0.3,
    }).encode()


def result_event(message: Message, frames: Any) -> bytes:
    """Returns the event that tells a message's result, about 1.9 kB."""
    return event_json(
        event_id=f"{message['id']}/succeeded",
        command_type="predict",
        state=EventState.SUCCEEDED,
        subject=message["id"],
        time_ms=int(time.time() * 1000),
        data={"result": {"frames": frames}, "attempts": 1},
        context={},
    )


def concurrency() -> int:
    """Returns how many messages a worker may have under way, as its starter says."""
    return int(os.environ[CONCURRENCY])


def domain() -> str:
    """Returns where the stub is."""
    return os.environ["ENCORD_DOMAIN"]


def signer() -> RequestSigner:
    """Returns what signs requests."""
    return RequestSigner.from_openssh(Path(os.environ["ENCORD_SSH_KEY_FILE"]).read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Predictor:
    """What an asynchronous contender does with a message."""

    transport: Transport
    redis: redis.asyncio.Redis

    @classmethod
    def open(cls) -> Predictor:
        """Returns a predictor as the environment of the process says; on the loop that uses it."""
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            os.environ[REDIS_URL], max_connections=64, timeout=60
        )
        transport = Transport(domain(), signer(), connections=concurrency())
        return cls(transport, redis.asyncio.Redis(connection_pool=pool))

    async def aclose(self) -> None:
        """Closes all connections."""
        await self.transport.aclose()
        await self.redis.aclose()

    async def predict(self, message: Message) -> bytes:
        """Returns the event of a message after asking the API."""
        reply = await self.transport.send("POST", PATH, body=request_body(message))
        frames = orjson.loads(reply.body)["result"]
        # Its connection takes the next request.
        reply.accept()
        return result_event(message, frames)

    async def carry_out(self, message: Message) -> None:
        """Asks the API and publishes the result."""
        await self.redis.xadd(EVENTS, {"event": await self.predict(message)})


def batches(messages: Sequence[Message], size: int) -> Iterator[Sequence[Message]]:
    """Yields messages in lists of `size` at most."""
    for start in range(0, len(messages), size):
        yield messages[start : start + size]
