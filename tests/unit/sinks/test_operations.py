"""How a sink is named for people: where its events go, and no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.sinks.endpoints import sink_config
from worker.sinks.operations import describe

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = [{"env": "SECRET"}]


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (
            {"webhook": {"url": "https://example.com:8443/T0/hidden?key=hidden"}},
            "https://example.com:8443",
        ),
        ({"redis": {"stream": "copied"}}, "redis stream copied"),
        ({"redis": {"list": "copied", "url": "redis://:hidden@other/0"}}, "redis list copied"),
        ({"broker": {"url": "amqp://me:hidden@host/v"}}, "broker exchange trainmaster"),
        ({"broker": {"url": "amqp://host", "exchange": "events"}}, "broker exchange events"),
    ],
)
def test_a_destination_is_named_without_what_may_be_a_secret(
    tmp_path: Path, told: dict[str, Any], shown: str
) -> None:
    if "webhook" in told:
        told["webhook"]["secrets"] = SECRETS
    assert describe(sink_config("ops", tmp_path, **told)) == shown
