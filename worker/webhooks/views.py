"""Deliveries, and what rules make of them, as JSON values: on the command line and over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.json_text import RawJson
from worker.webhooks.effects import rfc_3339
from worker.webhooks.records import summary

if TYPE_CHECKING:
    from worker.webhooks.records import Effects, RecordedDelivery


def delivery_json(found: RecordedDelivery) -> dict[str, Any]:
    """Returns a delivery and what became of it, without its headers and its body."""
    delivery = found.delivery
    return {
        "source": delivery.source,
        "id": delivery.id,
        "type": delivery.type or None,
        "received_at": rfc_3339(delivery.received_at_ms),
        "outcome": summary(found.outcomes),
        "rules": [each.as_json() for each in found.outcomes],
        "windows": [
            {
                "id": window_id,
                **(end.as_json() if (end := found.window_ends.get(window_id)) else {}),
            }
            for window_id in found.window_ids
        ],
        "command_ids": found.command_ids,
    }


def effects_json(name: str, effects: Effects, *, sent: bool) -> dict[str, Any]:
    """Returns what rules make of a delivery; its commands whole."""
    return {
        "delivery": name,
        "outcome": summary(effects.outcomes),
        "rules": [each.as_json() for each in effects.outcomes],
        "commands": [RawJson(each.text) for each in effects.commands],
        "sent": sent,
    }
