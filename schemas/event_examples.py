"""A made-up event of each type, valid by the JSON Schema of events: for trying a consumer out."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from schemas import examples
from schemas.commands import COMMAND_CLASSES
from schemas.documents import events_schema
from schemas.enums import EventState
from schemas.events import EVENT_SOURCE, ErrorCode
from schemas.portable import Schema

# What is called so says the same thing wherever it stands.
_TEXTS: Final = {
    **{name.lower(): value for name, value in vars(examples).items() if name.endswith("_UUID")},
    "title": "Street scenes",
    "description": "Cars and people by day",
    "name": "car",
    "value": "car",
    "color": "#d33115",
    "created_by": "model",
    "created": examples.TRAINING_UUID,
    "by": "ada",
    "state": "cancelled",
    "check": "look for the training in the model's list of iterations",
    "url": "https://example.com/weights.pt",
    "output": "/var/lib/trainmaster/results/night",
    "raw": '{"type": "train"}',
    "path": "data.batch_size",
    "features": "car",
    "file_title": "street-0001.jpg",
}
_NUMBERS: Final = {
    "confidence": 0.93,
    "duration": 5400,
    "duration_seconds": 5412.7,
    "seconds": 812.4,
    "items": 1000,
    "read": 1000,
    "succeeded": 998,
    "failed": 2,
    "failures": 2,
    "open": 0,
    "x": 0.25,
    "y": 0.5,
    "w": 0.125,
    "h": 0.25,
}
# Of objects whose keys are anything: one of each.
_KEYS: Final = {"frames": "0", "loss_log": "19", "failures": ErrorCode.NOT_FOUND}
_LOSS: Final = 0.0421
_ERRORS: Final = {
    EventState.RETRYING: (ErrorCode.SERVER_ERROR, "the API failed (503)"),
    EventState.IN_DOUBT: (ErrorCode.CONNECTION_LOST, "the answer of the API was lost"),
    EventState.FAILED: (ErrorCode.NOT_FOUND, "the API does not know this model (404)"),
    EventState.REJECTED: (ErrorCode.INVALID_COMMAND, "batch_size is missing"),
}


def event_types() -> list[str]:
    """Returns every type that an event can have."""
    return list(_definitions())


def example_event(event_type: str, now: datetime | None = None) -> dict[str, Any]:
    """Returns an event of a type as a worker would tell it; its id is used once.

    The extension `example` marks it: it tells of nothing that has happened.

    Raises:
        KeyError: there is no such type.
    """
    schema = events_schema()
    definition: Schema = schema["$defs"][_definitions()[event_type]]
    command_type, _, state = event_type.rpartition(".")
    command_class = COMMAND_CLASSES.get(command_type)
    command: dict[str, Any] = {} if command_class is None else dict(command_class.example)
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    time = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    sampler = _Sampler(schema["$defs"], EventState(state), time, command.get("data", {}))
    event = {
        "specversion": "1.0",
        "id": f"example-{int(moment.timestamp() * 1_000_000)}/{state}",
        "source": EVENT_SOURCE,
        "type": event_type,
        "subject": str(command.get("id") or f"example-{command_type}"),
        "time": time,
        "datacontenttype": "application/json",
        "example": True,
    }
    if "correlationid" in command:
        event["correlationid"] = command["correlationid"]
    return {**event, "data": sampler.sample(definition["properties"]["data"], "data")}


@lru_cache(maxsize=1)
def _definitions() -> dict[str, str]:
    """Returns the name of each type's definition."""
    schema = events_schema()
    found: dict[str, str] = {}
    for reference in schema["oneOf"]:
        name = _name_of(reference)
        named: Schema = schema["$defs"][name]["properties"]["type"]
        if "$ref" in named:
            named = schema["$defs"][_name_of(named)]
        found |= dict.fromkeys(named.get("enum") or [named["const"]], name)
    return found


def _name_of(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


class _Sampler:
    """Makes values that fit a schema; what the example of the command names is taken from there."""

    def __init__(
        self, definitions: dict[str, Schema], state: EventState, time: str, known: dict[str, Any]
    ) -> None:
        self._definitions = definitions
        self._state = state
        self._time = time
        self._known = known

    def sample(self, schema: Schema, name: str) -> Any:
        """Returns a value of what is called `name`."""
        if "$ref" in schema:
            return self.sample(self._definitions[_name_of(schema)], name)
        if "anyOf" in schema:
            return self.sample(schema["anyOf"][0], name)
        kinds = schema.get("type", "null")
        kind = kinds if isinstance(kinds, str) else next(each for each in kinds if each != "null")
        makers = {
            "object": self._object,
            "array": self._array,
            "string": self._text,
            "integer": self._number,
            "number": self._number,
        }
        if kind in makers:
            return makers[kind](schema, name)
        return True if kind == "boolean" else None

    def _array(self, schema: Schema, name: str) -> list[Any]:
        return [self.sample(schema["items"], name)]

    def _object(self, schema: Schema, name: str) -> dict[str, Any]:
        more = schema.get("additionalProperties")
        if more is True:
            return {_KEYS.get(name, name): _LOSS}
        if isinstance(more, dict):
            return {_KEYS.get(name, "aBcD1234"): self.sample(more, name)}
        properties: Schema = schema.get("properties", {})
        return {each: self.sample(properties[each], each) for each in schema.get("required", ())}

    def _text(self, schema: Schema, name: str) -> Any:
        code, message = _ERRORS.get(self._state, _ERRORS[EventState.FAILED])
        if schema.get("format") == "date-time":
            return self._time
        known = self._known.get(name)
        choices = schema.get("enum")
        if isinstance(known, str) and (choices is None or known in choices):
            return known
        if name == "code":
            return code
        if choices:
            return str(choices[0])
        if schema.get("format") == "uuid":
            return _TEXTS.get(name, examples.DATA_UUID)
        return message if name == "message" else _TEXTS.get(name, "example")

    def _number(self, schema: Schema, name: str) -> Any:
        known = self._known.get(name)
        if isinstance(known, int) and not isinstance(known, bool):
            return known
        return _NUMBERS.get(name, schema.get("minimum", 0) or 1)
