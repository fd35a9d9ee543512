"""The real SDK as a judge: its client for any domain, and a clock that stands still."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from encord.configs import SshConfig
from encord.http.constants import RequestsSettings
from encord.http.v2 import request_signer
from encord.http.v2.api_client import ApiClient
from encord.ml_models_client import MlModelsClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
CREATED = 1_790_000_000

# The SDK would send a POST up to four times; here one request is one request.
_SETTINGS = RequestsSettings(
    max_retries=0, connection_retries=0, connect_timeout=30, read_timeout=30
)


def sdk_client(domain: str, key: Ed25519PrivateKey = KEY) -> MlModelsClient:
    """Returns the SDK's client."""
    return MlModelsClient(ApiClient(SshConfig(key, domain=domain, requests_settings=_SETTINGS)))


@contextmanager
def frozen_sdk_clock(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stops the clock that the SDK signs with at `CREATED`."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Frozen:
            return cls.fromtimestamp(CREATED, tz)

    with patch.context() as stopped:
        stopped.setattr(request_signer, "datetime", Frozen)
        yield
