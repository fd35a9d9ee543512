"""The settings of a worker that asks the stub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.signatures import openssh
from worker.settings import environment_names

if TYPE_CHECKING:
    from tests.stub_api import StubApi


@pytest.fixture(autouse=True)
def _settings(
    monkeypatch: pytest.MonkeyPatch, stub: StubApi, redis_url: str, namespace: str
) -> None:
    """A worker of this test's namespace that asks the stub, by a key that nobody knows."""
    for name in environment_names().values():
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "TRAINMASTER_REDIS_URL": redis_url,
        "TRAINMASTER_NAMESPACE": namespace,
        "ENCORD_DOMAIN": stub.url,
        "ENCORD_SSH_KEY": openssh(Ed25519PrivateKey.generate()).decode(),
    }.items():
        monkeypatch.setenv(name, value)
