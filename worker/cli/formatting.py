"""What people read: events, errors, durations and times, each in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rich.text import Text

from schemas.commands import COMMAND_CLASSES
from schemas.wording import counted
from worker.cli.output import safe_text, state_style

_SHOWN_PROBLEMS: Final = 5

UNREAD_LIST_ADVICE: Final = (
    "a Celery app has priority_steps or sep of its own: take them out of its "
    "broker_transport_options, and move the messages to the list celery (LMOVE)"
)

Event = Mapping[str, Any]


def narrate(event: Event, *, with_subject: bool = True) -> Text:
    """Returns an event as a line: its time, type, subject and what matters of its data."""
    event_type = safe_text(event["type"])
    line = Text(f"{safe_text(event['time'])[:19]}Z  ", overflow="fold")
    line.append(event_type, style=state_style(event_type.rpartition(".")[2]))
    if with_subject:
        line.append(f"  {safe_text(event['subject'])}", style="dim")
    if said := summarise(event):
        line.append(f"  {safe_text(said)}")
    return line


def summarise(event: Event) -> str:
    """Returns what matters of an event's data, empty where its type says it all."""
    try:
        return _summary(event)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        # Of another version, or somebody else's: whatever else is known is told all the same.
        return ""


def _summary(event: Event) -> str:
    command_type, _, state = event["type"].rpartition(".")
    data = event["data"]
    said = ""
    match state:
        case "started":
            said = f"training {data['training_uuid']}"
        case "progressed":
            said = (
                f"{counted(data['read'], 'item')} read, {data['succeeded']} succeeded, "
                f"{data['failed']} failed, {data['open']} in flight"
            )
            if data.get("reason"):
                said += f"; {data['state']}: {data['reason']}"
        case "retrying":
            said = (
                f"attempt {data['attempt']} failed, next at {data['retry_at'][11:19]}Z: "
                f"{describe_error(data['error'])}"
            )
        case "in_doubt":
            said = f"{describe_error(data['error'])}; {data['check']}"
        case "resolved":
            said = f"{' '.join(data['by'].split())}: {describe_creation(data['created'])}"
        case "succeeded":
            tries = "" if data["attempts"] == 1 else f", {counted(data['attempts'], 'attempt')}"
            result = event.get("dataref") or summarise_result(command_type, data["result"])
            said = f"{result} ({show_duration(data['duration_seconds'])}{tries})".strip()
        case "failed" | "rejected":
            said = describe_error(data["error"])
        case "cancelled":
            known = [data.get("training_uuid"), data.get("note")]
            said = ": ".join(part for part in known if part)
    return said


def describe_error(error: dict[str, Any]) -> str:
    """Returns an error's code, message and problems in one line."""
    status = f" (HTTP {error['status']})" if error.get("status") else ""
    said = f"{error['code']}{status}: {error['message']}"
    problems = error.get("problems") or []
    if len(problems) > 1:
        shown = [f"{each['path']} {each['message']}" for each in problems[:_SHOWN_PROBLEMS]]
        more = len(problems) - len(shown)
        told = "; ".join(shown) + (f"; and {more} more" if more else "")
        # A message of ours begins with the first of them, and counts the others.
        before, found, _ = said.partition(f"{shown[0]} (and ")
        said = f"{before}{told}" if found else f"{said}: {told}"
    return said


def describe_creation(created: str | None) -> str:
    """Returns what became of a call in doubt, as the person knew who resolved it."""
    return "nothing was created" if created is None else f"{created} was created"


def summarise_result(command_type: str, result: Any) -> str:
    """Returns a command's result in a few words; a shape that is not known gives none."""
    command_class = COMMAND_CLASSES.get(command_type)
    if command_class is None or not isinstance(result, dict):
        return ""
    try:
        return command_class.summary(result)
    except (KeyError, TypeError, AttributeError):
        return ""


def describe_unread_list(name: str, messages: int) -> str:
    """Returns what a list is that no worker reads."""
    return f"{safe_text(repr(name))} holds {counted(messages, 'message')}, and no worker reads it"


def show_duration(seconds: float) -> str:
    """Returns a duration to about two digits: `0.4s`, `12s`, `3m05s`, `2h10m`, `6d4h`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600}h"


def show_timestamp(at_ms: int) -> str:
    """Returns milliseconds since 1970 as a time in UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
