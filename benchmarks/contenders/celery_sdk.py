"""Celery as one would first use it: a task for each command, and the SDK in the task.

Eight processes, each with one task at a time; the SDK opens a new session of requests for every
call. Its own client class is used, so it signs, sends, validates and retries as it does anywhere.

Run as `python -m benchmarks.contenders.celery_sdk`.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from encord.configs import SshConfig
from encord.http.v2.api_client import ApiClient
from encord.objects.ml_models import (
    PredictionObjectDetectionRequest,
    PredictionObjectDetectionResponse,
)
from redis import Redis

from benchmarks.contenders.celery_queue import CeleryContender, celery_app, run_worker
from benchmarks.work import EVENTS, PATH, REDIS_URL, Message, concurrency, domain, result_event

TASK = "bench.predict_with_sdk"


class CelerySdk(CeleryContender):
    """Celery's default pool with the SDK."""

    name = "celery-sdk"
    title = "Celery, SDK pattern"
    settings = "prefork, 8 processes, a session of requests per call; acks_late, prefetch 1"
    concurrency = 8
    slow_concurrency = 8
    per_second = 120
    task = TASK
    validates = "the reply"

    def command(self, concurrency: int) -> list[str]:  # noqa: ARG002 - they are in the environment
        """Returns the worker's command line."""
        return [sys.executable, "-m", "benchmarks.contenders.celery_sdk"]


@cache
def _client() -> ApiClient:
    key = load_ssh_private_key(Path(os.environ["ENCORD_SSH_KEY_FILE"]).read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(type(key).__name__)
    return ApiClient(SshConfig(key, domain=domain()))


@cache
def _redis() -> Redis:
    return Redis.from_url(os.environ[REDIS_URL])


def predict(message: Message) -> None:
    """Asks the API as the SDK does and publishes the result."""
    reply = _client().post(
        PATH,
        params=None,
        payload=PredictionObjectDetectionRequest(
            allocation_enabled=False,
            conf_thresh=0.6,
            data_uuid=None,
            data_base64=message["data"]["data_base64"],
            frame_range_from=None,
            frame_range_to=None,
            iou_thresh=0.3,
        ),
        result_type=PredictionObjectDetectionResponse,
    )
    frames = reply.to_dict()["result"]
    _redis().xadd(EVENTS, {"event": result_event(message, frames)})


def main() -> None:
    """Runs the worker."""
    app = celery_app(os.environ[REDIS_URL])
    app.task(name=TASK)(predict)
    run_worker(app, pool="prefork", concurrency=concurrency())


if __name__ == "__main__":
    main()
