"""Faults by rule: which calls go wrong, how, and how often.

A rule names operations and one effect. Rules are asked in their order at every call: delays add
up, and of the effects that decide the answer the first one that fires wins. The format for users
is in docs/sandbox.md.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, TypeAlias, assert_never

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from sandbox.errors import InvalidRequestError

EVERY = "*"


class Operation(StrEnum):
    """The 17 operations of the API, named as in its reference."""

    CREATE_MODEL = "create_model"
    LIST_MODELS = "list_models"
    GET_MODEL = "get_model"
    UPDATE_MODEL = "update_model"
    DELETE_MODEL = "delete_model"
    CREATE_TRAINING_JOB = "create_training_job"
    GET_TRAINING_STATUS = "get_training_status"
    GET_TRAINING_DATA = "get_training_data"
    GET_WEIGHTS_DOWNLOAD_LINK = "get_weights_download_link"
    DELETE_TRAINING_ITERATION = "delete_training_iteration"
    CREATE_MODEL_ATTACHMENT = "create_model_attachment"
    LIST_MODEL_ATTACHMENTS = "list_model_attachments"
    UPDATE_MODEL_ATTACHMENT = "update_model_attachment"
    DELETE_MODEL_ATTACHMENT = "delete_model_attachment"
    PREDICT_CLASSIFICATION = "predict_classification"
    PREDICT_OBJECT_DETECTION = "predict_object_detection"
    PREDICT_INSTANCE_SEGMENTATION = "predict_instance_segmentation"


HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
HeaderText = Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")]


class _Rule(BaseModel):
    """When an effect happens: at which operations, after how many calls, how often."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: list[str]
    after: int = Field(default=0, ge=0)
    count: int | None = Field(default=None, ge=0)
    probability: float = Field(default=1, ge=0, le=1)
    seed: int = 0

    @field_validator("operation", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @field_validator("operation")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name != EVERY:
                Operation(name)
        return names


class Latency(_Rule):
    """The answer comes later; the call is carried out before or after the wait."""

    effect: Literal["latency"]
    seconds: float = Field(ge=0, le=3600)
    carried_out: Literal["before", "after"] = "after"


class Status(_Rule):
    """This answer is given and nothing is carried out."""

    effect: Literal["status"]
    status: int = Field(ge=200, le=599)
    headers: dict[HeaderName, HeaderText] = {}
    body: JsonValue = None


class CommitThenFail(_Rule):
    """The call is carried out, then answered by a status, or by a reset if none is given."""

    effect: Literal["commit_then_fail"]
    status: int | None = Field(default=None, ge=300, le=999)
    headers: dict[HeaderName, HeaderText] = {}
    body: JsonValue = None


class Reset(_Rule):
    """The connection is reset, before or after the call is carried out."""

    effect: Literal["reset"]
    carried_out: bool = False


class Truncated(_Rule):
    """The call is carried out; half of the answer's body is sent, then the connection closed."""

    effect: Literal["truncated"]


class TrainingFault(_Rule):
    """The training that this call creates goes a way of its own, also after a restart."""

    effect: Literal["training"]
    training: Literal["stalled", "failing", "slow", "simulated"]
    seconds: float = Field(default=0, ge=0, le=1e9)


class RunningTrainings(_Rule):
    """Whether trainings that are not done stand in a model's iterations."""

    effect: Literal["running_trainings"]
    shown: Literal["listed", "hidden"]


Rule = Annotated[
    Latency | Status | CommitThenFail | Reset | Truncated | TrainingFault | RunningTrainings,
    Field(discriminator="effect"),
]
Failure: TypeAlias = Status | CommitThenFail | Reset | Truncated
_RULES: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])


@dataclass(slots=True)
class Verdict:
    """What the rules say about one call."""

    wait_before_seconds: float = 0
    wait_after_seconds: float = 0
    failure: Failure | None = None
    training: TrainingFault | None = None
    running_listed: bool = False

    @property
    def carried_out(self) -> bool:
        """Whether the call does what it says."""
        match self.failure:
            case Status():
                return False
            case Reset(carried_out=carried_out):
                return carried_out
            case _:
                return True


class _Armed:
    """A rule at work: it counts and throws its own dice."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.matched = 0
        self.fired = 0
        self._operations = frozenset(rule.operation)
        self._dice = random.Random(rule.seed)

    def fires(self, operation: Operation) -> bool:
        if EVERY not in self._operations and operation not in self._operations:
            return False
        self.matched += 1
        if self.matched <= self.rule.after:
            return False
        if self.rule.count is not None and self.fired >= self.rule.count:
            return False
        if self.rule.probability < 1 and self._dice.random() >= self.rule.probability:
            return False
        self.fired += 1
        return True


class Faults:
    """The rules of the moment; they are not kept over a restart."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def replace(self, text: bytes) -> None:
        """Puts new rules in place of all others: a list, or `{"rules": […]}`.

        Raises:
            InvalidRequestError: tells each thing that is wrong.
        """
        try:
            given = orjson.loads(text or b"[]")
            rules = given.get("rules", []) if isinstance(given, dict) else given
            parsed = _RULES.validate_python(rules)
        except orjson.JSONDecodeError as exc:
            raise InvalidRequestError.of("body", "rules", str(exc), "json_invalid") from exc
        except ValidationError as exc:
            raise InvalidRequestError.from_validation("body", exc) from exc
        self._armed = [_Armed(rule) for rule in parsed]

    def clear(self) -> None:
        """Forgets all rules."""
        self._armed = []

    def described(self) -> list[dict[str, object]]:
        """Returns the rules, each with how often it `matched` and `fired`."""
        return [
            {
                **armed.rule.model_dump(mode="json", exclude_defaults=True),
                "matched": armed.matched,
                "fired": armed.fired,
            }
            for armed in self._armed
        ]

    def judge(self, operation: Operation) -> Verdict:
        """Returns what is to happen to a call; each rule counts it once."""
        verdict = Verdict()
        for armed in self._armed:
            if armed.fires(operation):
                _apply(armed.rule, verdict)
        return verdict


def _apply(rule: Rule, verdict: Verdict) -> None:
    match rule:
        case Latency(carried_out="before"):
            verdict.wait_after_seconds += rule.seconds
        case Latency():
            verdict.wait_before_seconds += rule.seconds
        case Status() | CommitThenFail() | Reset() | Truncated():
            verdict.failure = verdict.failure or rule
        case TrainingFault():
            verdict.training = verdict.training or rule
        case RunningTrainings():
            verdict.running_listed = rule.shown == "listed"
        case _:
            assert_never(rule)
