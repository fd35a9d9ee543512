"""The AsyncAPI 3.1 document: which message goes where on Redis.

AsyncAPI reads its schemas by draft 07 of JSON Schema, so ours must mean the same there.
"""

from __future__ import annotations

import re
from typing import Any

Schema = dict[str, Any]

_NAMESPACE: Schema = {
    "description": "The namespace in braces, so that all its keys lie in one slot of a cluster.",
    "default": "{trainmaster}",
}

_DESCRIPTION = """\
Producers put JSON commands onto Redis; workers execute them against the ML-models API and publish
events. For every accepted id exactly one of succeeded, failed and cancelled appears. An event is
a CloudEvent 1.0, and a CloudEvent is a valid command."""


def asyncapi_document(commands: Schema, events: Schema) -> Schema:
    """Returns the document, complete in itself.

    Args:
        commands: The JSON Schema of commands.
        events: The JSON Schema of events.
    """
    command_names, event_names = _names(commands), _names(events)
    schemas: Schema = {**commands["$defs"], **events["$defs"]}
    return {
        "asyncapi": "3.1.0",
        "id": "urn:trainmaster",
        "info": {
            "title": "trainmaster",
            "version": "1.0.0",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {
                "host": "localhost:6379",
                "protocol": "redis",
                "description": "Redis or Valkey 7.0 or newer, with persistence and noeviction.",
            }
        },
        "channels": _channels(command_names, event_names),
        "operations": _operations(command_names, event_names),
        "components": {
            "messages": {
                _message_key(name): _message(name, schemas[name])
                for name in (*command_names, *event_names)
            },
            "schemas": _localized(schemas),
        },
    }


def _names(document: Schema) -> list[str]:
    return [each["$ref"].rpartition("/")[2] for each in document["oneOf"]]


def _channels(commands: list[str], events: list[str]) -> Schema:
    replyto = {"description": "What the command named as its `replyto`: `[a-z0-9._-]{1,64}`."}
    return {
        "commands": _channel(
            "{namespace}:commands",
            "A stream. Each entry has the command in its field `command`: "
            '`XADD {trainmaster}:commands * command \'{"type": …, "data": …}\'`.',
            commands,
        ),
        "bulkCommands": _channel(
            "{namespace}:commands:bulk",
            "A stream in the form of `commands`, for bulk commands: interactive ones never wait "
            "behind unread ones here. A command without a `priority` is a bulk one here.",
            commands,
        ),
        "inbox": _channel(
            "{namespace}:inbox",
            "A list, for systems that can only push: `RPUSH {trainmaster}:inbox '{…}'`. Its "
            "entries move to the stream of commands.",
            commands,
        ),
        "events": _channel(
            "{namespace}:events",
            "A stream of all events; each entry has the event in its field `event`.",
            events,
        ),
        "replies": _channel(
            "{namespace}:replies:{replyto}",
            "A stream of the events of those commands that asked for it, as in `events`.",
            events,
            replyto=replyto,
        ),
    }


def _channel(address: str, description: str, messages: list[str], **parameters: Schema) -> Schema:
    return {
        "address": address,
        "description": description,
        "servers": [{"$ref": "#/servers/redis"}],
        "parameters": {"namespace": _NAMESPACE, **parameters},
        "messages": {
            _message_key(name): {"$ref": f"#/components/messages/{_message_key(name)}"}
            for name in messages
        },
    }


def _operations(commands: list[str], events: list[str]) -> Schema:
    reply = {
        "address": {
            "description": "The stream that the command's `replyto` names.",
            "location": "$message.payload#/replyto",
        },
        "channel": {"$ref": "#/channels/replies"},
    }
    return {
        "receiveCommand": {**_operation("receive", "commands", commands), "reply": reply},
        "receiveBulkCommand": {**_operation("receive", "bulkCommands", commands), "reply": reply},
        "receiveFromInbox": {**_operation("receive", "inbox", commands), "reply": reply},
        "sendEvent": _operation("send", "events", events),
        "sendReply": _operation("send", "replies", events),
    }


def _operation(action: str, channel: str, messages: list[str]) -> Schema:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [
            {"$ref": f"#/channels/{channel}/messages/{_message_key(name)}"} for name in messages
        ],
    }


def _message(name: str, schema: Schema) -> Schema:
    message: Schema = {
        "name": name,
        "title": re.sub(r"(?<!^)([A-Z])", r" \1", name).capitalize(),
        "summary": schema["description"],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name}"},
    }
    if "examples" in schema:
        message["examples"] = [{"payload": example} for example in schema["examples"]]
    return message


def _message_key(name: str) -> str:
    return name[0].lower() + name[1:]


def _localized(node: Any) -> Any:
    """Points references into this document."""
    if isinstance(node, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/")
            if key == "$ref" and isinstance(value, str)
            else _localized(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_localized(value) for value in node]
    return node
