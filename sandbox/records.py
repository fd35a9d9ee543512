"""What the sandbox keeps: models, trainings and attachments as plain frozen values."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

LossLog: TypeAlias = "Mapping[str, float]"
"""Loss by epoch, which counts from "1"."""


class TrainingState(StrEnum):
    """Where a training stands; the API tells the first two as `pending`."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    ERROR = "error"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the training."""
        return self in (TrainingState.DONE, TrainingState.ERROR)


class TrainingEffect(StrEnum):
    """How a training goes; all but `normal` come from a fault rule."""

    NORMAL = "normal"
    SLOW = "slow"
    STALLED = "stalled"
    FAILING = "failing"
    SIMULATED = "simulated"

    @property
    def trains(self) -> bool:
        """Whether a net is really trained."""
        return self in (TrainingEffect.NORMAL, TrainingEffect.SLOW)


@dataclass(frozen=True, slots=True)
class Model:
    """A model: what it can tell apart and its architecture."""

    uuid: str
    created_at_us: int
    title: str
    description: str
    architecture: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a model; `effect_seconds` is the effect's length, if it has one."""

    uuid: str
    model_uuid: str
    created_at_us: int
    batch_size: int
    epochs: int
    features_mapping: Mapping[str, Mapping[str, list[str]]]
    label_uuids: tuple[str, ...]
    pretrained_training_uuid: str | None
    pretrained_weights_type: str | None
    effect: TrainingEffect
    effect_seconds: float
    state: TrainingState
    duration_seconds: int
    loss_log: LossLog

    def iteration(self) -> Iteration:
        """Returns what the API tells of it."""
        return Iteration(
            uuid=self.uuid,
            created_at_us=self.created_at_us,
            batch_size=self.batch_size,
            epochs=self.epochs,
            state=self.state,
            duration_seconds=self.duration_seconds,
            loss_log=self.loss_log,
        )


@dataclass(frozen=True, slots=True)
class Iteration:
    """What the API tells of a training."""

    uuid: str
    created_at_us: int
    batch_size: int
    epochs: int
    state: TrainingState
    duration_seconds: int
    loss_log: LossLog


@dataclass(frozen=True, slots=True)
class Attachment:
    """A model attached to a project: model feature -> feature hash of the ontology."""

    uuid: str
    project_uuid: str
    model_uuid: str
    created_at_us: int
    iteration_policy: str
    features_mapping: Mapping[str, str]
    training_uuids: tuple[str, ...] | None


def now_us() -> int:
    """Returns the time in microseconds since 1970."""
    return time.time_ns() // 1000


def iso(time_us: int) -> str:
    """Returns a time as ISO 8601 with microseconds, in UTC."""
    moment = datetime.fromtimestamp(time_us / 1_000_000, tz=UTC)
    return moment.isoformat(timespec="microseconds")
