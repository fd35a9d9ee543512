"""The document, as far as it is not FastAPI's own."""

from __future__ import annotations

from worker.gateway.app import create_app
from worker.gateway_settings import GatewaySettings


def test_an_idempotency_key_is_told_where_one_is_taken_and_nowhere_else() -> None:
    app = create_app(GatewaySettings(redis_url="redis://127.0.0.1:1", namespace="document"))
    takers = {
        operation["operationId"]
        for methods in app.openapi()["paths"].values()
        for operation in methods.values()
        if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))
    }
    acts = {
        operation["operationId"]
        for methods in app.openapi()["paths"].values()
        for operation in methods.values()
        if {"HTTPBearer": ["operate"]} in operation.get("security", ())
    }
    # Its id is that of the backfill whose failed items it runs.
    acts.remove("retry_failed_items")
    assert takers == {"submit_commands", "start_backfill"} | acts
